"""Step 7: what a folder of the user's holds of a statement's sources and weights, held against both.

    FOLDER/<file's name>              a source or weights file, by its name in the statement or its last part
    FOLDER/<scene>.SAFE, <scene>.zip  the scene's product, for its manifest
    FOLDER/<scene>.traces.json        the answer of the Copernicus traceability service

Level 4 is reached where every source is at hand whole, or has an authentic trace, and every weights file is.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from ..errors import Malformed
from ..evidence import read_limited
from ..report import Outcome, Step
from ..statement import Create, Source
from .pins import Pin
from .sources import STEP, SourceEvidence, check_sources
from .trace import MAX_BYTES
from .weights import check_weights


def check_lineage(folder: Path | None, create: Create, pins: Sequence[Pin], moment: datetime) -> Step:
    """The lineage step; not checked where no folder was given, or not all is at hand."""
    if folder is None:
        return Step(STEP, "not checked: no folder of sources was given", checked=False)
    try:
        found = {source.name: gather(folder, source) for source in create.sources}
    except Malformed as error:
        return Step(STEP, str(error), Outcome.MALFORMED)
    sources = check_sources([(source, None) for source in create.sources], found, pins, moment)
    weights = {part.name: path for part in create.encoder.weights if (path := _file(folder, part.name))}
    encoder = check_weights(create.encoder, weights)
    for step in (sources, encoder):
        if step.outcome is not None:
            return Step(STEP, step.text, step.outcome)
    complete = len(weights) == len(create.encoder.weights) and all(
        evidence.traces is not None or len(evidence.files) == len(source.files)
        for source, evidence in zip(create.sources, found.values(), strict=True)
    )
    missing = "" if complete else "; not all of it is at hand"
    return Step(STEP, f"{sources.text}; {encoder.text}{missing}", checked=complete)


def gather(folder: Path, source: Source) -> SourceEvidence:
    """What `folder` holds of one source."""
    files = {file.name: path for file in source.files if (path := _file(folder, file.name))}
    products = [folder / f"{source.name}{suffix}" for suffix in (".SAFE", ".SAFE.zip", ".zip")]
    traces = _file(folder, f"{source.name}.traces.json")
    return SourceEvidence(
        files=files,
        product=next((path for path in products if path.exists()), None),
        traces=read_limited(traces, MAX_BYTES) if traces else None,
    )


def _file(folder: Path, name: str) -> Path | None:
    """The file of that name in the folder, whole path or last part; never one outside of it."""
    for candidate in (folder / name, folder / name.rpartition("/")[2]):
        if candidate.is_file() and candidate.resolve().is_relative_to(folder.resolve()):
            return candidate
    return None
