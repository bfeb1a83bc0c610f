"""Digests of files and their multihash spelling (STAC file extension, `file:checksum`).

SHA-256 is what the ecosystem reads; BLAKE3 comes from the same pass, for bulk re-scans and for the
Copernicus traces. A real catalogue carries MD5 codes before 32-byte digests: `parse_multihash` names that.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from .errors import Malformed

BLOCK_BYTES = 1 << 20

_MULTIHASHES = {  # github.com/multiformats/multicodec: prefix (code and length as varints) → name, bytes
    "1220": ("sha2-256", 32),
    "1620": ("sha3-256", 32),
    "1e20": ("blake3", 32),
    "d50110": ("md5", 16),
}
_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Digests:
    """What identifies a file: lower-case hex of SHA-256 and BLAKE3, and the size in bytes."""

    sha256: str
    blake3: str
    size: int


def digest_stream(stream: BinaryIO) -> Digests:
    """Digests of all that `stream` still holds, read once in blocks of 1 MiB."""
    sha, blake, size = hashlib.sha256(), blake3(), 0
    while block := stream.read(BLOCK_BYTES):
        sha.update(block)
        blake.update(block)
        size += len(block)
    return Digests(sha.hexdigest(), blake.hexdigest(), size)


def digest_file(path: Path) -> Digests:
    """Digests of the file's bytes; OSError where it cannot be read."""
    with path.open("rb") as stream:
        return digest_stream(stream)


def digest_bytes(data: bytes) -> Digests:
    return Digests(hashlib.sha256(data).hexdigest(), blake3(data).hexdigest(), len(data))


def format_multihash(name: str, digest_hex: str) -> str:
    """`1220…` for ("sha2-256", hex); KeyError for a hash that eocat does not write."""
    prefix = {known: prefix for prefix, (known, _) in _MULTIHASHES.items()}[name]
    return prefix + digest_hex


def parse_multihash(text: str) -> tuple[str, str]:
    """(hash name, digest hex) of a multihash in lower-case hex; Malformed says which part is wrong."""
    if not _HEX.fullmatch(text):
        raise Malformed(f"multihash {text[:80]!r} is not lower-case hex")
    for prefix, (name, size) in _MULTIHASHES.items():
        if text.startswith(prefix):
            digest = text[len(prefix) :]
            if len(digest) != 2 * size:
                raise Malformed(
                    f"multihash {text[:80]} says {name} of {size} bytes and holds {len(digest) / 2:g}"
                )
            return name, digest
    if text.startswith("d50120"):
        raise Malformed(f"multihash {text[:80]} has the code of MD5 before 32 bytes, MD5 has 16")
    raise Malformed(f"multihash {text[:80]} has an unknown code, expected one of {', '.join(_MULTIHASHES)}")
