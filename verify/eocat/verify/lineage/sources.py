"""The scenes of a statement: the files as signed, their manifest, Item and traces. Level 4; attack 56.

What is at hand is checked, what is not counts by its hash alone, and the step says how many of which. What
the statement claims of a source must be at hand, and must come out the same; without a claim, what is at hand
must not speak against the source.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from ..claims import ItemClaim, ManifestClaim, TraceClaim, claim_of
from ..digest import Digests, digest_file
from ..errors import Malformed, Unavailable
from ..pins import Pin
from ..report import PRECEDENCE, Outcome, Step
from ..statement import Source, WeightsFile
from .at_hand import files_at_hand
from .cdse import Subject, judge_product
from .checksums import check_checksums
from .safe import check_product
from .trace import Trace, parse_traces

STEP = "lineage"


@dataclass(frozen=True, slots=True)
class SourceEvidence:
    """What is at hand of one source; None: nothing of that kind.

    files: name as in the statement → local file, of any of them. product: the SAFE folder or zip. traces: the
    JSON of the traceability service as it came. seen: digests of traces of an earlier answer. item: the STAC
    Item of the source.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    product: Path | None = None
    traces: bytes | None = None
    seen: Collection[str] = ()
    item: bytes | None = None
    demanded: bool = True  # what is claimed must be at hand; not where only an item's own documents are


@dataclass(frozen=True, slots=True)
class SourceVerdict:
    """outcome None: nothing speaks against it. traced: an authentic trace covers every file of the source.

    notices: what the statement itself says is wrong with the source; level 4 is not reached then.
    """

    source: str
    outcome: Outcome | None
    text: str
    traced: bool = False
    confirmed: tuple[str, ...] = ()  # the claims that came out the same
    notices: tuple[str, ...] = ()


def check_sources(
    sources: Sequence[Source],
    evidence: Mapping[str, SourceEvidence],
    pins: Sequence[Pin],
    moment: datetime,
) -> Step:
    """The lineage step over the sources, with what is at hand of each by its name."""
    verdicts = [
        check_source(source, evidence.get(source.name, SourceEvidence()), pins, moment) for source in sources
    ]
    for outcome in PRECEDENCE:
        if bad := [verdict for verdict in verdicts if verdict.outcome is outcome]:
            return Step(STEP, f"{len(bad)} of {len(verdicts)} scenes: {bad[0].text}", outcome)
    traced = sum(verdict.traced for verdict in verdicts)
    counts = {"with their own trace": traced, "by hash only": len(verdicts) - traced}
    for kind in ("manifest", "Item"):
        counts[f"with their {kind} as signed"] = sum(kind in verdict.confirmed for verdict in verdicts)
    found = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    notices = [notice for verdict in verdicts for notice in verdict.notices]
    text = "; ".join([f"{len(verdicts)} scene{'s' * (len(verdicts) != 1)}: {found}", *notices])
    return Step(STEP, text, checked=not notices)


_CLAIMED: Final = {"safe-manifest": "manifest", "stac-item": "Item", "cdse-trace": "traces"}


def check_source(
    source: Source, evidence: SourceEvidence, pins: Sequence[Pin], moment: datetime
) -> SourceVerdict:
    """The verdict on one source; errors of its parsers become outcomes of it."""
    try:
        fault = (
            _file_fault(source, evidence)
            or _manifest_fault(source, evidence)
            or _item_fault(source, evidence)
            or _trace_fault(source, evidence, pins, moment)
        )
    except Malformed as error:
        fault = (Outcome.MALFORMED, str(error))
    except Unavailable as error:
        fault = (Outcome.UNAVAILABLE, str(error))
    if fault is not None:
        return SourceVerdict(source.name, fault[0], f"{source.name}: {fault[1]}")
    at_hand = {ManifestClaim: evidence.product, ItemClaim: evidence.item, TraceClaim: evidence.traces}
    claims = () if source.evidence == "none" else source.evidence
    confirmed = tuple(_CLAIMED[claim.type] for claim in claims if at_hand[type(claim)] is not None)
    notices = tuple(f"{source.name}: {text}" for text in _declared(source))
    traced = evidence.traces is not None
    text = f"{source.name}: {'with its own trace' if traced else 'by hash only'}"
    return SourceVerdict(source.name, None, text, traced, confirmed, notices)


