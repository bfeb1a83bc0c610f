"""Whose word on a log is enough: the log policy and its quorum of witnesses (C2SP tlog-policy).

    log <vkey> [<url>]
    witness <name> <vkey> [<url>]
    group <name> any|all|<k> <member> …
    quorum <name>|none

Stricter than the specification in three places: names and keys are UTF-8, and one key cannot be both a log's
and a witness's, for a log that cosigns itself is witnessed by nobody.
"""

import re
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from datetime import UTC, datetime

from ..errors import Malformed
from .checkpoint import Checkpoint, parse_checkpoint
from .cosignature import cosignature_time
from .note import (
    COSIGNATURE,
    ED25519,
    VerifierKey,
    format_vkey,
    parse_decimal,
    parse_note,
    parse_vkey,
    signed_by,
)

NONE = "none"
CLOCK_SKEW_S = 300  # a cosignature further ahead of the verifier's clock is not counted
MAX_POLICY_BYTES = 1 << 16
MAX_MEMBERS = 64  # logs, witnesses, groups: each
_NOT_ALLOWED = re.compile(rb"[^\t\n\x20-\x7e\x80-\xff]")
_FIELD = re.compile(rb"[^ \t]+")
_NAME = re.compile(r"[^\x00-\x20\x7f]+")


@dataclass(frozen=True, slots=True)
class Log:
    key: VerifierKey  # its name is the log's origin
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Witness:
    name: str  # in the policy only; the key has its own
    key: VerifierKey
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    name: str
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """What a log policy makes of a checkpoint. Times are the witnesses', not the log's.

    as_of: a quorum says that the tree was the log's newest then or later. No single witness can move it on.
    existed_by: a quorum says that the tree existed then or earlier. No single witness can move it back.
    Both are None if there is no quorum, or the policy asks for none.
    """

    checkpoint: Checkpoint
    log_key_ok: bool  # a listed log with this origin signed it
    witnesses: Mapping[str, datetime]  # by name in the policy: the latest of its valid cosignatures
    quorum_met: bool
    as_of: datetime | None
    existed_by: datetime | None
    forged: tuple[str, ...]  # key names on lines under a known name and key id that no such key signed
    early: tuple[str, ...]  # witnesses with a valid cosignature from the future, which is not counted


@dataclass(frozen=True, slots=True)
class LogPolicy:
    """A policy that exists is usable: each key stands once, each name counts in one way only."""

    logs: tuple[Log, ...]
    witnesses: tuple[Witness, ...]
    groups: tuple[Group, ...]
    quorum: str

    def __post_init__(self) -> None:
        if max(len(self.logs), len(self.witnesses), len(self.groups)) > MAX_MEMBERS:
            raise Malformed(f"log policy has more than {MAX_MEMBERS} logs, witnesses or groups")
        _check_keys(self.logs, self.witnesses)
        for url in [log.url for log in self.logs] + [witness.url for witness in self.witnesses]:
            if url is not None and not _NAME.fullmatch(url):
                raise Malformed(f"log policy's address {url[:80]!r} is empty or holds a space")
        defined: set[str] = {NONE}
        for name in (witness.name for witness in self.witnesses):
            _define(name, defined)
        listed: set[str] = set()
        for group in self.groups:
            _check_group(group, defined, listed)
            _define(group.name, defined)
        if self.quorum not in defined:
            raise Malformed(
                f"log policy's quorum {self.quorum[:80]!r} is no witness or group defined before it"
            )

    def judge(self, data: bytes, now: datetime) -> Judged:
        """The verdict on the signed checkpoint `data`; Malformed if it is none."""
        note = parse_note(data)
        checkpoint = parse_checkpoint(note.text)
        names = {witness.key: witness.name for witness in self.witnesses}
        signed = signed_by(note, (*(log.key for log in self.logs), *names))
        times: dict[str, list[int]] = {}
        early: dict[str, None] = {}
        for key, line in signed.valid:
            if key in names and (time_s := cosignature_time(line.body)) is not None:
                if time_s <= now.timestamp() + CLOCK_SKEW_S:
                    times.setdefault(names[key], []).append(time_s)
                else:
                    early[names[key]] = None
        latest = {name: max(each) for name, each in times.items()}
        earliest = {name: min(each) for name, each in times.items()}
        return Judged(
            checkpoint,
            any(key.kind == ED25519 and key.name == checkpoint.origin for key, _ in signed.valid),
            {name: _utc(time_s) for name, time_s in latest.items()},
            self.met_by(latest.keys()),
            self._first(
                sorted(latest.values(), reverse=True), lambda at: {n for n in latest if latest[n] >= at}
            ),
            self._first(sorted(earliest.values()), lambda at: {n for n in earliest if earliest[n] <= at}),
            tuple(dict.fromkeys(line.name for line in signed.forged)),
            tuple(early),
        )

    def met_by(self, cosigned: Set[str]) -> bool:
        """Whether these witnesses, by their names in the policy, are a quorum."""
        groups = {group.name: group for group in self.groups}

        def witnessed(name: str) -> bool:
            if group := groups.get(name):
                return sum(map(witnessed, group.members)) >= group.threshold
            return name in cosigned

        return self.quorum == NONE or witnessed(self.quorum)

    def _first(self, times: list[int], present: Callable[[int], Set[str]]) -> datetime | None:
        """The first of `times` at which the witnesses `present` are a quorum."""
        if self.quorum == NONE:
            return None
        return next((_utc(time_s) for time_s in times if self.met_by(present(time_s))), None)


