"""A witness: it cosigns a log's checkpoint only if the tree begins with the one it cosigned last.

The rules are C2SP tlog-witness's, version 1 (and its draft's 403 for a forged line of a known key); the
steps are numbered here and in `_decide`:

    1 parse      the body                                          else 400
    2 log        the origin is one that is followed                else 404
    3 signature  a key of that log signed, and no line of it lies  else 403
    4 order      the old size is not above the new one             else 400
    5 memory     the old size is the one remembered                else 409, and that size
    6 fork       at one size, the root is the one remembered       else 409, and both notes are kept
    7 proof      the new tree begins with the one remembered       else 422
    8 remember   the checkpoint, on disk, before anything is signed
    9 cosign     with the time of this clock

    HOME/witness/witness.pem, witness.vkey   its key (keyring.py)
    HOME/witness/seen.json                   its memory: origin → the last checkpoint that it cosigned
    HOME/witness/log-evidence/               checkpoints that cannot both be true

Steps 5 to 9 hold a file lock, so that several processes of one home are still one witness. A witness that
lost its memory refuses to start. Known hole: a memory restored from a backup cannot be told from the newest
one. Such a witness must be retired: it takes a new home, and so a new key.
"""

import fcntl
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from eocat.verify.errors import ConfigError, Malformed
from eocat.verify.log.checkpoint import Checkpoint, parse_checkpoint
from eocat.verify.log.note import (
    ED25519,
    Note,
    Signature,
    VerifierKey,
    format_note,
    parse_note,
    signed_by,
)
from eocat.verify.merkle import check_consistency

from .keyring import WitnessKey, ensure_witness_key, witness_folder
from .log_evidence import write_evidence
from .log_files import LogFolder
from .witness_request import AddCheckpoint, format_size, parse_request

SEEN = "seen.json"
SEEN_FORMAT = "eocat-witness/v1"
MAX_EVIDENCE = 64  # who holds a log's key could fill the disk with forks of it

log = logging.getLogger("eocat.witness")
Step = Callable[[str], None]  # told what has just been done; tests end the process there


