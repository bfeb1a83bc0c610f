"""The user's trust folder: the policy in force, and the memory that lets nobody turn it back.

    policy.json            the user's own policy, unsigned: in force where no root is pinned
    <version>.root.json    the pinned root, and those that followed it
    policy.signed.json     the policy that the root's policy keys have signed (DSSE)
    memory.json            the newest root and policy that were trusted, by version and digest

Roots and signed policy may come from anywhere (a mirror, a checkout): both are verified whenever they are
read. Only `memory.json` is this machine's own. It is written last, by renaming, and moves forward only, so a
crash between two files costs nothing: the next `load` goes the same way again (TUF, 5.3; docs/format.md, 6).
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from . import canonical
from .dsse import MAX_ENVELOPE_BYTES, parse_envelope
from .errors import ConfigError, Stale, Untrusted, UsageError
from .evidence import read_limited
from .home import trust_folder
from .policy import Policy, read_policy
from .root import (
    MAX_ROOT_BYTES,
    Root,
    check_current,
    check_signed,
    follow,
    format_root,
    parse_root,
    verified_policy,
)
from .statement import Hex32, Strict, validated

OWN_POLICY, SIGNED_POLICY, MEMORY = "policy.json", "policy.signed.json", "memory.json"


class Seen(Strict):
    version: Annotated[int, Field(ge=1, le=1 << 31)]
    sha256: Hex32

    def check(self, what: str, version: int, digest: str) -> None:
        """Raise Stale for something older than this, Untrusted for another thing of the same version."""
        if version < self.version:
            raise Stale(
                f"{what} {version} is older than version {self.version}, which was seen before",
                hint="eocat trust update, with the newest files from their publisher",
            )
        if version == self.version and digest != self.sha256:
            raise Untrusted(f"{what} {version} is not the one of that version that was seen before")


class Memory(Strict):
    type: Literal["eocat-trust-memory/v1"]
    root: Seen
    policy: Seen | None


class TrustStore:
    """The trust folder `folder`. Its methods raise Malformed, Forged, Untrusted, Stale and ConfigError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def pinned(self) -> bool:
        """Whether a root rules here; otherwise the user's own policy does."""
        return (self.folder / MEMORY).exists()

    def pin(self, data: bytes) -> Root:
        """Trust a first root, which the user has compared with its publisher: nothing here can."""
        for name in (MEMORY, OWN_POLICY):
            if (self.folder / name).exists():
                raise ConfigError(
                    f"{self.folder / name} exists: there is a trust in force already",
                    hint="'eocat trust update' follows a pinned root; to begin anew, move the folder away",
                )
        root = parse_root(data)
        check_signed(root, root)
        self._write(f"{root.version}.root.json", format_root(root))
        self._remember(Memory(type="eocat-trust-memory/v1", root=_seen(root), policy=None))
        return root

    def load(self, now: datetime) -> Policy:
        """The signed policy in force at `now`; what is newer than before is remembered."""
        memory, root = self._follow()
        check_current(root, now)
        if not (self.folder / SIGNED_POLICY).exists():
            raise ConfigError(
                f"there is no {SIGNED_POLICY} in {self.folder}",
                hint=f"eocat trust update {SIGNED_POLICY}",
            )
        policy, seen = _judge_policy(self._read(SIGNED_POLICY, MAX_ENVELOPE_BYTES), root, memory)
        if seen != memory.policy:
            self._remember(memory.model_copy(update={"policy": seen}))
        return policy

    def update(self, documents: Sequence[bytes], now: datetime) -> Policy:
        """The policy in force after roots and a signed policy, in any order, have been offered.

        Each is written only after it has been verified. Older roots than the one trusted may be among them,
        as in a publisher's folder, but the newest may not be older.
        """
        values = [
            canonical.parse(data, what="trust document", limit_bytes=MAX_ENVELOPE_BYTES) for data in documents
        ]
        is_policy = [isinstance(value, dict) and "payload" in value for value in values]
        if sum(is_policy) > 1:
            raise UsageError("more than one signed policy is offered", hint="name the newest")
        _, root = self._follow()
        offered = sorted(
            (parse_root(data) for data, policy in zip(documents, is_policy, strict=True) if not policy),
            key=lambda offer: offer.version,
        )
        for new in [offer for offer in offered if offer.version >= root.version] or offered[-1:]:
            root = follow(root, new)
            self._write(f"{root.version}.root.json", format_root(root))
        memory, root = self._follow()
        for data, policy in zip(documents, is_policy, strict=True):
            if policy:
                _judge_policy(data, root, memory)
                self._write(SIGNED_POLICY, data)
        return self.load(now)

    def documents(self) -> tuple[tuple[bytes, ...], bytes | None]:
        """(roots by version, signed policy) as they lie here, for others to verify; none without a pin."""
        if not self.pinned:
            return (), None
        versions = sorted(
            int(path.name.partition(".")[0])
            for path in self.folder.glob("*.root.json")
            if path.name.partition(".")[0].isdecimal()
        )
        roots = tuple(self._read(f"{version}.root.json", MAX_ROOT_BYTES) for version in versions)
        signed = (self.folder / SIGNED_POLICY).exists()
        return roots, self._read(SIGNED_POLICY, MAX_ENVELOPE_BYTES) if signed else None

    def root(self) -> Root:
        """The newest root, whether or not it has expired."""
        return self._follow()[1]

    def _follow(self) -> tuple[Memory, Root]:
        """The memory and the newest root, reached from the remembered one version by version."""
        data = self._read(MEMORY, canonical.MAX_BYTES)
        before = memory = validated(Memory, canonical.parse_canonical(data, what=MEMORY), what=MEMORY)
        root = self._remembered_root(memory.root)
        while (self.folder / (name := f"{root.version + 1}.root.json")).exists():
            new = follow(root, parse_root(self._read(name, MAX_ROOT_BYTES)))
            if new.version == root.version:  # the same root again: the way would never end
                raise Untrusted(f"{self.folder / name} holds trust root {new.version}")
            # Who has lost the policy role may have signed a version that no honest one could exceed: then the
            # memory of it would lock the user out. TUF, 5.3.11.
            recovered = not root.keys("policy").keys() <= new.keys("policy").keys()
            memory = Memory(type=memory.type, root=_seen(new), policy=None if recovered else memory.policy)
            root = new
        if memory != before:
            self._remember(memory)
        return memory, root

    def _remembered_root(self, seen: Seen) -> Root:
        name = f"{seen.version}.root.json"
        if not (self.folder / name).exists():
            raise Stale(f"trust root {seen.version} was seen before and is not in {self.folder} any more")
        root = parse_root(self._read(name, MAX_ROOT_BYTES))
        seen.check("trust root", root.version, root.digest)
        if root.version != seen.version:
            raise Untrusted(f"{self.folder / name} holds trust root {root.version}")
        return root

    def _remember(self, memory: Memory) -> None:
        self._write(MEMORY, canonical.encode(memory.model_dump()))

    def _read(self, name: str, limit_bytes: int) -> bytes:
        return read_limited(self.folder / name, limit_bytes)

    def _write(self, name: str, data: bytes) -> None:
        """Write whole or not at all."""
        temporary = self.folder / f".{name}.{os.getpid()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(self.folder / name)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise ConfigError(f"{self.folder / name} cannot be written: {error.strerror}") from None


def load_policy(trust: Path | None, now: datetime) -> Policy:
    """The policy in force: of the file or trust folder `trust`, or (None) of the home's trust folder."""
    if trust is not None and not trust.is_dir():
        return read_policy(trust)
    folder = trust_folder() if trust is None else trust
    store = TrustStore(folder)
    if not store.pinned:
        return read_policy(folder / OWN_POLICY)
    if (folder / OWN_POLICY).exists():
        raise ConfigError(
            f"{folder} has both a pinned root and a {OWN_POLICY}: it is not clear whom you trust",
            hint=f"move {OWN_POLICY} away, or name it with --trust",
        )
    return store.load(now)


def _seen(root: Root) -> Seen:
    return Seen(version=root.version, sha256=root.digest)


def _judge_policy(data: bytes, root: Root, memory: Memory) -> tuple[Policy, Seen]:
    envelope = parse_envelope(data)
    policy = verified_policy(envelope, root)
    if memory.policy:
        memory.policy.check("signed policy", policy.version, envelope.payload_digest)
    return policy, Seen(version=policy.version, sha256=envelope.payload_digest)
