"""Signed notes and the keys that sign them (C2SP signed-note, version 1; verifier keys as Go's sumdb/note).

    <text, one or more lines>
    <empty line>
    — <key name> <base64 of 4 bytes key id ‖ signature>      one or more of these

A key id is a hint of 4 bytes that anyone can make collide: it selects the keys that are tried, it never
vouches for one. A note's text means nothing until `signed_by` has named a key that the caller trusts.
"""

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import Malformed
from ..keys import PublicKey, decode_base64
from .cosignature import check_cosignature

ED25519, COSIGNATURE = 0x01, 0x04  # the signature types of the specification that are read here
KEY_ID_BYTES = 4
MAX_NOTE_BYTES = 1 << 18  # room for 16 post-quantum signatures of 5 kB and more
MAX_SIGNATURES = 64
MAX_NAME_BYTES = 255
_DASH = "\u2014 "
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\ud800-\udfff]")  # and what is no UTF-8
_NAME = re.compile(r"[^\x00-\x1f\s+\ud800-\udfff]+")
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key under a name: what a note's signature line is matched to. Two lines may share a key id."""

    name: str
    kind: int  # ED25519 (logs) or COSIGNATURE (witnesses)
    public: PublicKey

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.kind not in (ED25519, COSIGNATURE):
            raise Malformed(f"key of {self.name} has type {self.kind:#04x}, expected 0x01 or 0x04 (Ed25519)")

    @property
    def key_id(self) -> bytes:
        named = self.name.encode() + b"\n" + bytes([self.kind]) + self.public.raw
        return hashlib.sha256(named).digest()[:KEY_ID_BYTES]

    def verifies(self, body: bytes, text: str) -> bool:
        """Whether `body`, a signature line's bytes after the key id, is this key's over the note's text."""
        if self.kind == COSIGNATURE:
            return check_cosignature(self.public, body, text) is not None
        return self.public.verifies(body, text.encode())


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line; nobody's until `signed_by` has said whose."""

    name: str
    key_id: bytes
    body: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.key_id) != KEY_ID_BYTES or not self.body:
            raise Malformed(f"signature line of {self.name} holds no key id with a signature after it")


@dataclass(frozen=True, slots=True)
class Note:
    text: str  # ends in a newline
    signatures: tuple[Signature, ...]

    def __post_init__(self) -> None:
        if not self.text.endswith("\n") or _CONTROL.search(self.text):
            raise Malformed("note text does not end in a newline, or holds a control character")
        if not 1 <= len(self.signatures) <= MAX_SIGNATURES:
            raise Malformed(f"note has {len(self.signatures)} signatures, expected 1 to {MAX_SIGNATURES}")


@dataclass(frozen=True, slots=True)
class Signed:
    """What the signature lines of a note are worth to one set of keys."""

    valid: tuple[tuple[VerifierKey, Signature], ...]
    forged: tuple[Signature, ...]  # under a known name and key id, and the signature of no such key


def signed_by(note: Note, keys: Iterable[VerifierKey]) -> Signed:
    """Who of `keys` signed the note. All keys that a line may be of are tried; lines of others ignored."""
    known: dict[tuple[str, bytes], list[VerifierKey]] = {}
    for key in keys:
        known.setdefault((key.name, key.key_id), []).append(key)
    valid: list[tuple[VerifierKey, Signature]] = []
    forged: list[Signature] = []
    for line in note.signatures:
        candidates = known.get((line.name, line.key_id), [])
        signers = [(key, line) for key in candidates if key.verifies(line.body, note.text)]
        valid += signers
        if candidates and not signers:
            forged.append(line)
    return Signed(tuple(valid), tuple(forged))


def parse_note(data: bytes) -> Note:
    """The note in `data`; Malformed for every spelling but the one that `format_note` writes."""
    if len(data) > MAX_NOTE_BYTES:
        raise Malformed(f"note has {len(data)} bytes, at most {MAX_NOTE_BYTES}")
    try:
        whole = data.decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"note is not UTF-8 at byte {error.start}") from None
    text, blank, lines = whole.rpartition("\n\n")
    if not blank or not lines.endswith("\n"):
        raise Malformed("note is not a text, an empty line and signature lines, each ending in a newline")
    if (count := lines.count("\n")) > MAX_SIGNATURES:
        raise Malformed(f"note has {count} signatures, at most {MAX_SIGNATURES}")
    return Note(text + "\n", tuple(_parse_line(line) for line in lines[:-1].split("\n")))


def format_note(note: Note) -> bytes:
    lines = "".join(
        f"{_DASH}{line.name} {base64.b64encode(line.key_id + line.body).decode()}\n"
        for line in note.signatures
    )
    return f"{note.text}\n{lines}".encode()


def parse_vkey(text: str) -> VerifierKey:
    """The key spelled `<name>+<key id, 8 hex digits>+<base64 of type ‖ raw key>`; the id is compared."""
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    data = decode_base64(encoded, what=f"verifier key {name[:80]!r}")
    if not data:
        raise Malformed(f"verifier key {text[:80]!r} is not <name>+<key id>+<base64>")
    key = VerifierKey(name, data[0], PublicKey(data[1:]))
    if key.key_id.hex() != key_id:
        raise Malformed(
            f"verifier key {name[:80]!r} says key id {key_id[:16]!r}, its key has {key.key_id.hex()}"
        )
    return key


def format_vkey(key: VerifierKey) -> str:
    encoded = base64.b64encode(bytes([key.kind]) + key.public.raw).decode()
    return f"{key.name}+{key.key_id.hex()}+{encoded}"


def parse_decimal(text: str, *, limit: int, what: str) -> int:
    """The number 0 to `limit` in ASCII digits, no sign, no leading zero: the tlog formats' only spelling."""
    if not _DECIMAL.fullmatch(text) or int(text) > limit:
        raise Malformed(f"{what} {text[:40]!r} is not a plain decimal from 0 to {limit}")
    return int(text)


def _parse_line(line: str) -> Signature:
    match line.removeprefix(_DASH).split(" "):
        case [name, encoded] if line.startswith(_DASH):
            data = decode_base64(encoded, what=f"signature of {name[:80]!r}")
            return Signature(name, data[:KEY_ID_BYTES], data[KEY_ID_BYTES:])
    raise Malformed(f"signature line {line[:80]!r} is not '— <key name> <base64>'")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or len(name.encode()) > MAX_NAME_BYTES:
        raise Malformed(f"key name {name[:80]!r} is empty, too long, or holds a space or a plus")