def _declared(source: Source) -> list[str]:
    """The damage that the statement itself states."""
    return [
        f"{claim.differs} of its files differ from its {_CLAIMED[claim.type]}, as the statement says"
        for claim in source.evidence
        if isinstance(claim, ManifestClaim | ItemClaim) and claim.differs
    ]


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


def _manifest_fault(source: Source, evidence: SourceEvidence) -> Fault | None:
    """A claim that comes out otherwise; without one, what its manifest belies of the source."""
    claim = claim_of(source.evidence, ManifestClaim)
    if evidence.product is None:
        missing = "product, whose manifest the statement names, is"
        return _absent(missing) if claim and evidence.demanded else None
    report = check_product(evidence.product)
    if claim:
        if claim == report.claim():
            return None
        text = f"its manifest was signed with other counts or bytes: now {report.to_text()}"
        return Outcome.LINEAGE_FAILED, text
    inside = {file.name.removeprefix(f"{report.product}/") for file in source.files}
    used = inside & {file.name for file in report.files}
    if (outcome := report.judge(used or None)) is Outcome.LINEAGE_FAILED:
        return outcome, f"its manifest says otherwise: {report.to_text()}"
    return None


def _item_fault(source: Source, evidence: SourceEvidence) -> Fault | None:
    claim = claim_of(source.evidence, ItemClaim)
    if claim is None:
        return None
    if evidence.item is None:
        return _absent("Item, which the statement names, is") if evidence.demanded else None
    if claim.item != sha256(evidence.item).hexdigest():
        return Outcome.LINEAGE_FAILED, "its Item is not the one that the statement names"
    with files_at_hand(evidence.files, evidence.product) as files:
        report = check_checksums(evidence.item, files)
    found = report.claim()
    if found.differs > claim.differs:
        return Outcome.LINEAGE_FAILED, f"its Item says otherwise: {report.to_text()}"
    if found.missing > claim.missing:
        return _absent(f"files, {found.missing - claim.missing} that its Item states, are")
    if found != claim:
        return Outcome.LINEAGE_FAILED, f"its Item was signed with other counts: now {report.to_text()}"
    return None


def _trace_fault(
    source: Source, evidence: SourceEvidence, pins: Sequence[Pin], moment: datetime
) -> Fault | None:
    claim = claim_of(source.evidence, TraceClaim)
    if evidence.traces is None:
        missing = "traces, which the statement names, are"
        return _absent(missing) if claim and evidence.demanded else None
    if claim and claim.traces != sha256(evidence.traces).hexdigest():
        return Outcome.LINEAGE_FAILED, "its traces are not those that the statement names"
    traces = parse_traces(evidence.traces)
    if claim and claim.count != len(traces):
        return Outcome.LINEAGE_FAILED, f"its traces are {len(traces)}, the statement says {claim.count}"
    return trace_fault(source.files, traces, pins, moment, seen=evidence.seen)


def trace_fault(
    files: Sequence[WeightsFile],
    traces: Sequence[Trace],
    pins: Sequence[Pin],
    moment: datetime,
    *,
    seen: Collection[str] = (),
) -> Fault | None:
    """None if authentic traces cover every one of the files."""
    for file in files:
        subject = Subject(file.name, file.size, {"BLAKE3": file.blake3, "SHA256": file.sha256})
        verdict = judge_product(traces, subject, pins, moment, seen=seen)
        if verdict.outcome is not None:
            return verdict.outcome, verdict.text
    return None


def _absent(what: str) -> Fault:
    return Outcome.UNAVAILABLE, f"its {what} not at hand"
