"""The trust policy: which keys may sign what, for which collections, and when (docs/format.md, section 6).

It is given by the user (`--trust`, or the folder `trust` under the home folder) and comes from nowhere
else: not from the item, the API or the current folder. There is no trust on first use. The user's own file is
unsigned; a policy that others keep is signed under a root that the user has pinned (root.py, trust_store.py).
"""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from . import canonical
from .closeness import CAPS, MAX_CAP, Precision
from .errors import ConfigError, Malformed
from .keys import PublicKey, format_key, parse_key
from .log.quorum import parse_log_policy
from .pins import Pin
from .statement import Identifier, Strict, Text, Time, format_time, parse_time, validated

Role = Literal["producer", "registrar", "curator", "mirror", "auditor"]
Cap = Annotated[int, Field(ge=1, le=MAX_CAP)]
ANY_COLLECTION = "*"


class TrustedKey(Strict):
    """One identity: its key, what it may do and from when to when (`[notBefore, notAfter)`).

    partner: an ML-DSA-44 key of the same identity; where there is one, both must have signed.
    """

    name: Text
    key: Text  # ed25519:<base64>
    partner: Annotated[str, Field(max_length=2048)] | None = None  # ml-dsa-44:<base64>
    roles: Annotated[list[Role], Field(min_length=1)]
    collections: Annotated[list[Identifier | Literal["*"]], Field(min_length=1)]
    notBefore: Time  # noqa: N815
    notAfter: Time  # noqa: N815
    retiredAt: Time | None = None  # the key was put away, in good order  # noqa: N815
    compromisedSince: Time | None  # noqa: N815

    @property
    def public(self) -> PublicKey:
        return parse_key(self.key)

    @property
    def public_keys(self) -> tuple[PublicKey, ...]:
        """The keys that must all have signed, Ed25519 first."""
        return (self.public, parse_key(self.partner)) if self.partner else (self.public,)

    def may(self, role: str, collection: str) -> bool:
        return role in self.roles and (ANY_COLLECTION in self.collections or collection in self.collections)

    def valid_at(self, moment: datetime) -> bool:
        """Whether the key may have signed at `moment`, a time that the signer did not choose."""
        ends = (self.notAfter, self.retiredAt, self.compromisedSince)
        end = min(parse_time(end) for end in ends if end is not None)
        return parse_time(self.notBefore) <= moment < end


class LogTrust(Strict):
    """Which log must hold an item, under which witnesses, and how old its newest checkpoint may be."""

    policy: Annotated[str, Field(min_length=1, max_length=1 << 16)]  # C2SP tlog-policy text
    maxAgeHours: Annotated[int, Field(ge=1, le=24 * 366)]  # noqa: N815

    @model_validator(mode="after")
    def _policy_is_usable(self) -> Self:
        try:
            parse_log_policy(self.policy.encode())
        except Malformed as error:
            raise ValueError(str(error)) from None
        return self


class Policy(Strict):
    type: Literal["eocat-policy/v1"]
    version: Annotated[int, Field(ge=1, le=1 << 31)]
    expires: Time
    keys: Annotated[list[TrustedKey], Field(max_length=1024)]
    thresholds: dict[Role, Annotated[int, Field(ge=1, le=16)]]
    log: LogTrust | None = None
    cdse: Annotated[list[Pin], Field(max_length=64, default_factory=list)]  # whose Copernicus traces count
    tolerances: Annotated[dict[Precision, Cap], Field(default_factory=dict)]  # how far rows made again may be

    @model_validator(mode="after")
    def _keys_are_usable(self) -> Self:
        """Refuse bad keys, one key under two names, and thresholds that no set of keys could meet."""
        try:
            keys = [key for entry in self.keys for key in entry.public_keys]
        except Malformed as error:
            raise ValueError(str(error)) from None
        for entry in self.keys:
            if [key.algorithm for key in entry.public_keys] not in (["ed25519"], ["ed25519", "ml-dsa-44"]):
                raise ValueError(f"entry {entry.name[:40]!r} has not an ed25519 key and an ml-dsa-44 partner")
        ids = [key.key_id for key in keys]
        if len(set(ids)) != len(ids):
            raise ValueError("one public key stands twice")
        for role, threshold in self.thresholds.items():
            if threshold > sum(role in entry.roles for entry in self.keys):
                raise ValueError(f"threshold {threshold} of role {role} is above its number of keys")
        return self

    @property
    def public_keys(self) -> dict[str, PublicKey]:
        """Derived key id → key, partners among them."""
        return {key.key_id: key for entry in self.keys for key in entry.public_keys}

    def signers(self, key_ids: Collection[str]) -> list[TrustedKey]:
        """The entries whose every key is among `key_ids`: a signature without its partner's is none."""
        return [entry for entry in self.keys if all(key.key_id in key_ids for key in entry.public_keys)]

    @property
    def caps(self) -> dict[str, int]:
        """Precision → how far a row made again may be, at most, in parts per billion (closeness.py)."""
        return CAPS | dict(self.tolerances.items())

    @property
    def required_level(self) -> int:
        """What must be reached where the user asks for no other level (docs/format.md, section 7)."""
        return 3 if self.log else 2

    def threshold(self, role: Role) -> int:
        return self.thresholds.get(role, 1)


def draft_policy(
    keys: Mapping[str, PublicKey],
    collections: Sequence[str],
    start: datetime,
    days: int,
    *,
    partners: Mapping[str, PublicKey] | None = None,
    registrars: Mapping[str, PublicKey] | None = None,
    log: LogTrust | None = None,
) -> bytes:
    """A policy file that trusts `keys` (name → key) as producers of `collections` for `days` from `start`.

    partners: name → ML-DSA-44 key, for the names whose second signature is required. registrars: keys of
    catalogues. log: the log that items must be in.
    """
    end = format_time(start + timedelta(days=days))
    entries = [
        {
            "name": name,
            "key": format_key(key),
            **({"partner": format_key(partners[name])} if partners and name in partners else {}),
            "roles": [role],
            "collections": sorted(set(collections)),
            "notBefore": format_time(start),
            "notAfter": end,
            "compromisedSince": None,
        }
        for role, members in (("producer", keys), ("registrar", registrars or {}))
        for name, key in members.items()
    ]
    policy = {
        "type": "eocat-policy/v1",
        "version": 1,
        "expires": end,
        "keys": entries,
        "thresholds": {"producer": 1},
        **({"log": log.model_dump()} if log else {}),
    }
    data = json.dumps(policy, indent=2).encode() + b"\n"
    parse_policy(data)
    return data


def parse_policy(data: bytes) -> Policy:
    return validated(Policy, canonical.parse(data, what="policy"), what="policy")


def read_policy(path: Path) -> Policy:
    """The policy in the file `path`; ConfigError if it cannot be read, Malformed if it is not one."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"trust policy {path} cannot be read: {error.strerror}",
            hint="name a policy with --trust FILE, or make one with 'eocat trust init KEY.pub'",
        ) from None
    return parse_policy(data)
