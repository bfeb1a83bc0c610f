"""The verifier: `check(evidence, policy, now) -> Report`, a pure function but for reading the named files.

The steps, each one line of the report (docs/format.md, section 7):

    1 signature  envelopes parse; enough authorised keys signed, valid at the time
    2 history    the first event is this item's CREATE
    3 item       the Item's projection equals the signed one
    4 bytes      every signed file is there and has its digests
    5 rows       the rows hash to the signed root; the file of row hashes is theirs

Level 1 needs 3 to 5, level 2 also 1 and 2. This version goes no higher: log, lineage and recomputation
are shown as not checked. Bytes are hashed before they are parsed, and a file whose digest is wrong is not
parsed at all.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from . import canonical
from .digest import Digests, digest_file
from .dsse import PAYLOAD_TYPE, Envelope, parse_envelope
from .errors import Malformed
from .evidence import Evidence, read_limited
from .merkle import build_tiles, tiles_bytes, tree_of
from .policy import Policy, Role
from .projection import ATTESTATION, differences, project
from .report import Outcome, Report, Step
from .shard import Shard
from .statement import Create, Statement, parse_statement, parse_time

DEFAULT_LEVEL = 2
EMBEDDINGS, ROW_HASHES = "embeddings", "row-hashes"
NOT_CHECKED = (
    Step("log", "not checked by this version", checked=False),
    Step("lineage", "not checked by this version", checked=False),
    Step("recompute", "not checked by this version", checked=False),
)


def check(
    evidence: Evidence,
    policy: Policy,
    *,
    now: datetime,
    require: int = DEFAULT_LEVEL,
    rows_only: bool = False,
) -> Report:
    """The report on an item. rows_only: take any encoding of the signed rows, not only the signed file."""

    def report(level: int, *steps: Step, statement: Statement | None = None) -> Report:
        return Report(evidence.target, now, require, level, steps, statement)

    if ATTESTATION in evidence.missing:
        text = f"{ATTESTATION}: {evidence.missing[ATTESTATION]}"
        return report(0, Step("signature", text, Outcome.UNAVAILABLE))
    if not evidence.envelopes:
        return report(0, Step("signature", "the item has no attestation", Outcome.UNSIGNED))
    try:
        trust = check_envelopes(evidence.envelopes, policy, now)
    except Malformed as error:
        return report(0, Step("signature", str(error), Outcome.MALFORMED))
    item = _check_item(evidence.item, trust.create)
    files = _check_bytes(evidence, trust.statement, skip=EMBEDDINGS if rows_only else None)
    rows = _check_rows(evidence, files, trust.create)
    level = _level([item, rows, *files.values()], [trust.signature, trust.history])
    steps = [_summed_bytes(files), rows, item, trust.signature, trust.history, *NOT_CHECKED]
    return report(level, *steps, statement=trust.statement)


@dataclass(frozen=True, slots=True)
class Trust:
    """An attested item: its first statement, and the two steps that say how far its envelopes go."""

    statement: Statement
    signature: Step
    history: Step

    @property
    def create(self) -> Create:
        return self.statement.predicate


def check_envelopes(envelopes: tuple[bytes, ...], policy: Policy, now: datetime) -> Trust:
    """Steps 1 and 2; Malformed if an envelope or its statement is not readable at all."""
    parsed = [parse_envelope(data) for data in envelopes]
    statements = [parse_statement(envelope.payload) for envelope in parsed]
    create = statements[0].predicate
    signature = _check_signatures(parsed[0], policy, "producer", create.item.split("/")[0], now)
    if len(statements) > 1:
        history = Step("history", "a second CREATE stands in the history", Outcome.HISTORY_BROKEN)
    else:
        history = Step("history", f"CREATE 0 of {create.item}, claimed {create.claimedAt}")
    return Trust(statements[0], signature, history)


def _check_signatures(
    envelope: Envelope, policy: Policy, role: Role, collection: str, moment: datetime
) -> Step:
    """Step 1. `moment` judges the keys' validity: without a witnessed time it is the verifier's own now."""

    def failed(outcome: Outcome, text: str) -> Step:
        return Step("signature", text, outcome)

    verdicts = envelope.verdicts(policy.public_keys)
    for key_id, valid in sorted(verdicts.items()):
        if not valid:
            return failed(Outcome.FORGED, f"the signature of key {key_id[:16]} is invalid")
    if envelope.payload_type != PAYLOAD_TYPE:
        return failed(Outcome.MALFORMED, f"payload type {envelope.payload_type[:80]!r} is not {PAYLOAD_TYPE}")
    if moment >= parse_time(policy.expires):
        return failed(Outcome.STALE, f"the trust policy expired at {policy.expires}")
    authorised = [entry for entry in map(policy.entry, sorted(verdicts)) if entry.may(role, collection)]
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
    return Step("signature", ", ".join(f"{role} {e.name} ed25519 {e.public.key_id[:16]}" for e in in_time))


def _check_item(item: bytes, create: Create) -> Step:
    """Step 3."""
    try:
        changed = differences(create.projection, project(canonical.parse(item, what="item")))
    except Malformed as error:
        return Step("item", str(error), Outcome.MALFORMED)
    if changed:
        return Step("item", f"differs from what was signed in {', '.join(changed)}", Outcome.TAMPERED)
    return Step("item", f"projection of {create.item} as signed")


def _check_bytes(evidence: Evidence, statement: Statement, skip: str | None) -> dict[str, Step]:
    """Step 4, one part for each signed file."""
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
        return Step("bytes", ", ".join(step.text for step in files.values()))
    worst = next((step for step in bad if step.outcome is Outcome.TAMPERED), bad[0])
    return Step("bytes", "; ".join(step.text for step in bad), worst.outcome)


def _check_rows(evidence: Evidence, bytes_steps: dict[str, Step], create: Create) -> Step:
    """Step 5."""
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
    hashes, ids = [], set[str]()
    for batch in shard.batches():
        ids.update(batch.table["id"].to_pylist())
        seen = batch.first + len(batch)
        if len(ids) != seen:  # before the hashing, which costs the most
            raise Malformed(f"shard has {len(ids)} different row ids in its first {seen} rows")
        hashes.append(batch.leaf_hashes())
    return b"".join(hashes)


def _level(content: list[Step], trust: list[Step]) -> int:
    def passed(steps: list[Step]) -> bool:
        return all(step.outcome is None and step.checked for step in steps)

    return (1 + passed(trust)) if passed(content) else 0
