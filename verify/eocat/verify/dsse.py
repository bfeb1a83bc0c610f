"""DSSE 1.0.2 envelopes: the bytes that are signed, and who signed them.

The payload stays bytes until its signatures are known: hash first, parse after. An envelope has one
spelling here (canonical JSON, standard base64), so its digest names it. `keyid` is a hint by the
specification; eocat compares it with the derived id and never looks a key up by a name from outside. The
payload type is signed with the payload, so an envelope of any type is read and `check` judges the type.
"""

import base64
import hashlib
from dataclasses import dataclass
from typing import Any

from . import canonical
from .errors import Malformed
from .keys import PublicKey, decode_base64

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_SIGNATURES = 16
MAX_ENVELOPE_BYTES = 2 * canonical.MAX_BYTES


@dataclass(frozen=True, slots=True)
class Signature:
    key_id: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A parsed envelope; `payload` is untrusted until `signers` has said otherwise."""

    payload: bytes
    payload_type: str
    signatures: tuple[Signature, ...]

    @property
    def payload_digest(self) -> str:
        """SHA-256 hex of the payload: what the next event's `prev` names."""
        return hashlib.sha256(self.payload).hexdigest()

    def verdicts(self, keys: dict[str, PublicKey]) -> dict[str, bool]:
        """Key id → whether all signatures under it are valid, for the ids among `keys` (derived id → key)."""
        message = pae(self.payload_type, self.payload)
        found: dict[str, bool] = {}
        for signature in self.signatures:
            if key := keys.get(signature.key_id):
                valid = key.verifies(signature.raw, message)
                found[signature.key_id] = found.get(signature.key_id, True) and valid
        return found


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: lengths are byte lengths in plain decimal."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def parse_envelope(data: bytes) -> Envelope:
    """The envelope in canonical JSON bytes `data` (no newline); Malformed for any other spelling."""
    match canonical.parse_canonical(data, what="envelope", limit_bytes=MAX_ENVELOPE_BYTES):
        case {"payload": str(payload), "payloadType": str(kind), "signatures": list(signatures), **rest} if (
            not rest
        ):
            if not 1 <= len(signatures) <= MAX_SIGNATURES:
                raise Malformed(f"envelope has {len(signatures)} signatures, expected 1 to {MAX_SIGNATURES}")
            parsed = tuple(_parse_signature(member) for member in signatures)
            return Envelope(decode_base64(payload, what="envelope payload"), kind, parsed)
    raise Malformed("envelope has not exactly payload, payloadType and signatures")


def format_envelope(envelope: Envelope) -> bytes:
    """Canonical JSON bytes, without a newline."""
    return canonical.encode({
        "payload": base64.b64encode(envelope.payload).decode(),
        "payloadType": envelope.payload_type,
        "signatures": [
            ({"keyid": signature.key_id} if signature.key_id else {})
            | {"sig": base64.b64encode(signature.raw).decode()}
            for signature in envelope.signatures
        ],
    })  # fmt: skip


def _parse_signature(member: Any) -> Signature:
    match member:
        case {"keyid": str(key_id), "sig": str(sig), **rest} if not rest and 1 <= len(key_id) <= 128:
            return Signature(key_id, decode_base64(sig, what="signature"))
        case {"sig": str(sig), **rest} if not rest:  # DSSE lets it be absent; then it is nobody's
            return Signature("", decode_base64(sig, what="signature"))
    raise Malformed("signature has not exactly keyid and sig")
