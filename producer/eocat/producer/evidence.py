"""What a publisher has checked of a scene before signing: its manifest, its Item's checksums, its traces.

The result is the source's `evidence` in the statement (docs/format.md, 3.1), and a verifier repeats it. Items
and traces are looked for beside the scene, or in the folder of `--evidence`: `<scene>.json`, a STAC Item, and
`<scene>.traces.json`, the answer of the Copernicus traceability service. Damage is refused, since nobody
should sign it unknowingly; what is not there is no claim.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from eocat.verify.claims import Claim, Evidence, ItemClaim, ManifestClaim, TraceClaim
from eocat.verify.errors import EocatError, InputError, Malformed, Unavailable
from eocat.verify.evidence import read_limited
from eocat.verify.lineage.at_hand import files_at_hand
from eocat.verify.lineage.checksums import MAX_ITEM_BYTES, ItemVerdict, check_checksums
from eocat.verify.lineage.gather import ITEM_SUFFIX, TRACES_SUFFIX
from eocat.verify.lineage.manifest import NAME as MANIFEST
from eocat.verify.lineage.product import open_product
from eocat.verify.lineage.safe import Verdict, check_product
from eocat.verify.lineage.sources import trace_fault
from eocat.verify.lineage.trace import MAX_BYTES, parse_traces
from eocat.verify.lineage.upstream import is_item
from eocat.verify.pins import Pin
from eocat.verify.statement import WeightsFile

from .sources import Scene

_AGAIN: Final = "fetch the source again, or sign what was found of it: --accept-damaged"


@dataclass(frozen=True, slots=True)
class EvidenceRules:
    """folder: where Items and traces lie, None: beside each scene. pins: whose traces count, asked if needed.

    accept_damaged: go on where a source differs from its manifest or Item; the statement then says so.
    """

    folder: Path | None = None
    pins: Callable[[], Sequence[Pin]] = tuple
    accept_damaged: bool = False


BESIDE: Final = EvidenceRules()


def evidence_of(scene: Scene, files: Sequence[WeightsFile], rules: EvidenceRules) -> Evidence:
    """What holds of the scene, whose `files` were hashed; InputError for damage or a trace that fails."""
    try:
        product = _product(scene)
        folder = rules.folder or (product or scene.files[0].path).parent
        found: list[Claim | None] = [
            _traces(folder / f"{scene.id}{TRACES_SUFFIX}", files, rules),
            _manifest(scene, product, rules),
            _item(scene, product, folder / f"{scene.id}{ITEM_SUFFIX}", rules),
        ]
    except (Malformed, Unavailable) as error:
        raise InputError(f"scene {scene.id}: {error}", hint=error.hint) from error
    return [claim for claim in found if claim is not None] or "none"


def _product(scene: Scene) -> Path | None:
    """The SAFE product that was read: its zip, or the folder that the files' names begin with."""
    first = scene.files[0]
    if first.path.suffix.lower() == ".zip":
        return first.path
    root = first.path.parents[first.name.count("/") - 1] if "/" in first.name else None
    return root if root and (root / MANIFEST).is_file() else None


def _manifest(scene: Scene, product: Path | None, rules: EvidenceRules) -> ManifestClaim | None:
    if product is None or not _has_manifest(product):
        return None
    report = check_product(product)
    bad = [file for file in report.files if file.verdict is Verdict.DIFFERS]
    if bad and not rules.accept_damaged:
        raise InputError(
            f"scene {scene.id}: {len(bad)} files differ from its {MANIFEST}, "
            f"the first is {bad[0].name}: {bad[0].text}",
            hint=_AGAIN,
        )
    return report.claim()


def _has_manifest(product: Path) -> bool:
    with open_product(product) as opened:
        return MANIFEST in opened.sizes


def _item(scene: Scene, product: Path | None, beside: Path, rules: EvidenceRules) -> ItemClaim | None:
    plain = {file.name: file.path for file in scene.files}
    candidates = [path for name, path in plain.items() if name.endswith(".json")] or [beside]
    data = read_limited(candidates[0], MAX_ITEM_BYTES) if candidates[0].is_file() else None
    if data is None or not is_item(data):
        return None
    with files_at_hand(plain, product) as files:
        report = check_checksums(data, files)
    bad = [found for found in report.sums if found.verdict is ItemVerdict.DIFFERS]
    if bad and not rules.accept_damaged:
        raise InputError(
            f"scene {scene.id}: {len(bad)} files differ from its Item {candidates[0].name}: {bad[0].text}",
            hint=_AGAIN,
        )
    return report.claim() if report.sums else None


def _traces(path: Path, files: Sequence[WeightsFile], rules: EvidenceRules) -> TraceClaim | None:
    if not path.is_file():
        return None
    data = read_limited(path, MAX_BYTES)
    traces = parse_traces(data)
    if (fault := trace_fault(files, traces, _pins(rules, path), datetime.now(UTC))) is not None:
        raise InputError(
            f"{path.name} does not hold: {fault[1]}",
            hint="fetch the traces again ('eocat source traces'), or take the file away to claim nothing",
        )
    return TraceClaim(traces=sha256(data).hexdigest(), count=len(traces))


def _pins(rules: EvidenceRules, path: Path) -> Sequence[Pin]:
    try:
        pins = rules.pins()
    except EocatError as error:
        raise InputError(f"{path.name} cannot be judged: {error}", hint=error.hint) from error
    if not pins:
        raise InputError(
            f"{path.name} cannot be judged: your trust policy pins no Copernicus key",
            hint="add the service's key to the member 'cdse' of the policy (docs/lineage.md)",
        )
    return pins
