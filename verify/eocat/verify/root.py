"""The trust root: who may sign the policy, in TUF's Root format and by its rules (docs/format.md, section 6).

    {"signatures": [{"keyid", "sig"}…],
     "signed": {"_type": "root", "spec_version", "version", "expires", "consistent_snapshot",
                "keys": {key id: {"keytype", "scheme", "keyval": {"public"}}},
                "roles": {"root": {"keyids", "threshold"}, "policy": {"keyids", "threshold"}}}}

The Update Framework, specification 1.0, sections 4.3 (format) and 5.3 (how one root follows another). Here
the file is RFC 8785, members that are not named above are refused, the keys are Ed25519, and one role,
`policy`, stands for TUF's snapshot, targets and timestamp. A key id is TUF's own: SHA-256 of the key's
canonical JSON. The first root, storage and the memory of versions are left to the caller (trust_store.py).
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from . import canonical
from .dsse import Envelope
from .errors import Forged, Malformed, Stale, Untrusted
from .keys import PublicKey
from .policy import Policy
from .statement import Hex32, Strict, Time, format_time, parse_time, validated

SPEC_VERSION = "1.0.34"  # the TUF specification that new roots name
POLICY_TYPE = "application/vnd.eocat.policy+json"
MAX_ROOT_BYTES = 64 << 10
MAX_ROLE_KEYS = 16

RootRole = Literal["root", "policy"]
ROOT_ROLES: tuple[RootRole, ...] = ("root", "policy")


def _check_seconds(text: str) -> str:
    if "." in text:
        raise ValueError(f"time {text} has a fraction, and TUF's times have none")
    return text


class KeyValue(Strict):
    public: Hex32


class RootKey(Strict):
    keytype: Literal["ed25519"]
    scheme: Literal["ed25519"]
    keyval: KeyValue

    @property
    def key_id(self) -> str:
        """TUF's key id; `PublicKey.key_id` is another digest of the same key."""
        return hashlib.sha256(canonical.encode(self.model_dump())).hexdigest()


class RoleKeys(Strict):
    """Who holds a role, and how many of them must sign."""

    keyids: Annotated[list[Hex32], Field(min_length=1, max_length=MAX_ROLE_KEYS)]
    threshold: Annotated[int, Field(ge=1, le=MAX_ROLE_KEYS)]

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if len(set(self.keyids)) != len(self.keyids):
            raise ValueError("one key id stands twice in a role")
        if self.threshold > len(self.keyids):
            raise ValueError(f"threshold {self.threshold} is above the role's {len(self.keyids)} keys")
        return self


class Roles(Strict):
    root: RoleKeys
    policy: RoleKeys


class Signed(Strict):
    type: Annotated[Literal["root"], Field(alias="_type")]
    spec_version: Annotated[str, Field(pattern=r"^1\.0\.(0|[1-9][0-9]{0,3})$")]
    version: Annotated[int, Field(ge=1, le=1 << 31)]
    expires: Annotated[Time, AfterValidator(_check_seconds)]
    consistent_snapshot: bool
    keys: Annotated[dict[Hex32, RootKey], Field(max_length=2 * MAX_ROLE_KEYS)]
    roles: Roles

    @model_validator(mode="after")
    def _keys_are_usable(self) -> Self:
        """Key ids are derived and compared, so one key cannot stand under two; low-order keys are refused."""
        for key_id, key in self.keys.items():
            if key.key_id != key_id:
                raise ValueError(f"key id {key_id[:16]} is not derived from its key ({key.key_id[:16]})")
            try:
                PublicKey(bytes.fromhex(key.keyval.public))
            except Malformed as error:
                raise ValueError(str(error)) from None
        for key_id in {*self.roles.root.keyids, *self.roles.policy.keyids}:
            if key_id not in self.keys:
                raise ValueError(f"key id {key_id[:16]} of a role is not among the keys")
        return self


class RootSignature(Strict):
    keyid: Hex32
    sig: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


class Root(Strict):
    signatures: Annotated[list[RootSignature], Field(max_length=2 * MAX_ROLE_KEYS)]
    signed: Signed

    @model_validator(mode="after")
    def _signers_differ(self) -> Self:
        if len({signature.keyid for signature in self.signatures}) != len(self.signatures):
            raise ValueError("one key id has signed twice")
        return self

    @property
    def version(self) -> int:
        return self.signed.version

    @property
    def message(self) -> bytes:
        """The bytes that are signed."""
        return canonical.encode(self.signed.model_dump(by_alias=True))

    @property
    def digest(self) -> str:
        """SHA-256 hex of what is signed: names the root, whoever has signed it so far."""
        return hashlib.sha256(self.message).hexdigest()

    def keys(self, role: RootRole) -> dict[str, PublicKey]:
        """TUF key id → key, of those who hold the role."""
        return {
            key_id: PublicKey(bytes.fromhex(self.signed.keys[key_id].keyval.public))
            for key_id in getattr(self.signed.roles, role).keyids
        }

    def threshold(self, role: RootRole) -> int:
        threshold: int = getattr(self.signed.roles, role).threshold
        return threshold


