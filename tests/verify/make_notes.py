"""Maker of signed notes for tests: keys from a number, real signatures, cosignatures at a time."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from eocat.verify.keys import PublicKey
from eocat.verify.log.checkpoint import Checkpoint, format_checkpoint
from eocat.verify.log.cosignature import cosigned_message, format_cosignature
from eocat.verify.log.note import COSIGNATURE, ED25519, Note, Signature, VerifierKey, format_note

ORIGIN = "log.example/eocat"
NOW_S = 1_795_190_311  # 2026-11-20T15:58:31Z


@dataclass(frozen=True)
class Signer:
    """A key pair under a name; its private key is the number, so it is no secret."""

    name: str
    kind: int
    number: int

    @property
    def private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.number.to_bytes(32, "big"))

    @property
    def key(self) -> VerifierKey:
        return VerifierKey(self.name, self.kind, PublicKey(self.private.public_key().public_bytes_raw()))

    def sign(self, text: str, time_s: int = NOW_S) -> Signature:
        body = self.private.sign(text.encode())
        if self.kind == COSIGNATURE:
            body = format_cosignature(time_s, self.private.sign(cosigned_message(time_s, text)))
        return Signature(self.name, self.key.key_id, body)


LOG = Signer(ORIGIN, ED25519, 1)
W1, W2, W3 = (Signer(f"w{number}.example", COSIGNATURE, 10 + number) for number in (1, 2, 3))


def checkpoint(size: int = 7, fork: str = "") -> Checkpoint:
    """A checkpoint of ORIGIN; another `fork` has another root at the same size."""
    return Checkpoint(ORIGIN, size, hashlib.sha256(f"{size}{fork}".encode()).digest())


def note_of(made: Checkpoint, *signatures: Signature) -> bytes:
    return format_note(Note(format_checkpoint(made), signatures))


def cosigned(made: Checkpoint, witnesses: Sequence[Signer], time_s: int = NOW_S, log: Signer = LOG) -> bytes:
    """The checkpoint with the log's signature and the witnesses' cosignatures, all at `time_s`."""
    text = format_checkpoint(made)
    return note_of(made, log.sign(text), *(witness.sign(text, time_s) for witness in witnesses))
