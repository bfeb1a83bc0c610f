"""The Hilbert curve over longitude and latitude, 2^16 cells each, in integers: the order of a shard's rows.

Rows that are near on the curve are near on the ground, so a box is a few runs of rows (DESIGN.md, section 3).
The cells of the grid are 360 / 65536 by 180 / 65536 degrees, half-open to the east and north.
"""

from typing import Final

ORDER: Final = 16
_NANO: Final = 10**9  # degrees are taken to nine decimals, as footprints have them


def hilbert_index(longitude: float, latitude: float) -> int:
    """The distance along the curve, 0 … 2^32 - 1, of the cell that holds the point (degrees)."""
    return hilbert_distance(_cell(longitude, 180), _cell(latitude, 90))


def hilbert_distance(x: int, y: int) -> int:
    """The distance along the curve, from (0, 0) to (2^16 - 1, 0), of cell (x, y), each 0 … 2^16 - 1.

    Quadrant by quadrant, from the coarsest: each is turned so that the curve enters it at its own origin.
    """
    distance, side = 0, 1 << ORDER
    half = side >> 1
    while half:
        right, upper = int(x & half > 0), int(y & half > 0)
        distance += half * half * ((3 * right) ^ upper)
        if not upper:
            if right:
                x, y = side - 1 - x, side - 1 - y
            x, y = y, x
        half >>= 1
    return distance


def _cell(degrees: float, limit: int) -> int:
    """The point's cell on one axis from -limit to +limit degrees; the last cell holds +limit."""
    cell = (round(degrees * _NANO) + limit * _NANO << ORDER) // (2 * limit * _NANO)
    return min(max(cell, 0), (1 << ORDER) - 1)
