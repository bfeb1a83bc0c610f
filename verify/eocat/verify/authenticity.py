"""Who signed an item's events, what they come to, and whether a witnessed log holds them: steps 1, 2 and 6.

Where witnesses say when they had seen an event, that time judges its keys, else the verifier's own;
registrars and mirrors are judged only where the policy names a log.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from .attested import check_receipts
from .dsse import PAYLOAD_TYPE, Envelope, parse_envelope
from .events import AnyStatement, parse_event
from .history import ROLES, BrokenHistory, History, Status, replay
from .logged import Proven, check_logged
from .policy import Policy, Role, TrustedKey
from .report import Outcome, Step
from .statement import Create, Statement, parse_time


@dataclass(frozen=True, slots=True)
class Trust:
    """An attested item: its first statement, and the three steps that say how far its envelopes go.

    replayed: what its events come to; None where they are broken after the CREATE.
    """

    statement: Statement
    signature: Step
    history: Step
    log: Step
    replayed: History | None = None
    seen_by: datetime | None = None  # when witnesses had seen the CREATE
    checkpoint: str | None = None  # the newest cosigned note, where the log step holds
    proven: Proven | None = None  # what was shown of the log
    receipts: Step | None = None  # what auditors say (attested.py)

    @property
    def create(self) -> Create:
        return self.statement.predicate


def check_envelopes(
    envelopes: tuple[bytes, ...],
    policy: Policy,
    now: datetime,
    log_proof: bytes | None = None,
    seen: Sequence[datetime] = (),
) -> Trust:
    """Steps 1, 2 and 6; Malformed if an envelope is not readable, BrokenHistory if the first is no CREATE."""
    parsed = [parse_envelope(data) for data in envelopes]
    statements = [parse_event(envelope.payload) for envelope in parsed]
    create = statements[0]
    if not isinstance(create, Statement):
        raise BrokenHistory(f"the first event is {create.predicate.event}, not CREATE")
    collection = create.predicate.item.split("/")[0]
    try:
        replayed = replay([(one.payload_digest, two) for one, two in zip(parsed, statements, strict=True)])
    except BrokenHistory as error:
        signature, _ = _check_events(parsed, statements, policy, collection, now, [now] * len(parsed))
        broken = Step("history", str(error), Outcome.HISTORY_BROKEN)
        return Trust(create, signature, broken, Step("log", "not checked: no history", checked=False))
    logged = check_logged(log_proof, envelopes, replayed.status, policy.log, now)
    moments = logged.seen or [*seen, *[now] * (len(parsed) - len(seen))]
    signature, auditors = _check_events(parsed, statements, policy, collection, now, moments)
    return Trust(
        create,
        signature,
        _history_step(statements, replayed),
        logged.step,
        replayed,
        logged.seen[0] if logged.seen else None,
        logged.checkpoint,
        logged.proven,
        check_receipts(list(zip(replayed.receipts, auditors, strict=True))),
    )


def _check_events(
    envelopes: list[Envelope],
    statements: list[AnyStatement],
    policy: Policy,
    collection: str,
    now: datetime,
    moments: Sequence[datetime],
) -> tuple[Step, list[Step]]:
    """Step 1 over the events, each at its moment; the CREATE's text, or what is wrong with one.

    Without a log nobody need be trusted for a REGISTER or COPY: it says nothing about the item's content. An
    auditor need never be; the verdicts on the ATTESTs are the second answer.
    """
    steps: list[Step] = []
    auditors: list[Step] = []
    for envelope, statement, moment in zip(envelopes, statements, moments, strict=True):
        roles = ROLES[statement.predicate.event]
        tried = [check_signatures(envelope, policy, role, collection, now, moment) for role in roles]
        step = next((step for step in tried if step.outcome is None), tried[0])
        if "auditor" in roles:
            auditors.append(step)
        needed = policy.log is not None and "auditor" not in roles
        if "producer" in roles or needed or step.outcome is Outcome.FORGED:
            steps.append(step)
    return next((step for step in steps if step.outcome is not None), steps[0]), auditors


def _history_step(statements: list[AnyStatement], replayed: History) -> Step:
    text = " → ".join(f"{one.predicate.event} {one.predicate.seq}" for one in statements)
    text = f"{text} of {replayed.create.item}, {replayed.status.value}"
    match replayed.status:
        case Status.WITHDRAWN:
            return Step("history", f"{text}: {replayed.reason}", Outcome.WITHDRAWN)
        case Status.SUPERSEDED:
            return Step("history", f"{text} by {replayed.successor}", Outcome.SUPERSEDED)
        case Status.OBSOLETE:
            return Step("history", f"{text}: {replayed.reason}", Outcome.SUPERSEDED)
    return Step("history", f"{text}, claimed {replayed.create.claimedAt}")


def check_signatures(
    envelope: Envelope,
    policy: Policy,
    role: Role,
    collection: str,
    now: datetime,
    moment: datetime | None = None,
) -> Step:
    """Step 1 of one event. moment: the witnessed time that judges its keys, by default the verifier's now."""
    moment = moment or now

    def failed(outcome: Outcome, text: str) -> Step:
        return Step("signature", text, outcome)

    verdicts = envelope.verdicts(policy.public_keys)
    for key_id, valid in sorted(verdicts.items()):
        if not valid:
            return failed(Outcome.FORGED, f"the signature of key {key_id[:16]} is invalid")
    if envelope.payload_type != PAYLOAD_TYPE:
        return failed(Outcome.MALFORMED, f"payload type {envelope.payload_type[:80]!r} is not {PAYLOAD_TYPE}")
    if now >= parse_time(policy.expires):
        return failed(Outcome.STALE, f"the trust policy expired at {policy.expires}")
    authorised = [entry for entry in policy.signers(verdicts) if entry.may(role, collection)]
    if len(authorised) < (threshold := policy.threshold(role)):
        claimed = ", ".join(signature.key_id[:16] or "no id" for signature in envelope.signatures)
        return failed(
            Outcome.UNTRUSTED,
            f"{len(authorised)} of {threshold} signatures by a trusted {role} key for {collection} "
            f"(signed by {claimed})",
        )
    in_time = [entry for entry in authorised if entry.valid_at(moment)]
    if len(in_time) < threshold:
        late = next(entry.name for entry in authorised if entry not in in_time)
        return failed(Outcome.KEY_INVALID_AT_TIME, f"key {late} was not valid at {moment:%Y-%m-%dT%H:%M:%SZ}")
    return Step("signature", ", ".join(f"{role} {entry.name} {_key_names(entry)}" for entry in in_time))


def _key_names(entry: TrustedKey) -> str:
    return " + ".join(f"{key.algorithm} {key.key_id[:16]}" for key in entry.public_keys)


def level_of(*stages: list[Step]) -> int:
    """How many stages in a row passed whole."""
    level = 0
    for steps in stages:
        if any(step.outcome is not None or not step.checked for step in steps):
            break
        level += 1
    return level
