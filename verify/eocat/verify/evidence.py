"""What a verification looks at: an Item, its envelopes and its files, as bytes and paths, none of it trusted.

Gathering stands apart from checking: here from local files, in fetch.py from a URL, in bundle.py from a
bundle.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from . import canonical
from .dsse import MAX_ENVELOPE_BYTES
from .errors import Malformed, Unavailable
from .projection import ATTESTATION

ITEM_FILE = "item.json"
LOG_PROOF_FILE = "log-proof.json"
MAX_LOG_PROOF_BYTES = 4 << 20  # 1024 events of 40 hashes each
MAX_EVENTS = 1024
MAX_ATTESTATION_BYTES = 4 * MAX_ENVELOPE_BYTES
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


@dataclass(frozen=True, slots=True)
class Evidence:
    """target: what the user named. envelopes: None where there is no attestation at all.

    files: asset key → local path, of those that could be had; missing: asset key → why it could not.
    no_data: why the files were not looked for at all, where they were not; then only the rest is judged.
    log_proof: the document of docs/format.md, section 10, None where there is none. traces: name of a source
    → the traces that came with it. notice: what else came with it, and is not trusted or was not read.
    """

    target: str
    item: bytes
    envelopes: tuple[bytes, ...] | None
    files: Mapping[str, Path]
    missing: Mapping[str, str] = field(default_factory=dict)
    log_proof: bytes | None = None
    no_data: str | None = None
    traces: Mapping[str, bytes] = field(default_factory=dict)
    notice: str | None = None


def read_folder(folder: Path) -> Evidence:
    """The evidence in a shard's folder; Unavailable if it holds no finished Item."""
    if not (folder / ITEM_FILE).is_file():
        raise Unavailable(
            f"{folder} holds no {ITEM_FILE}, so it is no finished shard",
            hint="name the folder of one item, such as OUT/COLLECTION/ITEM",
        )
    return read_item_file(folder / ITEM_FILE)


def read_item_file(path: Path) -> Evidence:
    """The evidence of an Item file whose assets lie beside it, under the relative hrefs that it names."""
    item = read_limited(path, canonical.MAX_BYTES)
    files, missing = files_beside(path.parent, item)
    attestation = files.pop(ATTESTATION, None)
    envelopes = read_envelopes(attestation) if attestation else None
    beside = path.parent / LOG_PROOF_FILE
    log_proof = read_limited(beside, MAX_LOG_PROOF_BYTES) if beside.is_file() else None
    return Evidence(str(path), item, envelopes, files, missing, log_proof)


def files_beside(folder: Path, item: bytes) -> tuple[dict[str, Path], dict[str, str]]:
    """(files, missing) of an Item's assets in `folder`, under the relative hrefs that it names."""
    files, missing = {}, {}
    for key, href in asset_hrefs(item).items():
        file = _beside(folder, href)
        if file.is_file():
            files[key] = file
        else:
            missing[key] = f"no file {href}"
    return files, missing


def asset_hrefs(item: bytes) -> dict[str, str]:
    """Asset key → href of an Item's JSON; an asset without one is left out, the projection will say so."""
    value = canonical.parse(item, what="item")
    assets = value.get("assets") if isinstance(value, dict) else None
    if not isinstance(assets, dict):
        raise Malformed("item has no assets")
    return {
        key: asset["href"]
        for key, asset in assets.items()
        if isinstance(asset, dict) and isinstance(asset.get("href"), str)
    }


def _beside(folder: Path, href: str) -> Path:
    """The file that a relative href names in `folder`; Malformed for any href that could lead out of it."""
    name = href.removeprefix("./")
    if not FILE_NAME.fullmatch(name):
        raise Malformed(f"asset href {href[:80]!r} is not a file name beside the item")
    if (folder / name).is_symlink():
        raise Malformed(f"asset file {name} is a symbolic link")
    return folder / name


def read_envelopes(path: Path) -> tuple[bytes, ...]:
    """The lines of an attestation file: one envelope each, in order of seq."""
    return split_envelopes(read_limited(path, MAX_ATTESTATION_BYTES))


def split_envelopes(data: bytes) -> tuple[bytes, ...]:
    if not data.endswith(b"\n"):
        raise Malformed("attestation does not end with a newline")
    lines = tuple(data[:-1].split(b"\n"))
    if len(lines) > MAX_EVENTS:
        raise Malformed(f"attestation has {len(lines)} lines, at most {MAX_EVENTS} are read")
    return lines


def read_limited(path: Path, limit_bytes: int) -> bytes:
    """The file's bytes; Malformed if it is longer than the limit, Unavailable if it cannot be read."""
    try:
        with path.open("rb") as stream:
            data = stream.read(limit_bytes + 1)
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > limit_bytes:
        raise Malformed(f"{path} is longer than {limit_bytes} bytes")
    return data
