"""Step 6: the item's events are in a log that the policy trusts, and its head is in the newest head map.

    1 the checkpoint   signed by a listed log, cosigned by a quorum of witnesses
    2 the log proof    every event is included, and the newest head map names the last of them
    3 freshness        the witnesses' time is within the policy's maximum age

The time that judges the keys is the witnesses' too: when a quorum had seen the tree that holds the events.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from .errors import Malformed
from .history import Status
from .log.entry import entry_of
from .log.item_proof import LogProofFailed, check_log_proof, parse_item_proof
from .log.quorum import Judged, parse_log_policy
from .policy import LogTrust
from .report import Outcome, Step


@dataclass(frozen=True, slots=True)
class Logged:
    """The step; where witnesses cosigned, also the time by which they had seen the events, and the note."""

    step: Step
    seen_by: datetime | None = None
    checkpoint: str | None = None


def check_logged(
    proof: bytes | None, envelopes: Sequence[bytes], status: Status, trust: LogTrust | None, now: datetime
) -> Logged:
    """proof: the item's log proof document (docs/format.md, section 10); envelopes: in order of seq."""
    if trust is None:
        return Logged(Step("log", "not checked: the policy names no log", checked=False))
    if proof is None:
        return Logged(Step("log", "not checked: no log proof came with the item", checked=False))
    try:
        document = parse_item_proof(proof)
        judged = parse_log_policy(trust.policy.encode()).judge(document.checkpoint.encode(), now)
        if (failed := _check_checkpoint(judged)) is not None:
            return Logged(failed)
        entries = [entry_of(envelope) for envelope in envelopes]
        last = check_log_proof(document, entries, status, judged.checkpoint)
    except Malformed as error:
        return Logged(Step("log", str(error), Outcome.MALFORMED))
    except LogProofFailed as error:
        return Logged(Step("log", str(error), error.outcome))
    size, origin = judged.checkpoint.size, judged.checkpoint.origin
    where = f"#{last.index} of {size} in {origin}"
    if judged.as_of is None:
        return Logged(
            Step("log", f"{where}, but the policy asks no witness, so its age is unknown", checked=False)
        )
    age = max(now - judged.as_of, timedelta())
    limit = timedelta(hours=trust.maxAgeHours)
    text = f"{where}, {len(judged.witnesses)} witnesses, age {_duration(age)} (at most {_duration(limit)})"
    if age > limit:
        return Logged(Step("log", text, Outcome.STALE), judged.existed_by)
    return Logged(Step("log", text), judged.existed_by, document.checkpoint)


def _check_checkpoint(judged: Judged) -> Step | None:
    if judged.forged:
        return Step("log", f"the signature of {', '.join(judged.forged)} is invalid", Outcome.FORGED)
    if not judged.log_key_ok:
        return Step("log", f"no log of the policy signed {judged.checkpoint.origin}", Outcome.UNTRUSTED)
    if not judged.quorum_met:
        found = ", ".join(sorted(judged.witnesses)) or "none"
        return Step("log", f"the witnesses are no quorum of the policy: {found}", Outcome.UNTRUSTED)
    return None


def _duration(span: timedelta) -> str:
    minutes = int(span.total_seconds() // 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"
