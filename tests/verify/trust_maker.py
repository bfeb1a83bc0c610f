"""Makes roots, signed policies and hybrid keys for the tests of trust, as their holders would."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from make_shard import Key, entry, policy_json

from eocat.verify import canonical
from eocat.verify.dsse import PAYLOAD_TYPE, Envelope, Signature, format_envelope, pae
from eocat.verify.keys import PublicKey, format_key
from eocat.verify.root import POLICY_TYPE, Root, add_signature, draft_root, format_root

ALICE, BOB, CAROL, DAVE, ERIN = HOLDERS = [
    Key.from_seed(name) for name in ("alice", "bob", "carol", "dave", "erin")
]
EXPIRES = datetime(2027, 1, 1, tzinfo=UTC)


def root_of(
    version: int,
    holders: list[Key],
    threshold: int,
    *signers: Key,
    policy: tuple[list[Key], int] | None = None,
    expires: datetime = EXPIRES,
) -> Root:
    """A root; without `policy` its holders hold the policy role too."""
    holding, needed = policy or (holders, threshold)
    root = draft_root(
        version,
        expires,
        {
            "root": ([holder.public for holder in holders], threshold),
            "policy": ([holder.public for holder in holding], needed),
        },
    )
    return signed(root, *signers)


def signed(root: Root, *signers: Key) -> Root:
    for signer in signers:
        root = add_signature(root, signer.public, signer.private.sign(root.message))
    return root


def root_json(root: Root) -> dict[str, Any]:
    value: dict[str, Any] = canonical.parse(format_root(root))
    return value


def signed_policy(*signers: Key, kind: str = POLICY_TYPE, **members: Any) -> bytes:
    payload = canonical.encode(policy_json(**members))
    return format_envelope(Envelope(payload, kind, tuple(signer.sign(payload, kind) for signer in signers)))


@dataclass(frozen=True)
class Hybrid:
    """An identity with both halves; the second one from a seed too."""

    first: Key
    second: MLDSA44PrivateKey

    @classmethod
    def from_seed(cls, name: str) -> "Hybrid":
        seed = hashlib.sha256(b"ml-dsa " + name.encode()).digest()
        return cls(Key.from_seed(name), MLDSA44PrivateKey.from_seed_bytes(seed))

    @property
    def partner(self) -> PublicKey:
        return PublicKey(self.second.public_key().public_bytes_raw(), "ml-dsa-44")

    def sign_second(self, payload: bytes, kind: str = PAYLOAD_TYPE) -> Signature:
        return Signature(self.partner.key_id, self.second.sign(pae(kind, payload)))

    def entry(self, **members: Any) -> dict[str, Any]:
        return entry(self.first, partner=format_key(self.partner), **members)
