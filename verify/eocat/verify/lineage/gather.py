"""Step 7: what a folder of the user's holds of a statement's sources and weights, held against both.

    FOLDER/<file's name>              a source or weights file, by its name in the statement or its last part
    FOLDER/<scene>.SAFE, <scene>.zip  the scene's product; also under the name that its files have
    FOLDER/<scene>.json               the STAC Item of the scene, where it is none of its files
    FOLDER/<scene>.traces.json        the answer of the Copernicus traceability service
    FOLDER/<collection>/<item>/       the item that a derived one was made from, as a publisher has its folder

Level 4 is reached where every source is at hand whole, or has an authentic trace, and every weights file is,
and where the statement itself says of no source that it is damaged.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from ..claims import ItemClaim, claim_of
from ..errors import Malformed, Unavailable
from ..evidence import read_limited
from ..pins import Pin
from ..report import Outcome, Step
from ..statement import Create, Source
from .checksums import MAX_ITEM_BYTES
from .manifest import NAME as MANIFEST
from .parents import check_parents
from .sources import STEP, SourceEvidence, check_sources
from .trace import MAX_BYTES
from .weights import check_weights

TRACES_SUFFIX, ITEM_SUFFIX = ".traces.json", ".json"


def check_lineage(
    folder: Path | None,
    create: Create,
    pins: Sequence[Pin],
    moment: datetime,
    traces: Mapping[str, bytes] | None = None,
    row_hashes: Path | None = None,
) -> Step:
    """The lineage step; not checked where no folder was given, or not all is at hand.

    traces: name of a source → its traces, as they came with the item; those in the folder go before.
    row_hashes: the item's own file, if it is the signed one.
    """
    if folder is None and not traces:
        return Step(STEP, "not checked: no folder of sources was given", checked=False)
    try:
        if create.parents and folder is not None:
            sources = check_parents(create, folder, row_hashes)
        else:
            sources = _check_scenes(folder, create, pins, moment, traces or {})
    except (Malformed, Unavailable) as error:
        return Step(STEP, str(error), Outcome(error.exit_code))
    weights = {
        part.name: path
        for part in create.encoder.weights
        if folder is not None and (path := _file(folder, part.name))
    }
    encoder = check_weights(create.encoder, weights)
    for step in (sources, encoder):
        if step.outcome is not None:
            return Step(STEP, step.text, step.outcome)
    complete = len(weights) == len(create.encoder.weights) and sources.checked
    missing = "" if complete else "; not all of it is at hand and whole"
    return Step(STEP, f"{sources.text}; {encoder.text}{missing}", checked=complete)


def _check_scenes(
    folder: Path | None,
    create: Create,
    pins: Sequence[Pin],
    moment: datetime,
    traces: Mapping[str, bytes],
) -> Step:
    """The step over the scenes; not checked where not every one is at hand whole, or has its own trace."""
    found = {source.name: gather(folder, source, traces.get(source.name)) for source in create.scenes}
    step = check_sources(create.scenes, found, pins, moment)
    complete = all(
        evidence.traces is not None or len(evidence.files) == len(source.files)
        for source, evidence in zip(create.scenes, found.values(), strict=True)
    )
    return Step(STEP, step.text, step.outcome, checked=step.checked and complete)


def gather(folder: Path | None, source: Source, came: bytes | None = None) -> SourceEvidence:
    """What is at hand of one source: in `folder`, and the traces that came with the item."""
    if folder is None:
        return SourceEvidence(traces=came, demanded=False)
    files = {file.name: path for file in source.files if (path := _file(folder, file.name))}
    traces = _file(folder, f"{source.name}{TRACES_SUFFIX}")
    return SourceEvidence(
        files=files,
        product=_product(folder, source),
        item=_item(folder, source, files),
        traces=read_limited(traces, MAX_BYTES) if traces else came,
    )


def _product(folder: Path, source: Source) -> Path | None:
    """The SAFE product: under the scene's name, or under the one that its files are signed with."""
    signed = {file.name.partition("/")[0] for file in source.files}
    names = [f"{source.name}{suffix}" for suffix in (".SAFE", ".SAFE.zip", ".zip")]
    for path in (folder / name for name in (*names, *sorted(signed))):
        if (path / MANIFEST).is_file() or (path.suffix == ".zip" and path.is_file()):
            return path
    return None


def _item(folder: Path, source: Source, files: Mapping[str, Path]) -> bytes | None:
    """The scene's Item: the file of the source that the statement claims as such, or the one beside it."""
    claim = claim_of(source.evidence, ItemClaim)
    claimed = [file.name for file in source.files if claim and file.sha256 == claim.item]
    path = files.get(claimed[0]) if claimed else _file(folder, f"{source.name}{ITEM_SUFFIX}")
    return read_limited(path, MAX_ITEM_BYTES) if path else None


def _file(folder: Path, name: str) -> Path | None:
    """The file of that name in the folder, whole path or last part; never one outside of it."""
    for candidate in (folder / name, folder / name.rpartition("/")[2]):
        if candidate.is_file() and candidate.resolve().is_relative_to(folder.resolve()):
            return candidate
    return None
