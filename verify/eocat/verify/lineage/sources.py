"""The scenes of a statement: the files as signed, their manifest, their traces. Level 4; attack 56.

What is at hand is checked, what is not counts by its hash alone, and the step says how many of which. A
claim of the statement is repeated where its product or its traces are at hand: it must come out the same.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from ..digest import Digests, digest_file
from ..errors import Malformed, Unavailable
from ..report import PRECEDENCE, Outcome, Step
from ..statement import Source
from .cdse import Subject, judge_product
from .claims import Claim, ManifestClaim, TraceClaim
from .pins import Pin
from .safe import check_product
from .trace import parse_traces

STEP = "lineage"


@dataclass(frozen=True, slots=True)
class SourceEvidence:
    """What is at hand of one source; None: nothing of that kind.

    files: name as in the statement → local file, of any of them. product: the SAFE folder or zip. traces:
    the JSON of the traceability service as it came. seen: digests of traces of an earlier answer.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    product: Path | None = None
    traces: bytes | None = None
    seen: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class SourceVerdict:
    """traced: an authentic trace covers every file of the source. outcome None: nothing speaks against it."""

    source: str
    outcome: Outcome | None
    text: str
    traced: bool = False


def check_sources(
    sources: Sequence[tuple[Source, Claim | None]],
    evidence: Mapping[str, SourceEvidence],
    pins: Sequence[Pin],
    moment: datetime,
) -> Step:
    """The lineage step: every source with its claim, and what is at hand of it by the source's name."""
    verdicts = [
        check_source(source, claim, evidence.get(source.name, SourceEvidence()), pins, moment)
        for source, claim in sources
    ]
    for outcome in PRECEDENCE:
        if bad := [verdict for verdict in verdicts if verdict.outcome is outcome]:
            return Step(STEP, f"{len(bad)} of {len(verdicts)} scenes: {bad[0].text}", outcome)
    traced = sum(verdict.traced for verdict in verdicts)
    rest = len(verdicts) - traced
    return Step(STEP, f"{len(verdicts)} scenes: {traced} with their own trace, {rest} by hash only")


def check_source(
    source: Source,
    claim: Claim | None,
    evidence: SourceEvidence,
    pins: Sequence[Pin],
    moment: datetime,
) -> SourceVerdict:
    """The verdict on one source; errors of its parsers become outcomes of it."""
    try:
        fault = (
            _file_fault(source, evidence)
            or _manifest_fault(source, claim, evidence)
            or _trace_fault(source, claim, evidence, pins, moment)
        )
    except Malformed as error:
        fault = (Outcome.MALFORMED, str(error))
    except Unavailable as error:
        fault = (Outcome.UNAVAILABLE, str(error))
    if fault is not None:
        return SourceVerdict(source.name, fault[0], f"{source.name}: {fault[1]}")
    if evidence.traces is not None:
        return SourceVerdict(source.name, None, f"{source.name}: with its own trace", traced=True)
    return SourceVerdict(source.name, None, f"{source.name}: by hash only")


Fault = tuple[Outcome, str]


def _file_fault(source: Source, evidence: SourceEvidence) -> Fault | None:
    for file in source.files:
        if (path := evidence.files.get(file.name)) is None:
            continue
        try:
            found = digest_file(path)
        except OSError as error:
            return Outcome.UNAVAILABLE, f"{file.name} cannot be read: {error.strerror}"
        if found != Digests(file.sha256, file.blake3, file.size):
            text = f"{file.name} has sha256 {found.sha256[:16]}…, signed is {file.sha256[:16]}…"
            return Outcome.LINEAGE_FAILED, text
    return None


def _manifest_fault(source: Source, claim: Claim | None, evidence: SourceEvidence) -> Fault | None:
    """Of the product at hand: what its manifest belies of the source, or a claim that comes out otherwise."""
    if evidence.product is None:
        return None
    report = check_product(evidence.product)
    inside = {file.name.removeprefix(f"{report.product}/") for file in source.files}
    used = inside & {file.name for file in report.files}
    if (outcome := report.judge(used or None)) is Outcome.LINEAGE_FAILED:
        return outcome, f"its manifest says otherwise: {report.to_text()}"
    if isinstance(claim, ManifestClaim) and claim != report.claim():
        return Outcome.LINEAGE_FAILED, f"its manifest was claimed with other counts: {report.to_text()}"
    return None


def _trace_fault(
    source: Source,
    claim: Claim | None,
    evidence: SourceEvidence,
    pins: Sequence[Pin],
    moment: datetime,
) -> Fault | None:
    if evidence.traces is None:
        if isinstance(claim, TraceClaim):
            return Outcome.UNAVAILABLE, "its traces, which the statement names, are not at hand"
        return None
    if isinstance(claim, TraceClaim) and claim.traces != sha256(evidence.traces).hexdigest():
        return Outcome.LINEAGE_FAILED, "its traces are not those that the statement names"
    traces = parse_traces(evidence.traces)
    for file in source.files:
        subject = Subject(file.name, file.size, {"BLAKE3": file.blake3, "SHA256": file.sha256})
        verdict = judge_product(traces, subject, pins, moment, seen=evidence.seen)
        if verdict.outcome is not None:
            return verdict.outcome, verdict.text
    return None