def parse_root(data: bytes) -> Root:
    value = canonical.parse_canonical(data, what="trust root", limit_bytes=MAX_ROOT_BYTES)
    return validated(Root, value, what="trust root")


def format_root(root: Root) -> bytes:
    return canonical.encode(root.model_dump(by_alias=True))


def draft_root(
    version: int, expires: datetime, roles: Mapping[RootRole, tuple[Sequence[PublicKey], int]]
) -> Root:
    """An unsigned root. roles: role → (its keys, its threshold); one key may hold both roles."""
    entries = {role: [_root_key(key) for key in keys] for role, (keys, _) in roles.items()}
    signed = {
        "_type": "root",
        "spec_version": SPEC_VERSION,
        "version": version,
        "expires": format_time(expires.replace(microsecond=0)),
        "consistent_snapshot": False,
        "keys": {key.key_id: key.model_dump() for keys in entries.values() for key in keys},
        "roles": {
            role: {"keyids": [key.key_id for key in entries[role]], "threshold": threshold}
            for role, (_, threshold) in roles.items()
        },
    }
    return validated(Root, {"signatures": [], "signed": signed}, what="trust root")


def add_signature(root: Root, key: PublicKey, signature: bytes) -> Root:
    """The root with one more signature, in the place of an earlier one by the same key."""
    key_id = _root_key(key).key_id
    others = [other for other in root.signatures if other.keyid != key_id]
    return root.model_copy(update={"signatures": [*others, RootSignature(keyid=key_id, sig=signature.hex())]})


def check_signed(root: Root, by: Root) -> None:
    """Raise unless a threshold of `by`'s root keys has signed `root`; for a first root `by` is itself."""
    keys, message = by.keys("root"), root.message
    valid = 0
    for signature in root.signatures:
        if key := keys.get(signature.keyid):
            if not key.verifies(bytes.fromhex(signature.sig), message):
                raise Forged(
                    f"trust root {root.version} has an invalid signature by key {signature.keyid[:16]}"
                )
            valid += 1
    if valid < by.threshold("root"):
        raise Untrusted(
            f"trust root {root.version} has {valid} of the {by.threshold('root')} signatures by the root "
            f"keys of version {by.version}",
            hint="ask the holders of the root keys to sign it",
        )


def follow(trusted: Root, new: Root) -> Root:
    """The root to trust after `new` has been offered to one who trusts `trusted` (TUF, 5.3.4 to 5.3.7).

    Its expiry does not matter yet: a newer one may follow. Raises Stale for an older version, Untrusted for a
    version that is skipped to, for another root of the same version, or where either threshold is not met.
    """
    if new.version < trusted.version:
        raise Stale(
            f"trust root {new.version} is older than version {trusted.version}, which was seen before"
        )
    if new.version == trusted.version:
        if new.digest != trusted.digest:
            raise Untrusted(f"there are two different trust roots of version {new.version}")
        return trusted
    if new.version != trusted.version + 1:
        raise Untrusted(
            f"trust root {new.version} does not follow version {trusted.version}",
            hint=f"version {trusted.version + 1} comes first",
        )
    check_signed(new, trusted)
    check_signed(new, new)
    return new


def check_current(root: Root, now: datetime) -> None:
    """Raise Stale if the newest root has expired (TUF, 5.3.10)."""
    if now >= parse_time(root.signed.expires):
        raise Stale(f"trust root {root.version} expired at {root.signed.expires}", hint="eocat trust update")


def verified_policy(envelope: Envelope, root: Root) -> Policy:
    """The policy in a DSSE envelope that a threshold of the root's policy keys has signed."""
    keys = {key.key_id: key for key in root.keys("policy").values()}
    verdicts = envelope.verdicts(keys)
    for key_id, valid in sorted(verdicts.items()):
        if not valid:
            raise Forged(f"signed policy has an invalid signature by key {key_id[:16]}")
    if envelope.payload_type != POLICY_TYPE:
        raise Malformed(f"payload type {envelope.payload_type[:80]!r} is not {POLICY_TYPE}")
    if len(verdicts) < root.threshold("policy"):
        raise Untrusted(
            f"signed policy has {len(verdicts)} of the {root.threshold('policy')} signatures by the "
            f"policy keys of trust root {root.version}"
        )
    return validated(
        Policy, canonical.parse_canonical(envelope.payload, what="signed policy"), what="signed policy"
    )


def _root_key(key: PublicKey) -> RootKey:
    if key.algorithm != "ed25519":
        raise Malformed(f"a trust root holds ed25519 keys, not {key.algorithm}")
    value: dict[str, Any] = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": key.raw.hex()}}
    return validated(RootKey, value, what="root key")
