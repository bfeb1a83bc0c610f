"""Step 8: some rows are made again from the source scene, and must come out the same (level 5).

The rows are drawn where the producer could not foresee them: the seed is SHA-256 of the newest cosigned
checkpoint and the item's name, or the verifier's own randomness where there is no log. 59 rows find a
corruption of 5 % of them with 95 %, 299 rows one of 1 %. The verifier cannot encode: the producer room offers
that through the entry point group `eocat.recompute`. A row's input digest tells a source that differs from
a model that does. Only encoders that promise their bits (`tolerance` {"kind": "bits"}) are judged so far.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import entry_points
from pathlib import Path

from .errors import EocatError
from .report import Outcome, Step
from .row import Row
from .shard import Shard
from .statement import Create

GROUP = "eocat.recompute"
STEP = "recompute"


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


def draw_rows(seed: bytes, count: int, wanted: int) -> list[int]:
    """`wanted` different rows of 0..count-1 (all, if there are fewer), sorted; the same for the same seed."""
    rows: set[int] = set()
    number = 0
    while len(rows) < min(wanted, count):
        digest = sha256(seed + number.to_bytes(8, "big")).digest()
        rows.add(int.from_bytes(digest[:16], "big") % count)  # 2^128 over count: no bias to speak of
        number += 1
    return sorted(rows)


def seed_of(checkpoint: str | None, item: str) -> bytes:
    """What the producer cannot foresee. checkpoint: the cosigned note, where there is one."""
    return sha256((checkpoint or secrets.token_hex(32)).encode() + item.encode()).digest()


def check_recompute(create: Create, shard: Path, sources: Path | None, wanted: int, seed: bytes) -> Step:
    """The step over `wanted` rows; 0: not run. `shard` has passed the steps before."""
    if not wanted:
        return Step(STEP, "not run (--recompute 59)", checked=False)
    if sources is None:
        return _inconclusive("no folder of sources was given (--sources)")
    if create.tolerance.get("kind") != "bits":
        return _inconclusive(f"encoder {create.encoder.name} does not promise its bits")
    hooks = list(entry_points(group=GROUP))
    if not hooks:
        return _inconclusive("nothing installed here can encode: pip install 'eocat[producer]'")
    numbers = draw_rows(seed, create.rows.count, wanted)
    try:
        rows, windows = _read_rows(Shard.open(shard, create.rows), numbers)
        make_again: Recompute = hooks[0].load()
        again = make_again(create, windows, sources)
    except EocatError as error:
        return _inconclusive(str(error))
    return _compare(numbers, rows, again)


def _compare(numbers: Sequence[int], rows: Sequence[Row], again: Sequence[Again]) -> Step:
    for number, row, made in zip(numbers, rows, again, strict=True):
        if made.input_digest != row.input_digest:
            return Step(STEP, f"row {number}: the source's pixels differ", Outcome.RECOMPUTE_MISMATCH)
        if made.vector != row.vector:
            return Step(STEP, f"row {number}: same pixels, another vector", Outcome.RECOMPUTE_MISMATCH)
    return Step(STEP, f"{len(rows)} rows made again from the source, bit for bit the same")


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


def _inconclusive(why: str) -> Step:
    return Step(STEP, why, Outcome.RECOMPUTE_INCONCLUSIVE)
