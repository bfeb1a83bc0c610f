"""The verifier: `check(evidence, policy, now) -> Report`, a pure function but for reading the named files.

The steps, each one line of the report (docs/format.md, section 7):

    1 signature  envelopes parse; enough authorised keys signed, valid at the time
    2 history    the events are a history of this item, from its CREATE on; how it ends
    3 item       the Item's projection equals the signed one
    4 bytes      every signed file is there and has its digests
    5 rows       the rows hash to the signed root; the file of row hashes is theirs
    6 log        the events are in a witnessed log, the last of them is the newest (logged.py)
      tiles      and the log's own files say the same, where they are at hand (log/files.py)
    7 lineage    source scenes and weights at hand are the signed ones (lineage/gather.py)
    8 recompute  rows drawn at random are made again from the source (recompute.py)

Level 1 needs 3 to 5, level 2 also 1 and 2, and levels 3, 4 and 5 each one of the last three. Steps 1, 2 and 6
are in authenticity.py, 3 to 5 in content.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from .authenticity import Trust, check_envelopes, level_of
from .content import EMBEDDINGS, ROW_HASHES, check_bytes, check_item, check_rows, summed_bytes
from .errors import Malformed
from .evidence import Evidence
from .history import BrokenHistory
from .lineage.gather import check_lineage
from .log.files import Read, check_files
from .policy import Policy
from .projection import ATTESTATION
from .recompute import check_recompute
from .report import Outcome, Report, Step
from .statement import Statement


@dataclass(frozen=True, slots=True)
class LogFiles:
    """How the log's files are read, and the newest note that this machine remembers of that log."""

    read: Read
    seen: bytes | None = None


def check(
    evidence: Evidence,
    policy: Policy,
    *,
    now: datetime,
    require: int | None = None,
    rows_only: bool = False,
    sources: Path | None = None,
    recompute: int = 0,
    seed: bytes | None = None,
    seen: Sequence[datetime] = (),
    log_files: LogFiles | None = None,
) -> Report:
    """The report on an item.

    require: the level to pass; by default 3 where the policy names a log, else 2. rows_only: take any
    encoding of the signed rows, not only the signed file. sources: a folder with source scenes and weights.
    recompute: how many rows to make again; seed: the user's own 32 bytes, which draw
    them. seen: when the caller had itself seen the first of the events: it
    judges their keys where no log proof does. log_files: the log's own, which are then asked, too.
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
    item = check_item(evidence.item, trust.replayed)
    files = check_bytes(evidence, trust.statement, skip=EMBEDDINGS if rows_only else None)
    rows = check_rows(evidence, files, trust.create)
    hashes = evidence.files.get(ROW_HASHES) if rows.checked and rows.outcome is None else None
    seen_by = trust.seen_by or now
    lineage = check_lineage(sources, trust.create, policy.cdse, seen_by, evidence.traces, hashes)
    again = _check_recompute(evidence, rows, trust, policy, sources, recompute, seed)
    logged = [trust.log]
    if log_files is not None and policy.log is not None:
        logged.append(check_files(log_files.read, trust.proven, policy.log, now, log_files.seen))
    stages = [item, rows, *files.values()], [trust.signature, trust.history], logged, [lineage], [again]
    level = level_of(*stages)
    steps = [
        summed_bytes(files), rows, item, trust.signature, trust.history, *logged, lineage, again,
    ]  # fmt: skip
    if trust.receipts:
        steps.append(trust.receipts)
    if evidence.notice:
        steps.insert(0, Step("notice", evidence.notice))
    return report(level, *steps, statement=trust.statement)


def _check_recompute(
    evidence: Evidence,
    rows: Step,
    trust: Trust,
    policy: Policy,
    sources: Path | None,
    wanted: int,
    seed: bytes | None,
) -> Step:
    """Step 8, on a shard whose rows are the signed ones."""
    if wanted and (rows.outcome is not None or not rows.checked):
        return Step("recompute", "not run: the rows are not the signed ones", checked=False)
    shard = evidence.files[EMBEDDINGS] if wanted else Path()
    return check_recompute(trust.create, shard, sources, wanted, trust.checkpoint, policy.caps, seed)
