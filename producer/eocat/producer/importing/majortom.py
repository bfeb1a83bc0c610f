"""Major TOM's fragments: rows of a cell in the order of its grid, and footprints that are transposed.

The published code lists a cell's fragments line by line, but takes the line's offset for the column's when it
cuts the footprint: fragment (line, column) has the footprint of (column, line). Only the order of rows tells:
the second row of a cell must lie east of the first, not south of it. FORMATS.md, 4.2.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import groupby
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyproj import Transformer
from pyproj.exceptions import ProjError

from eocat.verify.errors import InputError

from ..chips import CELL_PIXEL_METRES
from ..grid import cell_named
from .footprints import quadrangles
from .places import LONLAT
from .slab import Slab

_NUMBER: Final = r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_TURN: Final = "--transpose puts them right; the statement says so"

Box = tuple[int, int, int, int]


class Fragments:
    """Places the rows of one file. swap: the publisher says that footprints are to be transposed."""

    def __init__(self, label: str, *, swap: bool) -> None:
        self._label, self._swap = label, swap
        self._verdicts: set[bool] = set()  # transposed or not, of the cells that tell

    def placed(self, slab: Slab, part: pa.Table) -> Slab:
        """The slab with windows, and with right footprints where they are transposed.

        Raises InputError for transposed footprints that nobody asked to turn, and the other way round.
        """
        for name in dict.fromkeys(slab.cells):
            cell_named(name or "")
        if "pixel_bbox" not in part.column_names:
            if self._swap:
                raise InputError(
                    f"{self._label} has no pixel_bbox to transpose", hint="leave out --transpose"
                )
            return slab
        boxes = [_box(value, self._label) for value in part["pixel_bbox"].to_pylist()]
        self._judge(slab, boxes)
        assumed = (
            "footprints: as the file has them; the order of its rows does not tell whether they are right"
        )
        if self._verdicts:
            assumed = (
                "footprints: transposed back" if self._swap else "footprints: borne out by the order of rows"
            )
        if self._swap:
            boxes, slab = self._turned(slab, boxes, part)
        windows = np.array([(x0, y0, x1 - x0) for x0, y0, x1, _ in boxes], np.int64)
        return replace(slab, windows=windows, assumptions=(*slab.assumptions, assumed))

    def _judge(self, slab: Slab, boxes: Sequence[Box]) -> None:
        rows = zip(slab.cells, slab.sources, boxes, strict=True)
        for (cell, _), group in groupby(rows, key=lambda row: row[:2]):
            verdict = is_transposed([box for _, _, box in group])
            if verdict is not None and verdict != self._swap:
                wrong = "are transposed: fragment (line, column) has the place of (column, line)"
                right = "are not transposed, and --transpose would make them wrong"
                raise InputError(
                    f"{self._label}: the footprints of cell {cell} {wrong if verdict else right}",
                    hint=_TURN if verdict else "leave out --transpose",
                )
            if verdict is not None:
                self._verdicts.add(verdict)

    def _turned(self, slab: Slab, boxes: Sequence[Box], part: pa.Table) -> tuple[list[Box], Slab]:
        if not {"utm_footprint", "utm_crs"} <= set(part.column_names):
            raise InputError(
                f"{self._label} has no utm_footprint and utm_crs, which --transpose needs",
                hint="import the file as published",
            )
        turned = [(y0, x0, y1, x1) for x0, y0, x1, y1 in boxes]
        wkts, systems = part["utm_footprint"].to_pylist(), np.array(part["utm_crs"].to_pylist(), object)
        moved = [_moved(*row) for row in zip(wkts, boxes, slab.ids, strict=True)]
        corners = np.array(moved)
        for crs in dict.fromkeys(systems.tolist()):
            rows = np.flatnonzero(systems == crs)
            corners[rows] = _lonlat(corners[rows], str(crs), slab.ids[rows[0]])
        return turned, replace(slab, footprints=quadrangles(corners, slab.ids))


def is_transposed(boxes: Sequence[Box]) -> bool | None:
    """Whether a cell's fragments, in the order of their rows, go down first; None: they do not tell.

    boxes: (x0, y0, x1, y1) of each; n × n of them in the order of a grid tell.
    """
    side = math.isqrt(len(boxes))
    if side < 2 or side * side != len(boxes):
        return None
    steps = sorted({box[0] for box in boxes})
    if len(steps) != side or steps != sorted({box[1] for box in boxes}):
        return None
    by_line = [(steps[i % side], steps[i // side]) for i in range(len(boxes))]
    found = [box[:2] for box in boxes]
    if found == by_line:
        return False
    return True if found == [(y, x) for x, y in by_line] else None


def _box(value: object, label: str) -> Box:
    match value:
        case [int() as x0, int() as y0, int() as x1, int() as y1] if 0 <= x0 < x1 and 0 <= y0 < y1:
            return x0, y0, x1, y1
    raise InputError(f"{label} has the pixel_bbox {str(value)[:60]}", hint="x0, y0, x1, y1 are expected")


@lru_cache(maxsize=128)
def _to_lonlat(crs: str) -> Transformer:
    return Transformer.from_crs(crs, LONLAT, always_xy=True)


def _moved(wkt: object, box: Box, name: str) -> list[tuple[float, float]]:
    """Corners in metres of the fragment at (y0, x0) of the cell whose fragment at (x0, y0) has the box."""
    numbers = [float(text) for text in re.findall(_NUMBER, str(wkt))]
    if not str(wkt).startswith("POLYGON") or len(numbers) < 8:
        raise InputError(f"row {name} has the utm_footprint {str(wkt)[:60]!r}", hint="a POLYGON is expected")
    west, north = min(numbers[0::2]), max(numbers[1::2])
    x0, y0, x1, _ = box
    west += (y0 - x0) * CELL_PIXEL_METRES
    north -= (x0 - y0) * CELL_PIXEL_METRES
    side = (x1 - x0) * CELL_PIXEL_METRES
    return [(west, north - side), (west + side, north - side), (west + side, north), (west, north)]


def _lonlat(corners: NDArray[np.float64], crs: str, name: str) -> NDArray[np.float64]:
    """Corners (M, 4, 2) in longitude and latitude. name: of the first row, for an error."""
    try:
        longitudes, latitudes = _to_lonlat(crs).transform(corners[..., 0], corners[..., 1], errcheck=True)
    except ProjError as error:
        raise InputError(
            f"row {name} has the utm_crs {crs[:40]!r}: {error}", hint="such as EPSG:32633"
        ) from None
    return np.stack([longitudes, latitudes], axis=-1)
