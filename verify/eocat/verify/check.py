"""The verifier: `check(evidence, policy, now) -> Report`, a pure function but for reading the named files.

The steps, each one line of the report (docs/format.md, section 7):

    1 signature  envelopes parse; enough authorised keys signed, valid at the time
    2 history    the events are a history of this item, from its CREATE on; how it ends
    3 item       the Item's projection equals the signed one
    4 bytes      every signed file is there and has its digests
    5 rows       the rows hash to the signed root; the file of row hashes is theirs
    6 log        the events are in a witnessed log, the last of them is the newest (logged.py)
    7 lineage    source scenes and weights at hand are the signed ones (lineage/gather.py)
    8 recompute  rows drawn at random are made again from the source (recompute.py)

Level 1 needs 3 to 5, level 2 also 1 and 2, and levels 3, 4 and 5 each one of the last three. Where witnesses
say when they had seen an event, that time judges its keys, else the verifier's own; registrars and mirrors
are judged only where the policy names a log. Bytes are hashed before they are parsed, and a file whose digest
is wrong is not parsed at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from . import canonical
from .attested import check_receipts
from .digest import Digests, digest_file
from .dsse import PAYLOAD_TYPE, Envelope, parse_envelope
from .errors import Malformed
from .events import AnyStatement, parse_event
from .evidence import Evidence, read_limited
from .history import ROLES, BrokenHistory, History, Status, replay
from .lineage.gather import check_lineage
from .logged import check_logged
from .merkle import build_tiles, tiles_bytes, tree_of
from .policy import Policy, Role, TrustedKey
from .projection import ATTESTATION, differences, project
from .recompute import check_recompute
from .report import Outcome, Report, Step
from .shard import Shard
from .statement import Create, Statement, parse_time

EMBEDDINGS, ROW_HASHES = "embeddings", "row-hashes"


def check(
    evidence: Evidence,
    policy: Policy,
    *,
    now: datetime,
    require: int | None = None,
    rows_only: bool = False,
    sources: Path | None = None,
    recompute: int = 0,
    seen: Sequence[datetime] = (),
) -> Report:
    """The report on an item.

    require: the level to pass; by default 3 where the policy names a log, else 2. rows_only: take any
    encoding of the signed rows, not only the signed file. sources: a folder with source scenes and weights.
    recompute: how many rows to make again. seen: when the caller had itself seen the first of the events: it
    judges their keys where no log proof does.
    """
    required = require or policy.required_level

    def report(level: int, *steps: Step, statement: Statement | None = None) -> Report:
        return Report(evidence.target, now, required, level, steps, statement)

    if ATTESTATION in evidence.missing:
        text = f"{ATTESTATION}: {evidence.missing[ATTESTATION]}"
        return report(0, Step("signature", text, Outcome.UNAVAILABLE))
    if not evidence.envelopes:
        return report(0, Step("signature", "the item has no attestation", Outcome.UNSIGNED))
    try:
        trust = check_envelopes(evidence.envelopes, policy, now, evidence.log_proof, seen)
    except Malformed as error:
        return report(0, Step("signature", str(error), Outcome.MALFORMED))
    except BrokenHistory as error:
        return report(0, Step("history", str(error), Outcome.HISTORY_BROKEN))
    item = _check_item(evidence.item, trust.replayed)
    files = _check_bytes(evidence, trust.statement, skip=EMBEDDINGS if rows_only else None)
    rows = _check_rows(evidence, files, trust.create)
    hashes = evidence.files.get(ROW_HASHES) if rows.checked and rows.outcome is None else None
    seen_by = trust.seen_by or now
    lineage = check_lineage(sources, trust.create, policy.cdse, seen_by, evidence.traces, hashes)
    again = _check_recompute(evidence, rows, trust, policy, sources, recompute)
    stages = [item, rows, *files.values()], [trust.signature, trust.history], [trust.log], [lineage], [again]
    level = level_of(*stages)
    steps = [
        _summed_bytes(files), rows, item, trust.signature, trust.history, trust.log, lineage, again,
    ]  # fmt: skip
    if trust.receipts:
        steps.append(trust.receipts)
    if evidence.notice:
        steps.insert(0, Step("notice", evidence.notice))
    return report(level, *steps, statement=trust.statement)


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


def _check_item(item: bytes, history: History | None) -> Step:
    """Step 3."""
    try:
        found = project(canonical.parse(item, what="item"))
    except Malformed as error:
        return Step("item", str(error), Outcome.MALFORMED)
    if history is None:
        return Step("item", "not checked: only a whole history says what it must show", checked=False)
    if changed := differences(history.projection, found):
        return Step("item", f"differs from what was signed in {', '.join(changed)}", Outcome.TAMPERED)
    return Step("item", f"projection of {found.collection}/{found.id} as signed")


def _check_bytes(evidence: Evidence, statement: Statement, skip: str | None) -> dict[str, Step]:
    """Step 4, one part for each signed file."""
    if evidence.no_data:
        return {"": Step("bytes", f"not checked: {evidence.no_data}", checked=False)}
    steps = {}
    for key, signed in statement.files.items():
        path = evidence.files.get(key)
        if path is None:
            steps[key] = Step(
                "bytes", f"{key}: {evidence.missing.get(key, 'not in the item')}", Outcome.UNAVAILABLE
            )
        elif key == skip:
            steps[key] = Step("bytes", f"{key}: rows only, the file's digest was not asked for")
        else:
            size = statement.predicate.projection.assets[key].size
            steps[key] = _check_file(key, path, Digests(signed.sha256, signed.blake3, size))
    return steps


def _check_file(key: str, path: Path, signed: Digests) -> Step:
    try:
        found = digest_file(path)
    except OSError as error:
        return Step("bytes", f"{key}: cannot be read: {error.strerror}", Outcome.UNAVAILABLE)
    if found != signed:
        text = f"{key}: sha256 {found.sha256[:16]}… of {found.size} bytes"
        return Step(
            "bytes", f"{text} is not the signed {signed.sha256[:16]}… of {signed.size}", Outcome.TAMPERED
        )
    return Step("bytes", f"{key} {found.size} bytes")


def _summed_bytes(files: dict[str, Step]) -> Step:
    bad = [step for step in files.values() if step.outcome is not None]
    if not bad:
        checked = all(step.checked for step in files.values())
        return Step("bytes", ", ".join(step.text for step in files.values()), checked=checked)
    worst = next((step for step in bad if step.outcome is Outcome.TAMPERED), bad[0])
    return Step("bytes", "; ".join(step.text for step in bad), worst.outcome)


def _check_rows(evidence: Evidence, bytes_steps: dict[str, Step], create: Create) -> Step:
    """Step 5."""
    if evidence.no_data:
        return Step("rows", f"not checked: {evidence.no_data}", checked=False)
    for key in (EMBEDDINGS, ROW_HASHES):
        if key not in bytes_steps:
            return Step("rows", f"no {key} file is signed", Outcome.MALFORMED)
        if bytes_steps[key].outcome is not None:
            return Step("rows", f"not read: {key} is not the signed file", checked=False)
    rows = create.rows
    try:
        leaves = _leaf_hashes(Shard.open(evidence.files[EMBEDDINGS], rows))
        tiles = build_tiles(leaves)
        root = tree_of(tiles, rows.count).root().hex()
        stored = read_limited(evidence.files[ROW_HASHES], tiles_bytes(rows.count))
    except Malformed as error:
        return Step("rows", str(error), Outcome.MALFORMED)
    if root != rows.root:
        return Step("rows", f"root {root[:16]}… is not the signed {rows.root[:16]}…", Outcome.TAMPERED)
    if stored != tiles:
        return Step("rows", "the file of row hashes does not hold this shard's hashes", Outcome.TAMPERED)
    return Step("rows", f"{rows.count} × {rows.dimension} {rows.dtype}, root {root[:16]}… = signed root")


def _leaf_hashes(shard: Shard) -> bytes:
    """All leaf hashes of a shard, in order; Malformed if a row id stands twice."""
    hashes: list[bytes] = []
    ids: list[pa.Array] = []
    for batch in shard.batches():
        ids += batch.table["id"].chunks
        hashes.append(batch.leaf_hashes())
    distinct = pc.count_distinct(pa.chunked_array(ids, pa.string())).as_py()
    if distinct != shard.signed.count:
        raise Malformed(f"shard has {distinct} different row ids in {shard.signed.count} rows")
    return b"".join(hashes)


def _check_recompute(
    evidence: Evidence, rows: Step, trust: Trust, policy: Policy, sources: Path | None, wanted: int
) -> Step:
    """Step 8, on a shard whose rows are the signed ones."""
    if wanted and (rows.outcome is not None or not rows.checked):
        return Step("recompute", "not run: the rows are not the signed ones", checked=False)
    shard = evidence.files[EMBEDDINGS] if wanted else Path()
    return check_recompute(trust.create, shard, sources, wanted, trust.checkpoint, policy.caps)


def level_of(*stages: list[Step]) -> int:
    """How many stages in a row passed whole."""
    level = 0
    for steps in stages:
        if any(step.outcome is not None or not step.checked for step in steps):
            break
        level += 1
    return level
