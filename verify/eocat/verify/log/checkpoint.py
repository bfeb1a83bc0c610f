"""Checkpoints: the text of a note in which a log names its tree (C2SP tlog-checkpoint, version 1).

    <origin>
    <tree size>
    <base64 of the RFC 6962 root>
    <extension line> …            optional, opaque

Who signed it is the business of `note.py`, whether that is enough that of `quorum.py`.
"""

import base64
import hashlib
import re
from dataclasses import dataclass

from ..errors import Malformed
from ..keys import decode_base64
from ..merkle import HASH_BYTES, MAX_SIZE
from .note import parse_decimal

EMPTY_ROOT = hashlib.sha256(b"").digest()
MAX_ORIGIN_BYTES = 255  # what a cosigned message of the newer type has room for
MAX_EXTENSIONS = 64
_CONTROL = re.compile(r"[\x00-\x1f\ud800-\udfff]")  # and what is no UTF-8


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree that a log names: `size` leaves under `root`. Malformed if it has no checkpoint's text."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for line in (self.origin, *self.extensions):
            if not line or _CONTROL.search(line):
                raise Malformed(f"checkpoint line {line[:80]!r} is empty or holds a control character")
        if len(self.origin.encode()) > MAX_ORIGIN_BYTES or len(self.extensions) > MAX_EXTENSIONS:
            raise Malformed(
                f"checkpoint has an origin above {MAX_ORIGIN_BYTES} bytes or more than "
                f"{MAX_EXTENSIONS} extension lines"
            )
        if not 0 <= self.size <= MAX_SIZE or len(self.root) != HASH_BYTES:
            raise Malformed(f"checkpoint of {self.size} leaves with a root of {len(self.root)} bytes")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise Malformed("checkpoint of an empty tree has another root than the hash of nothing")

    def contradicts(self, other: "Checkpoint") -> bool:
        """Whether one append-only log cannot have both: one size, two roots. Both signed: evidence."""
        return (self.origin, self.size) == (other.origin, other.size) and self.root != other.root


def parse_checkpoint(text: str) -> Checkpoint:
    """The checkpoint in a note's text; Malformed for every spelling but that of `format_checkpoint`."""
    if text.count("\n") > 3 + MAX_EXTENSIONS:
        raise Malformed(f"checkpoint has more than {3 + MAX_EXTENSIONS} lines")
    match text.split("\n"):
        case [origin, size, root, *extensions, ""]:
            return Checkpoint(
                origin,
                parse_decimal(size, limit=MAX_SIZE, what="checkpoint's tree size"),
                decode_base64(root, what="checkpoint's root"),
                tuple(extensions),
            )
    raise Malformed("checkpoint is not origin, tree size and root, each on a line of its own")


def format_checkpoint(checkpoint: Checkpoint) -> str:
    root = base64.b64encode(checkpoint.root).decode()
    return "\n".join((checkpoint.origin, str(checkpoint.size), root, *checkpoint.extensions, ""))
