"""The trust policy: which keys may sign what, for which collections, and when (docs/format.md, section 6).

It is given by the user (`--trust`, or `trust/policy.json` under the home folder) and comes from nowhere
else: not from the item, the API or the current folder. There is no trust on first use.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from . import canonical
from .errors import ConfigError, Malformed
from .keys import PublicKey, format_key, parse_key
from .statement import Identifier, Text, Time, _Strict, format_time, parse_time, validated

Role = Literal["producer", "registrar", "curator", "mirror"]
ANY_COLLECTION = "*"


class TrustedKey(_Strict):
    """One key, what it may do and from when to when (`[notBefore, notAfter)`)."""

    name: Text
    key: Text  # ed25519:<base64>
    roles: Annotated[list[Role], Field(min_length=1)]
    collections: Annotated[list[Identifier | Literal["*"]], Field(min_length=1)]
    notBefore: Time  # noqa: N815
    notAfter: Time  # noqa: N815
    compromisedSince: Time | None  # noqa: N815

    @property
    def public(self) -> PublicKey:
        return parse_key(self.key)

    def may(self, role: str, collection: str) -> bool:
        return role in self.roles and (ANY_COLLECTION in self.collections or collection in self.collections)

    def valid_at(self, moment: datetime) -> bool:
        """Whether the key may have signed at `moment`, a time that the signer did not choose."""
        if self.compromisedSince is not None and moment >= parse_time(self.compromisedSince):
            return False
        return parse_time(self.notBefore) <= moment < parse_time(self.notAfter)


class Policy(_Strict):
    type: Literal["eocat-policy/v1"]
    version: Annotated[int, Field(ge=1, le=1 << 31)]
    expires: Time
    keys: Annotated[list[TrustedKey], Field(max_length=1024)]
    thresholds: dict[Role, Annotated[int, Field(ge=1, le=16)]]

    @model_validator(mode="after")
    def _keys_are_usable(self) -> Self:
        """Refuse bad keys, one key under two names, and thresholds that no set of keys could meet."""
        try:
            ids = [entry.public.key_id for entry in self.keys]
        except Malformed as error:
            raise ValueError(str(error)) from None
        if len(set(ids)) != len(ids):
            raise ValueError("one public key stands twice")
        for role, threshold in self.thresholds.items():
            if threshold > sum(role in entry.roles for entry in self.keys):
                raise ValueError(f"threshold {threshold} of role {role} is above its number of keys")
        return self

    @property
    def public_keys(self) -> dict[str, PublicKey]:
        """Derived key id → key."""
        return {entry.public.key_id: entry.public for entry in self.keys}

    def entry(self, key_id: str) -> TrustedKey:
        return next(entry for entry in self.keys if entry.public.key_id == key_id)

    def threshold(self, role: Role) -> int:
        return self.thresholds.get(role, 1)


def draft_policy(
    keys: Mapping[str, PublicKey], collections: Sequence[str], start: datetime, days: int
) -> bytes:
    """A policy file that trusts `keys` (name → key) as producers of `collections` for `days` from `start`."""
    end = format_time(start + timedelta(days=days))
    entries = [
        {
            "name": name,
            "key": format_key(key),
            "roles": ["producer"],
            "collections": sorted(set(collections)),
            "notBefore": format_time(start),
            "notAfter": end,
            "compromisedSince": None,
        }
        for name, key in keys.items()
    ]
    policy = {
        "type": "eocat-policy/v1",
        "version": 1,
        "expires": end,
        "keys": entries,
        "thresholds": {"producer": 1},
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