def parse_log_policy(data: bytes) -> LogPolicy:
    """The policy in the text `data`, which the user gave; Malformed names the line that is wrong."""
    if len(data) > MAX_POLICY_BYTES:
        raise Malformed(f"log policy has {len(data)} bytes, at most {MAX_POLICY_BYTES}")
    if _NOT_ALLOWED.search(data) or not data.endswith(b"\n"):
        raise Malformed("log policy holds a control character, or its last line does not end in a newline")
    logs: list[Log] = []
    witnesses: list[Witness] = []
    groups: list[Group] = []
    quorum: str | None = None
    defined = {NONE}
    for number, line in enumerate(data[:-1].split(b"\n"), 1):
        if line.lstrip(b" \t").startswith(b"#"):
            continue
        match _fields(line, number):
            case []:
                continue
            case ["log", vkey, *url] if len(url) <= 1:
                logs.append(Log(parse_vkey(vkey), *url))
            case ["witness", name, vkey, *url] if len(url) <= 1:
                witnesses.append(Witness(name, parse_vkey(vkey), *url))
                defined.add(name)
            case ["group", name, rule, *members] if members and defined.issuperset(members):
                groups.append(Group(name, _threshold(rule, len(members)), tuple(members)))
                defined.add(name)
            case ["quorum", name] if quorum is None and name in defined:
                quorum = name
            case [keyword, *_]:
                raise Malformed(
                    f"log policy line {number} is no valid {keyword[:40]!r} line",
                    hint="log VKEY [URL], witness NAME VKEY [URL], group NAME any|all|K MEMBER…, "
                    "one quorum NAME|none; members and the quorum are defined on lines before",
                )
    if quorum is None:
        raise Malformed("log policy has no quorum line", hint="'quorum none' asks for no witness")
    return LogPolicy(tuple(logs), tuple(witnesses), tuple(groups), quorum)


def format_log_policy(policy: LogPolicy) -> bytes:
    lines = [["log", format_vkey(log.key), log.url or ""] for log in policy.logs]
    lines += [["witness", each.name, format_vkey(each.key), each.url or ""] for each in policy.witnesses]
    lines += [["group", each.name, str(each.threshold), *each.members] for each in policy.groups]
    lines.append(["quorum", policy.quorum])
    return "".join(" ".join(filter(None, line)) + "\n" for line in lines).encode()


def _fields(line: bytes, number: int) -> list[str]:
    try:
        return [field.decode() for field in _FIELD.findall(line)]
    except UnicodeDecodeError:
        raise Malformed(f"log policy line {number} is not UTF-8") from None


def _threshold(rule: str, members: int) -> int:
    if rule == "any":
        return 1
    return members if rule == "all" else parse_decimal(rule, limit=members, what="log policy's threshold")


def _check_keys(logs: tuple[Log, ...], witnesses: tuple[Witness, ...]) -> None:
    """The right type each, and no public key twice: under two names it would be two witnesses."""
    keys = [(log.key, ED25519) for log in logs] + [(witness.key, COSIGNATURE) for witness in witnesses]
    seen: set[bytes] = set()
    for key, kind in keys:
        if key.kind != kind:
            raise Malformed(f"log policy's key {key.name} has type {key.kind:#04x}, expected {kind:#04x}")
        if key.public.raw in seen:
            raise Malformed(f"log policy's key {key.name} is the public key of another line, too")
        seen.add(key.public.raw)


def _check_group(group: Group, defined: set[str], listed: set[str]) -> None:
    """Members are known, and each is listed once in the whole policy: so a witness counts in one way only."""
    for member in group.members:
        if member == NONE or member not in defined:
            raise Malformed(
                f"log policy's group {group.name} lists {member[:80]!r}, which is not defined before it"
            )
        if member in listed:
            raise Malformed(f"log policy lists {member} as a member twice, so it would count twice")
        listed.add(member)
    if not 1 <= group.threshold <= len(group.members):
        raise Malformed(f"log policy's group {group.name} asks for {group.threshold} of {len(group.members)}")


def _define(name: str, defined: set[str]) -> None:
    if name in defined or not _NAME.fullmatch(name):
        raise Malformed(f"log policy's name {name[:80]!r} is defined twice, or holds a space")
    defined.add(name)


def _utc(time_s: int) -> datetime:
    return datetime.fromtimestamp(time_s, UTC)
