"""Step 8: some rows are made again from the source scene, and must come out the same (level 5).

The rows are drawn where the producer could not foresee them: the seed is SHA-256 of the newest cosigned
checkpoint and the item's name. It is the verifier's own where there is no log, or where the user wants it
so (a log's owner can have its checkpoint cosigned again until a draw pleases). 59 rows find a corruption of
5 % of them with 95 %, 299 rows one of 1 %. The verifier cannot encode: the producer room offers that
through the entry point group `eocat.recompute`. A row's input digest tells a source that differs from a
model that does; how close the vectors must be is said in closeness.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

from .closeness import Band, band_of, distance
from .draw import draw_rows, seed_of
from .errors import EocatError
from .report import Outcome, Step
from .row import Row
from .shard import Shard
from .statement import Create

GROUP = "eocat.recompute"
STEP = "recompute"

Cause = Literal[
    "same",  # nothing differs
    "source-differs",  # other pixels than those whose digests are signed
    "model-differs",  # the signed pixels, another vector
    "no-source",  # it is not at hand, or not as signed
    "no-encoder",  # it is not installed, or its weights are not at hand
    "other-space",  # the encoder here is another one
    "no-promise",  # the statement does not say how closely its rows can be made again
    "no-pixels",  # the rows were imported: nobody signed what pixels they are of
    "failed",  # anything else that stopped it
]


class NotRecomputable(EocatError):
    """Rows cannot be made again here; `cause` says what is missing."""

    def __init__(self, cause: Cause, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Window:
    """Where a row's chip lies: pixels of the scene's reference grid, as the shard says."""

    x: int
    y: int
    size: int


@dataclass(frozen=True, slots=True)
class Again:
    """A row made again: digest of its pixels, and the vector's bytes, little-endian in the signed dtype."""

    input_digest: bytes
    vector: bytes


Recompute = Callable[[Create, Sequence[Window], Path], Sequence[Again]]


def check_recompute(
    create: Create,
    shard: Path,
    sources: Path | None,
    wanted: int,
    checkpoint: str | None,
    caps: Mapping[str, int],
    chosen: bytes | None = None,
) -> Step:
    """The step over `wanted` rows; 0: not run. `shard` has passed the steps before.

    checkpoint: the cosigned note that draws the rows, where there is one. chosen: the user's own seed, which
    then draws them. caps: of closeness.py.
    """
    if not wanted:
        return Step(STEP, "not run (--recompute 59)", checked=False)
    try:
        if sources is None:
            raise NotRecomputable("no-source", "no folder of sources was given (--sources)")
        if not create.rows.inputDigests:
            raise NotRecomputable("no-pixels", "the statement signs no pixels: its rows were imported")
        if create.parents:
            raise NotRecomputable(
                "no-source", "its rows come from other items: make those of the items again"
            )
        band = band_of(create.tolerance, caps)
        if band is None:
            text = f"the statement does not say how closely encoder {create.encoder.name} can be run again"
            raise NotRecomputable("no-promise", text)
        checkpoint = None if chosen else checkpoint
        seed = chosen or seed_of(checkpoint, create.item)
        numbers = draw_rows(seed, create.rows.count, wanted)
        rows, windows = _read_rows(Shard.open(shard, create.rows), numbers)
        again = _hook()(create, windows, sources)
    except NotRecomputable as error:
        return _inconclusive(error.cause, str(error))
    except EocatError as error:
        return _inconclusive("failed", str(error))
    drawn: dict[str, Any] = {"wanted": wanted, "seed": seed.hex(), "checkpoint": checkpoint, "rows": numbers}
    return _compared(numbers, rows, again, band, drawn)


def _hook() -> Recompute:
    hooks = list(entry_points(group=GROUP))
    if not hooks:
        raise NotRecomputable(
            "no-encoder", "nothing installed here can encode: pip install 'eocat[producer]'"
        )
    make_again: Recompute = hooks[0].load()
    return make_again


def _compared(
    numbers: Sequence[int], rows: Sequence[Row], again: Sequence[Again], band: Band, drawn: Mapping[str, Any]
) -> Step:
    """The verdict on the rows, with its facts under names of docs/format.md, section 7."""
    source, model, worst = [], [], 0.0
    for number, row, made in zip(numbers, rows, again, strict=True):
        if made.input_digest != row.input_digest:
            source.append(number)
            continue
        worst = max(worst, distance(row.values(), made.vector))
        if not band.passes(row.values(), made.vector):
            model.append(number)
    facts = {
        **drawn,
        "precision": band.precision,
        "limit": f"{band.limit:.3g}",
        "worst": f"{worst:.3g}",
        "sourceDiffers": source,
        "modelDiffers": model,
    }
    if source:
        text = f"{_some(source, numbers)}: the source's pixels differ from the signed ones"
        return _verdict("source-differs", text, facts)
    if model:
        text = f"{_some(model, numbers)}: same pixels, another vector, {worst:.2g} away, {band.text}"
        return _verdict("model-differs", text, facts)
    how = "bit for bit the same" if band.is_exact else f"at most {worst:.2g} away, {band.text}"
    drawer = "the log's checkpoint" if facts["checkpoint"] else "the verifier"
    return _verdict("same", f"{len(rows)} rows made again from the source, {how}; drawn by {drawer}", facts)


def _some(bad: Sequence[int], numbers: Sequence[int]) -> str:
    return f"{len(bad)} of {len(numbers)} rows, the first is row {bad[0]}"


def _verdict(cause: Cause, text: str, facts: Mapping[str, Any]) -> Step:
    outcome = None if cause == "same" else Outcome.RECOMPUTE_MISMATCH
    return Step(STEP, text, outcome, facts={"cause": cause, **facts})


def _read_rows(shard: Shard, numbers: Sequence[int]) -> tuple[list[Row], list[Window]]:
    wanted, rows, windows = set(numbers), [], []
    for batch in shard.batches():
        inside = [number - batch.first for number in sorted(wanted) if 0 <= number - batch.first < len(batch)]
        if not inside:
            continue
        places = batch.table["window"].to_pylist()
        every = list(batch.rows())
        rows += [every[index] for index in inside]
        windows += [Window(places[i]["x"], places[i]["y"], places[i]["width"]) for i in inside]
    return rows, windows


def _inconclusive(cause: Cause, why: str) -> Step:
    return Step(STEP, why, Outcome.RECOMPUTE_INCONCLUSIVE, facts={"cause": cause})
