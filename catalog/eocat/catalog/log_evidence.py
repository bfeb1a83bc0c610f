"""Signed checkpoints: opened with the log's key, and kept where they contradict each other.

Two checkpoints of one log that cannot both be true are proof of its misbehaviour that anyone can check: what
is written down is the notes themselves, with their signatures.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from eocat.verify.errors import Malformed
from eocat.verify.log.checkpoint import Checkpoint, parse_checkpoint
from eocat.verify.log.note import VerifierKey, parse_note, signed_by

from .log_files import LogFolder


def open_checkpoint(data: bytes, key: VerifierKey) -> Checkpoint:
    """The checkpoint that `key` signed; Malformed if it did not, or if it is another log's."""
    note = parse_note(data)
    checkpoint = parse_checkpoint(note.text)
    if checkpoint.origin != key.name or not signed_by(note, [key]).valid:
        raise Malformed(f"a checkpoint of {checkpoint.origin[:80]} is not signed by the key of {key.name}")
    return checkpoint


def write_evidence(home: Path, why: str, notes: Mapping[str, bytes]) -> Path:
    """Keep signed checkpoints that contradict each other under HOME/log-evidence; the file's path."""
    parts = [f"# {why}\n".encode()]
    parts += [b"# " + where.encode() + b"\n" + note for where, note in notes.items()]
    data = b"\n".join(parts)
    place = LogFolder(home / "log-evidence")
    name = f"{hashlib.sha256(data).hexdigest()[:16]}.txt"
    place.write_once(name, data)
    return place.path / name
