"""Proofs that an entry is in a log, to be checked without a network (C2SP tlog-proof, version 1).

    c2sp.org/tlog-proof@v1
    extra <base64>                optional; nobody vouches for it
    index <index of the entry>
    <base64 of a hash> …          the inclusion path, from the leaf's sibling up
    <empty line>
    <the checkpoint, a signed note>

The proof is worth what its checkpoint is worth: judge that with `quorum.py`. An item's log proof holds one of
these for each event (`proof_of_event`), for verifiers that know C2SP's format and nothing of eocat's.
"""

import base64
from dataclasses import dataclass

from ..errors import Malformed
from ..keys import decode_base64
from ..merkle import HASH_BYTES, MAX_SIZE, leaf_hash, root_from_path
from .checkpoint import parse_checkpoint
from .item_proof import ItemProof
from .note import MAX_NOTE_BYTES, Note, format_note, parse_decimal, parse_note

HEADER = "c2sp.org/tlog-proof@v1"
MAX_PATH = MAX_SIZE.bit_length()
MAX_EXTRA_BYTES = 1 << 16
MAX_PROOF_BYTES = MAX_NOTE_BYTES + 2 * MAX_EXTRA_BYTES


@dataclass(frozen=True, slots=True)
class TlogProof:
    index: int
    path: tuple[bytes, ...]
    note: Note  # of the checkpoint
    extra: bytes | None = None

    def __post_init__(self) -> None:
        size = parse_checkpoint(self.note.text).size
        if not 0 <= self.index < size:
            raise Malformed(f"log proof is for entry {self.index} of a tree with {size}")
        if len(self.path) > MAX_PATH or any(len(node) != HASH_BYTES for node in self.path):
            raise Malformed(
                f"log proof has more than {MAX_PATH} hashes, or one that is not of {HASH_BYTES} bytes"
            )
        if self.extra is not None and not 1 <= len(self.extra) <= MAX_EXTRA_BYTES:
            raise Malformed(f"log proof has {len(self.extra)} bytes of extra data, at most {MAX_EXTRA_BYTES}")


def check_inclusion(proof: TlogProof, entry: bytes) -> bool:
    """Whether the proof shows `entry` in the tree of its checkpoint; no signature is looked at."""
    checkpoint = parse_checkpoint(proof.note.text)
    try:
        root = root_from_path(leaf_hash(entry), proof.index, checkpoint.size, proof.path)
    except Malformed:  # the path has not the length that index and size ask for
        return False
    return root == checkpoint.root


def proof_of_event(document: ItemProof, entry: bytes, seq: int) -> TlogProof:
    """The tlog-proof of event `seq` of an item, whose entry goes along as extra data.

    entry: what the log must hold for the event (`entry_of`). Malformed if the document does not show that.
    """
    if not 0 <= seq < len(document.events):
        raise Malformed(f"log proof is about {len(document.events)} events, there is no event {seq}")
    event = document.events[seq]
    note = parse_note(document.checkpoints[event.checkpoint].note.encode())
    proof = TlogProof(event.index, event.nodes, note, entry)
    if not check_inclusion(proof, entry):
        raise Malformed(f"log proof does not lead from event {seq} to the root of its checkpoint")
    return proof


def parse_proof(data: bytes) -> TlogProof:
    """The proof in `data`; Malformed for every spelling but that of `format_proof`."""
    if len(data) > MAX_PROOF_BYTES:
        raise Malformed(f"log proof has {len(data)} bytes, at most {MAX_PROOF_BYTES}")
    head, blank, note = data.partition(b"\n\n")
    if not blank or not head.isascii():
        raise Malformed("log proof is not ASCII lines, an empty line and a checkpoint")
    header, *lines = head.decode().split("\n")
    if header != HEADER:
        raise Malformed(f"log proof begins with {header[:80]!r}, expected {HEADER!r}")
    extra = None
    if lines and lines[0].startswith("extra "):
        extra = decode_base64(lines.pop(0).removeprefix("extra "), what="extra data")
    if not lines or not lines[0].startswith("index "):
        raise Malformed("log proof has no line 'index <number>' after its header")
    if len(lines) > 1 + MAX_PATH:
        raise Malformed(f"log proof has {len(lines) - 1} hashes, at most {MAX_PATH}")
    index = parse_decimal(lines[0].removeprefix("index "), limit=MAX_SIZE, what="log proof's index")
    path = tuple(decode_base64(line, what="hash of a log proof") for line in lines[1:])
    return TlogProof(index, path, parse_note(note), extra)


def format_proof(proof: TlogProof) -> bytes:
    lines = [HEADER, f"index {proof.index}", *(base64.b64encode(node).decode() for node in proof.path)]
    if proof.extra is not None:
        lines.insert(1, f"extra {base64.b64encode(proof.extra).decode()}")
    return "\n".join((*lines, "", "")).encode() + format_note(proof.note)
