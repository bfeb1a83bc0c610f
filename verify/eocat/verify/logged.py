"""Step 6: the item's events are in a log that the policy trusts, and its head is in the newest head map.

    1 the checkpoints  signed by a listed log; the newest cosigned by a quorum of witnesses
    2 the log proof    every event is included, and the newest head map names the last of them
    3 freshness        the witnesses' time is within the policy's maximum age

The time that judges a key is the witnesses' too: when a quorum had first seen, as far as is shown, a tree
that holds the event. Whoever chooses what is shown can only make that later: a tree holds what it holds, and
a quorum's time is no one witness's. So an older checkpoint without this policy's quorum is no error; it just
says nothing. (Later never helps a key that has ended. It can help one whose time had not begun, which a
signature alone never showed either: whoever holds the key can sign again.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from .errors import Malformed
from .history import Status
from .log.checkpoint import Checkpoint
from .log.entry import entry_of, format_entry
from .log.heads import Heads, format_heads
from .log.item_proof import LogProofFailed, check_log_proof, parse_item_proof
from .log.note import Note, format_note, parse_note, signed_by
from .log.quorum import Judged, LogPolicy, parse_log_policy
from .policy import LogTrust
from .report import Outcome, Step
from .statement import format_time


@dataclass(frozen=True, slots=True)
class Proven:
    """The newest checkpoint, and the entries that its tree holds: the item's events and the head map."""

    checkpoint: Checkpoint
    entries: Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class Logged:
    """The step; where witnesses cosigned, also when they had seen each event, and what they signed last."""

    step: Step
    seen: tuple[datetime, ...] = ()  # never earlier for a later event
    checkpoint: str | None = None
    proven: Proven | None = None  # what the proof has shown of the log, where the step holds


def check_logged(
    proof: bytes | None, envelopes: Sequence[bytes], status: Status, trust: LogTrust | None, now: datetime
) -> Logged:
    """proof: the item's log proof document (docs/format.md, section 10); envelopes: in order of seq."""
    if trust is None:
        return Logged(Step("log", "not checked: the policy names no log", checked=False))
    if proof is None:
        return Logged(Step("log", "not checked: no log proof came with the item", checked=False))
    policy = parse_log_policy(trust.policy.encode())
    try:
        document = parse_item_proof(proof)
        judged = [policy.judge(one.note.encode(), now) for one in document.checkpoints]
        if (failed := check_checkpoints(judged)) is not None:
            return Logged(failed)
        entries = [entry_of(envelope) for envelope in envelopes]
        check_log_proof(document, entries, status, [one.checkpoint for one in judged])
    except Malformed as error:
        return Logged(Step("log", str(error), Outcome.MALFORMED))
    except LogProofFailed as error:
        return Logged(Step("log", str(error), error.outcome))
    newest = judged[-1]
    where = f"#{document.events[-1].index} of {newest.checkpoint.size} in {newest.checkpoint.origin}"
    if newest.as_of is None:
        return Logged(check_age(where, newest, policy, trust, now))
    times = _witnessed(judged)
    seen = tuple(times[event.checkpoint] for event in document.events)
    step = check_age(f"{where}, seen {format_time(seen[-1])}", newest, policy, trust, now)
    if step.outcome is not None:
        return Logged(step, seen)
    held = {place.index: format_entry(entry) for place, entry in zip(document.events, entries, strict=True)}
    top = document.heads.collections
    held[document.heads.index] = format_heads(Heads(top.count, top.root))
    return Logged(
        step, seen, _reduced(document.checkpoints[-1].note, policy), Proven(newest.checkpoint, held)
    )


def _reduced(note: str, policy: LogPolicy) -> str:
    """The note with nothing but the witnesses' own lines, in one order: it draws rows (draw.py).

    Whoever shows it must not choose them by strangers' lines, or the log by signing once more.
    """
    parsed = parse_note(note.encode())
    lines = {line for _, line in signed_by(parsed, [one.key for one in policy.witnesses]).valid}
    ordered = sorted(lines, key=lambda line: (line.name, line.key_id, line.body))
    return format_note(Note(parsed.text, tuple(ordered))).decode()


def check_age(what: str, newest: Judged, policy: LogPolicy, trust: LogTrust, now: datetime) -> Step:
    """Step 3, with what has been found out."""
    if newest.as_of is None:
        return Step("log", f"{what}, but the policy asks no witness, so its age is unknown", checked=False)
    age = max(now - newest.as_of, timedelta())
    limit = timedelta(hours=trust.maxAgeHours)
    text = (
        f"{what}, {len(newest.witnesses)}/{len(policy.witnesses)} witnesses, "
        f"age {_duration(age)} (at most {_duration(limit)})"
    )
    return Step("log", text, Outcome.STALE if age > limit else None)


def check_checkpoints(judged: Sequence[Judged]) -> Step | None:
    """Of an older one, a listed log's signature is asked, and that nothing in it is forged."""
    for one in judged:
        if one.forged:
            return Step("log", f"the signature of {', '.join(one.forged)} is invalid", Outcome.FORGED)
        if not one.log_key_ok:
            return Step("log", f"no log of the policy signed {one.checkpoint.origin}", Outcome.UNTRUSTED)
    if not judged[-1].quorum_met:
        found = ", ".join(sorted(judged[-1].witnesses)) or "none"
        return Step("log", f"the witnesses are no quorum of the policy: {found}", Outcome.UNTRUSTED)
    return None


def _witnessed(judged: Sequence[Judged]) -> list[datetime]:
    """By when a quorum had seen each checkpoint's tree: its own word, or one on a tree that contains it."""
    times: list[datetime] = []
    for one in reversed(judged):
        times += [min(time for time in (one.existed_by, *times[-1:]) if time is not None)]
    return times[::-1]


def _duration(span: timedelta) -> str:
    minutes = int(span.total_seconds() // 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"
