"""What a log sends a witness: the body of `add-checkpoint` (C2SP tlog-witness, version 1).

    old <size>
    <base64 of a hash>      the consistency proof from that size on, up to 63 lines
    <empty line>
    <signed checkpoint>

Both sides are here, so that the witness accepts what the log's client writes and no second spelling of it.
"""

import base64
from dataclasses import dataclass

from eocat.verify.errors import Malformed
from eocat.verify.keys import decode_base64
from eocat.verify.log.note import MAX_NOTE_BYTES, parse_decimal
from eocat.verify.merkle import HASH_BYTES, MAX_SIZE

PATH = "/add-checkpoint"
SIZE_TYPE = "text/x.tlog.size"  # of an answer 409: the size that the witness remembers
MAX_PROOF_LINES = 63
MAX_BODY_BYTES = MAX_NOTE_BYTES


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A signed checkpoint, and the proof that its tree begins with the one of `old` leaves."""

    old: int
    proof: tuple[bytes, ...]
    note: bytes

    def __post_init__(self) -> None:
        if not 0 <= self.old <= MAX_SIZE or len(self.proof) > MAX_PROOF_LINES:
            raise Malformed(f"request names old size {self.old} with {len(self.proof)} proof lines")
        if any(len(node) != HASH_BYTES for node in self.proof):
            raise Malformed(f"request has a proof line that is no hash of {HASH_BYTES} bytes")


def parse_request(data: bytes) -> AddCheckpoint:
    """The request in a body; its checkpoint is not looked at. Malformed for a second spelling."""
    if len(data) > MAX_BODY_BYTES:
        raise Malformed(f"request has {len(data)} bytes, at most {MAX_BODY_BYTES}")
    head, blank, note = data.partition(b"\n\n")
    if not blank or not head.isascii() or head.count(b"\n") > MAX_PROOF_LINES:
        raise Malformed("request is not an old size, up to 63 proof lines, an empty line and a checkpoint")
    first, *lines = head.decode("ascii").split("\n")
    if not first.startswith("old "):
        raise Malformed(f"request begins with {first[:40]!r}, expected 'old <size>'")
    old = parse_decimal(first.removeprefix("old "), limit=MAX_SIZE, what="request's old size")
    return AddCheckpoint(old, tuple(decode_base64(line, what="proof line") for line in lines), note)


def format_request(request: AddCheckpoint) -> bytes:
    lines = [f"old {request.old}", *(base64.b64encode(node).decode() for node in request.proof)]
    return ("\n".join(lines) + "\n\n").encode() + request.note


def parse_size(data: bytes) -> int:
    """The size in an answer of SIZE_TYPE."""
    text = data.decode("ascii", "replace")
    if not text.endswith("\n"):
        raise Malformed(f"size {text[:40]!r} does not end in a newline")
    return parse_decimal(text[:-1], limit=MAX_SIZE, what="size")


def format_size(size: int) -> bytes:
    return f"{size}\n".encode()
