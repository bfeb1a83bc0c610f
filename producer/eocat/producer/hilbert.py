"""The Hilbert curve over longitude and latitude, 2^16 cells each, in integers: the order of a shard's rows.

Rows that are near on the curve are near on the ground, so a box is a few runs of rows (DESIGN.md, section 3).
The cells of the grid are 360 / 65536 by 180 / 65536 degrees, half-open to the east and north.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

ORDER: Final = 16
_NANO: Final = 10**9  # degrees are taken to nine decimals, as footprints have them


def hilbert_index(longitude: ArrayLike, latitude: ArrayLike) -> NDArray[np.int64]:
    """The distance along the curve, 0 … 2^32 - 1, of the cell that holds each point (degrees)."""
    return hilbert_distance(_cell(longitude, 180), _cell(latitude, 90))


def order_along(centres: ArrayLike, starts: Sequence[int], ids: Sequence[str]) -> list[int]:
    """Places in the order of rows: along the curve of the centres (N, 2), ties by start (µs), then by id."""
    along = hilbert_index(*np.reshape(centres, (-1, 2)).T).tolist()
    keys = list(zip(along, starts, ids, strict=True))
    return sorted(range(len(keys)), key=keys.__getitem__)


def hilbert_distance(x: ArrayLike, y: ArrayLike) -> NDArray[np.int64]:
    """The distance along the curve, from (0, 0) to (2^16 - 1, 0), of each cell (x, y), each 0 … 2^16 - 1.

    Quadrant by quadrant, from the coarsest: each is turned so that the curve enters it at its own origin.
    """
    x, y = np.asarray(x, np.int64), np.asarray(y, np.int64)
    distance, side = np.zeros(x.shape, np.int64), 1 << ORDER
    half = side >> 1
    while half:
        right, upper = x & half > 0, y & half > 0
        distance += half * half * ((3 * right) ^ upper)
        mirrored = right & ~upper
        x, y = np.where(mirrored, side - 1 - x, x), np.where(mirrored, side - 1 - y, y)
        x, y = np.where(upper, x, y), np.where(upper, y, x)
        half >>= 1
    return distance


def _cell(degrees: ArrayLike, limit: int) -> NDArray[np.int64]:
    """The points' cells on one axis from -limit to +limit degrees; the last cell holds +limit."""
    nano = np.rint(np.asarray(degrees, np.float64) * _NANO).astype(np.int64)
    cell = (nano + limit * _NANO << ORDER) // (2 * limit * _NANO)
    return cell.clip(0, (1 << ORDER) - 1)