class Refused(Exception):
    """No cosignature; status: as the specification has it; size: what is remembered, for 409."""

    def __init__(self, status: int, message: str, size: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.size = size


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness of the logs whose keys are given, by origin."""

    home: Path
    key: WitnessKey
    logs: Mapping[str, tuple[VerifierKey, ...]]
    clock: Callable[[], float] = time.time
    step: Step = lambda _: None

    def add_checkpoint(self, body: bytes) -> bytes:
        """The cosignature line over the checkpoint in the request `body`; Refused if it gets none."""
        try:
            request = parse_request(body)
            note = parse_note(request.note)
            checkpoint = parse_checkpoint(note.text)
        except Malformed as error:
            raise Refused(400, str(error)) from None
        keys = self.logs.get(checkpoint.origin)
        if keys is None:
            raise Refused(404, "this witness does not follow a log of that origin")
        signed = signed_by(note, keys)
        if signed.forged or not signed.valid:
            raise Refused(403, "the checkpoint is not signed by a key of the log")
        own = Note(note.text, tuple(dict.fromkeys(line for _, line in signed.valid)))
        line = self._decide(request, checkpoint, own)
        return format_note(Note(note.text, (line,))).removeprefix(f"{note.text}\n".encode())

    def _decide(self, request: AddCheckpoint, new: Checkpoint, note: Note) -> Signature:
        """Steps 4 to 9. note: the checkpoint with the log's valid signatures only."""
        if request.old > new.size:
            raise Refused(400, f"old size {request.old} is above the checkpoint's, {new.size}")
        with _locked(self.home):
            seen = read_seen(self.home)
            known = seen.get(new.origin)
            old = parse_checkpoint(known.text) if known else None
            size = old.size if old else 0
            if request.old != size:
                raise Refused(409, f"old size {request.old} is not the one remembered", size)
            if known and old and new.contradicts(old):
                self._keep_evidence(known, note, size)
                raise Refused(409, "another tree of this size was cosigned", size)
            if not _follows(old, new, request.proof):
                raise Refused(422, "the proof does not show that the tree begins with the one remembered")
            if note != known:
                write_seen(self.home, {**seen, new.origin: note})
            self.step("remembered")
            line = self.key.cosign(note.text, int(self.clock()))
            self.step("cosigned")
        log.info("cosigned size %d of %s", new.size, new.origin)
        return line

    def _keep_evidence(self, known: Note, note: Note, size: int) -> None:
        folder = witness_folder(self.home)
        kept = folder / "log-evidence"
        if kept.is_dir() and len(list(kept.iterdir())) >= MAX_EVIDENCE:
            log.error("a log signed another fork of size %d; %s is full", size, kept)
            return
        notes = {"cosigned before": format_note(known), "offered later": format_note(note)}
        path = write_evidence(folder, f"one log signed two trees of size {size}", notes)
        log.error("a log signed two trees of size %d: %s", size, path)


def open_witness(home: Path, keys: Iterable[VerifierKey], name: str | None = None) -> Witness:
    """The witness of this home, made if there is none; it follows the logs whose `keys` these are.

    Raises ConfigError: no key of a log, a memory that is lost or unreadable, a key of another name.
    """
    logs: dict[str, tuple[VerifierKey, ...]] = {}
    for key in dict.fromkeys(keys):
        if key.kind != ED25519:
            raise ConfigError(
                f"{key.name} has the key of a witness, not of a log", hint="eocat log show prints a log's"
            )
        logs[key.name] = (*logs.get(key.name, ()), key)
    if not logs:
        raise ConfigError("a witness without a log to follow has nothing to do", hint="name one by --log-key")
    folder = witness_folder(home)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(home):
        if not (folder / SEEN).exists():
            if (folder / "witness.pem").exists():
                raise ConfigError(
                    f"the witness in {folder} has its key and no {SEEN}: it does not know what it cosigned",
                    hint="retire it: start another one with a new home, and so with a new key",
                )
            write_seen(home, {})
        witness = Witness(home, ensure_witness_key(home, name), logs)
        read_seen(home)
    return witness


def read_seen(home: Path) -> dict[str, Note]:
    """The memory: origin → the last checkpoint that was cosigned; ConfigError if it cannot be read."""
    path = witness_folder(home) / SEEN
    try:
        document = json.loads(path.read_bytes())
        if document["type"] != SEEN_FORMAT:
            raise Malformed(f"its type is {str(document['type'])[:40]!r}, expected {SEEN_FORMAT}")
        seen = {origin: parse_note(note.encode()) for origin, note in document["logs"].items()}
        if any(parse_checkpoint(note.text).origin != origin for origin, note in seen.items()):
            raise Malformed("a checkpoint is under another log's name")
    except OSError as error:
        raise ConfigError(f"the witness's memory {path} cannot be read: {error.strerror}") from None
    except (Malformed, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"the witness's memory {path} cannot be used: {error}",
            hint="it does not know what it cosigned: retire it, and start another one with a new home",
        ) from None
    return seen


def write_seen(home: Path, seen: Mapping[str, Note]) -> None:
    """Replace the memory, whole and durable; ConfigError if the disk does not take it."""
    logs = {origin: format_note(note).decode() for origin, note in seen.items()}
    data = json.dumps({"type": SEEN_FORMAT, "logs": logs}, indent=1).encode()
    LogFolder(witness_folder(home)).replace(SEEN, data + b"\n")


def _follows(old: Checkpoint | None, new: Checkpoint, proof: tuple[bytes, ...]) -> bool:
    """Whether the new tree is shown to begin with the old one; nothing is to be shown of an empty one."""
    if old is None or old.size == 0:
        return not proof
    return check_consistency(old.size, old.root, new.size, new.root, proof)


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Alone among all threads and processes of this home; the lock ends with its holder."""
    path = witness_folder(home) / "lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"{path} cannot be opened: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def refusal_body(refused: Refused) -> bytes:
    """What an answer says besides its status."""
    return format_size(refused.size) if refused.size is not None else f"{refused}\n".encode()
