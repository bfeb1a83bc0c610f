"""Upstream data as an auditor meets it, without a statement: a product against manifest, Item and traces.

What each of the three says is a step with the outcomes of section 9 of the design; the files behind it are
listed one by one. Nothing here makes a product true: manifest and Item are unsigned.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from blake3 import blake3

from .. import canonical
from ..errors import Malformed, Unavailable
from ..evidence import read_limited
from ..pins import Pin
from ..report import PRECEDENCE, Outcome, Step
from ..statement import WeightsFile
from .at_hand import FilesAtHand, files_at_hand
from .cdse import judge_trace
from .checksums import MAX_ITEM_BYTES, ItemVerdict, check_checksums
from .gather import ITEM_SUFFIX, TRACES_SUFFIX
from .manifest import NAME as MANIFEST
from .safe import Verdict, check_product
from .sources import trace_fault
from .trace import MAX_BYTES, parse_traces

SUFFIXES = (".zip", ".SAFE")


@dataclass(frozen=True, slots=True)
class Upstream:
    """What is to be checked; None: not at hand. product: a SAFE folder or zip. plain: other files by name."""

    target: str
    product: Path | None
    plain: dict[str, Path]
    item: Path | None
    traces: Path | None


@dataclass(frozen=True, slots=True)
class Finding:
    """A step, and the verdicts behind it: of each file, checksum or trace."""

    step: Step
    parts: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class UpstreamReport:
    target: str
    findings: tuple[Finding, ...]

    @property
    def outcome(self) -> Outcome:
        """The worst of the steps; INCOMPLETE where there was nothing to hold the product against."""
        failed = {finding.step.outcome for finding in self.findings if finding.step.outcome is not None}
        if not failed:
            checked = any(finding.step.checked for finding in self.findings)
            return Outcome.VERIFIED if checked else Outcome.INCOMPLETE
        return next(outcome for outcome in PRECEDENCE if outcome in failed)

    def to_json(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "outcome": self.outcome.name,
            "exitCode": self.outcome.value,
            "steps": [
                {
                    "name": finding.step.name,
                    "result": finding.step.mark.lower().replace("--", "not-checked"),
                    "outcome": finding.step.outcome.name if finding.step.outcome else None,
                    "text": finding.step.text,
                    "parts": list(finding.parts),
                }
                for finding in self.findings
            ],
        }

    def to_text(self) -> str:
        """Every verdict that is not ok has a line of its own."""
        lines = [f"{self.target}  {self.outcome.name}".replace("\n", "\\n")]
        for finding in self.findings:
            lines.append(f" {finding.step.name:<10} {finding.step.mark:<6} {finding.step.text}")
            for part in finding.parts:
                if part["verdict"] != "ok":
                    text = f"  {part['text']}" if part["text"] else ""
                    lines.append(f"            {part['verdict']:<10} {part['name']}{text}")
        return "\n".join(lines)


def look_beside(path: Path, item: Path | None, traces: Path | None) -> Upstream:
    """`path` with what lies beside it, as `NAME.json` and `NAME.traces.json`, where it is not given.

    path: a SAFE folder or zip, another file, or a STAC Item; an Item's product is looked for beside it.
    """
    if not path.exists():
        raise Unavailable(f"{path} does not exist", hint="name a SAFE folder, a zip, a file or a STAC Item")
    name = path.name
    if name.endswith(ITEM_SUFFIX) and item is None:
        item, name = path, name.removesuffix(ITEM_SUFFIX)
        beside = [path.with_name(name + end) for end in (".SAFE", ".SAFE.zip", ".zip")]
        product = next((found for found in beside if found.exists()), None)
        others = [f for f in path.parent.iterdir() if f.is_file() and f not in (path, product)]
        plain = {} if product else {file.name: file for file in others}
    else:
        is_product = path.suffix == ".zip" or (path / MANIFEST).is_file()
        product, plain = (path, {}) if is_product else (None, {path.name: path})
        if path.is_dir() and product is None:
            raise Unavailable(f"{path} holds no {MANIFEST}, so it is no SAFE product")
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    found = [path.with_name(name + end) for end in (ITEM_SUFFIX, TRACES_SUFFIX)]
    beside_item, beside_traces = (file if file.is_file() else None for file in found)
    return Upstream(str(path), product, plain, item or beside_item, traces or beside_traces)


def check_upstream(upstream: Upstream, pins: Callable[[], Sequence[Pin]], now: datetime) -> UpstreamReport:
    """The report on one product. pins: whose traces count, asked only where there are traces."""
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("manifest", lambda: _check_manifest(upstream)),
        ("item", lambda: _check_item(upstream)),
        ("traces", lambda: _check_traces(upstream, pins, now)),
    ]
    findings = []
    for name, check in checks:
        try:
            findings.append(check())
        except (Malformed, Unavailable) as error:
            findings.append(Finding(Step(name, str(error), Outcome(error.exit_code))))
    return UpstreamReport(upstream.target, tuple(findings))


def _check_manifest(upstream: Upstream) -> Finding:
    if upstream.product is None:
        return Finding(Step("manifest", "no SAFE product", checked=False))
    report = check_product(upstream.product)
    parts = [{"name": f.name, "verdict": f.verdict.value, "text": f.text} for f in report.files]
    counts = {verdict.value: report.count(verdict) for verdict in Verdict}
    return Finding(Step("manifest", report.to_text(), report.judge(), facts=counts), tuple(parts))


def _check_item(upstream: Upstream) -> Finding:
    if upstream.item is None:
        return Finding(Step("item", "no STAC Item is given or lies beside it", checked=False))
    with files_at_hand(upstream.plain, upstream.product) as files:
        report = check_checksums(read_limited(upstream.item, MAX_ITEM_BYTES), files)
    if not report.sums:
        return Finding(Step("item", f"{upstream.item.name} states no checksum", checked=False))
    parts = [{"name": f.place, "verdict": f.verdict.value, "text": f.text} for f in report.sums]
    counts = {verdict.value: report.count(verdict) for verdict in ItemVerdict}
    return Finding(Step("item", report.to_text(), report.judge(), facts=counts), tuple(parts))


def _check_traces(upstream: Upstream, pins: Callable[[], Sequence[Pin]], now: datetime) -> Finding:
    if upstream.traces is None:
        return Finding(Step("traces", "no traces are given or lie beside it", checked=False))
    if upstream.product is None and upstream.item == Path(upstream.target):
        return Finding(Step("traces", "the Item's product is not beside it", checked=False))
    traces = parse_traces(read_limited(upstream.traces, MAX_BYTES))
    pinned = pins()
    with files_at_hand(upstream.plain, upstream.product) as files:
        digests = [_digest(files, name) for name in _subjects(upstream, files)]
    fault = trace_fault(digests, traces, pinned, now)
    parts = []
    for verdict in (judge_trace(trace, pinned, now) for trace in traces):
        found = verdict.outcome.name if verdict.outcome else "ok"
        parts.append(
            {
                "name": f"{verdict.trace.event} of {verdict.trace.product.name}",
                "verdict": found,
                "text": verdict.text,
                "signer": verdict.signer,
                "unsigned": verdict.trace.unsigned,
            }
        )
    if fault is not None:
        return Finding(Step("traces", fault[1], fault[0]), tuple(parts))
    text = f"{len(digests)} files are those that authentic traces name, of {len(traces)} traces"
    return Finding(Step("traces", text), tuple(parts))


def _subjects(upstream: Upstream, files: FilesAtHand) -> list[str]:
    """What a trace must name: a zip or file itself, each file of an unpacked product."""
    whole = [name for name in files.plain if upstream.product is None or name == upstream.product.name]
    return whole or files.names


def _digest(files: FilesAtHand, name: str) -> WeightsFile:
    sha, blake, size = sha256(), blake3(), 0
    for block in files.blocks(name):
        sha.update(block)
        blake.update(block)
        size += len(block)
    return WeightsFile(name=name, sha256=sha.hexdigest(), blake3=blake.hexdigest(), size=size)


def is_item(data: bytes) -> bool:
    """Whether the JSON is a STAC Item."""
    value = canonical.parse(data, what="item", limit_bytes=MAX_ITEM_BYTES)
    return isinstance(value, dict) and value.get("type") == "Feature" and "stac_version" in value
