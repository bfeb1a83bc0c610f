"""From a scene to a signed shard, in the order of docs/walk.md:

    1 digests   the scene's files are hashed before they are decoded, and held against their manifest,
                Item and traces (evidence.py)
    2 chips     windows in Hilbert order, those without data left out
    3 vectors   encoded batch by batch; each chip's integer pixels are hashed
    4 files     shard, row hashes, thumbnail, in a temporary folder
    5 statement what was made from what, signed
    6 Item      the STAC document, written last; then the folder gets its name

A folder under its own name is therefore whole. The shard's bytes depend on the scene and the recipe alone:
not on batch size, threads or the time of the run.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eocat.verify.digest import digest_file
from eocat.verify.errors import InputError
from eocat.verify.hit import microseconds
from eocat.verify.row import pixels_digest
from eocat.verify.statement import WeightsFile, format_time

from .chips import Chip, fault_of, hilbert_order, majortom_chips, tile_chips
from .evidence import evidence_of
from .output import existing_shard, write_folder
from .recipe import Recipe
from .run import Run
from .shard_writer import ChipRows
from .sources import Scene

Progress = Callable[[int, int], None]  # chips done, chips in all


@dataclass(frozen=True, slots=True)
class Produced:
    """What became of one scene. fresh: false if the same shard was there already."""

    item: str
    folder: Path
    rows: int
    left_out: int
    root: str
    seconds: float
    fresh: bool


def produce_scene(scene: Scene, run: Run, progress: Progress = lambda done, total: None) -> Produced:
    """Make, or find again, the shard of `scene`. Raises InputError for a scene that gives no row."""
    began = time.perf_counter()
    start, end = _times(scene, run)
    files = [_digested(file.name, file.path) for file in scene.files]
    task = run.recipe.task(files, start, end)
    target = run.folder / scene.id
    if target.exists():
        claim = existing_shard(target, task).predicate.rows
        return Produced(
            scene.id, target, claim.count, 0, claim.root, time.perf_counter() - began, fresh=False
        )
    evidence = evidence_of(scene, files, run.evidence)
    chips = _layout(scene, run.recipe)
    rows = _encode(scene, chips, run, start, end, progress)
    claim = write_folder(target, scene, rows, run, files, evidence, task)
    left_out, seconds = len(chips) - claim.count, time.perf_counter() - began
    return Produced(scene.id, target, claim.count, left_out, claim.root, seconds, fresh=True)


def _times(scene: Scene, run: Run) -> tuple[str, str]:
    if scene.start is not None and scene.end is not None:
        return format_time(scene.start), format_time(scene.end)
    if run.interval is None:
        raise InputError(
            f"scene {scene.id} does not say when it was taken",
            hint="add --datetime, such as 2024-05-01T09:30:31Z or 2017-01-01/2020-12-31",
        )
    return format_time(run.interval[0]), format_time(run.interval[1])


def _digested(name: str, path: Path) -> WeightsFile:
    try:
        found = digest_file(path)
    except OSError as error:
        raise InputError(f"source file {path} cannot be read: {error.strerror}") from None
    return WeightsFile(name=name, sha256=found.sha256, blake3=found.blake3, size=found.size)


def _layout(scene: Scene, recipe: Recipe) -> list[Chip]:
    if recipe.layout == "majortom":
        return hilbert_order(majortom_chips(scene, size=recipe.chip_size))
    return hilbert_order(tile_chips(scene, size=recipe.chip_size, stride=recipe.stride, edge=recipe.edge))


def _encode(
    scene: Scene, chips: Sequence[Chip], run: Run, start: str, end: str, progress: Progress
) -> ChipRows:
    """Rows of the chips that hold data, in the order given."""
    kept: list[Chip] = []
    digests: list[bytes] = []
    vectors: list[NDArray[np.float16]] = []
    left_out: Counter[str] = Counter()
    for chip_batch, pixels in _batches(scene, chips, run, left_out, progress):
        digests += [pixels_digest(chip_pixels) for chip_pixels in pixels]
        vectors.append(run.encoder.encode(pixels, offset=scene.offset))
        kept += chip_batch
    if not kept:
        raise InputError(
            f"scene {scene.id} has no chip with at most {run.recipe.max_nodata_percent} % of no-data pixels "
            f"and {run.recipe.max_cloud_percent} % of cloud",
            hint="raise --max-nodata or --max-cloud, or check the scene's no-data value",
        )
    times = microseconds(start), microseconds(end)
    return ChipRows(kept, scene.id, *times, digests, np.concatenate(vectors), left_out)


def _batches(
    scene: Scene, chips: Sequence[Chip], run: Run, left_out: Counter[str], progress: Progress
) -> Iterator[tuple[list[Chip], NDArray[np.integer]]]:
    """Chips with data and their pixels (N, C, H, W), N up to the run's batch; others are counted."""
    pixels = scene.decode(run.recipe.bands, workers=run.threads)
    clouds = scene.clouds() if run.recipe.max_cloud_percent < 100 else None
    batch: list[tuple[Chip, NDArray[np.integer]]] = []
    for done, chip in enumerate(chips):
        window = pixels.window(chip.x, chip.y, chip.size, chip.size)
        if fault := fault_of(chip, window, scene, run.recipe, clouds):
            left_out[fault] += 1
        else:
            batch.append((chip, window))
        if len(batch) == run.batch:
            yield [member for member, _ in batch], np.stack([window for _, window in batch])
            batch = []
            progress(done + 1, len(chips))
    if batch:
        yield [member for member, _ in batch], np.stack([window for _, window in batch])
    progress(len(chips), len(chips))
