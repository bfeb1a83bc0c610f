"""The footprint of a shard: the convex hull of its chips, cut at the antimeridian."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .chips import Chip
from .footprint import Point, quadrangle

_WELL_WITHIN: Final = 1e-6  # square degrees: far above the rounding of `_turn`


def outline(chips: Sequence[Chip], name: str) -> dict[str, Any]:
    """GeoJSON Polygon (MultiPolygon across ±180°) around all chips, longitude and latitude."""
    return around([chip.geometry for chip in chips], chips[0].centre[0], name)


def around(geometries: Iterable[dict[str, Any]], near: float, name: str) -> dict[str, Any]:
    """The same around footprints. near: a longitude in the middle of them, or within 180° of it."""
    points = [point for geometry in geometries for ring in _rings(geometry) for point in ring]
    return around_points(np.array(points), near, name)


def around_points(points: NDArray[np.float64], near: float, name: str) -> dict[str, Any]:
    """The same around points (P, 2)."""
    x, y = points.T
    unwrapped = np.where(x - near < -180, x + 360, np.where(x - near > 180, x - 360, x))
    corners = _outer(np.column_stack([unwrapped, y]))
    return quadrangle(_hull(sorted({(x, y) for x, y in corners.tolist()})), name)


def _outer(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The points without those well within the octagon of the outermost ones (Akl and Toussaint, 1978)."""
    x, y = points.T
    ends = [points[along.argmin()].tolist() for along in (y, y - x, -x, -x - y, -y, x - y, x, x + y)]
    octagon = np.array(list(dict.fromkeys(map(tuple, ends))))
    within = np.ones(len(points), bool)
    for (ax, ay), (bx, by) in zip(octagon, np.roll(octagon, -1, axis=0), strict=True):
        within &= (bx - ax) * (y - ay) - (by - ay) * (x - ax) > _WELL_WITHIN
    return points[~within]


def _rings(geometry: dict[str, Any]) -> list[list[list[float]]]:
    coordinates = geometry["coordinates"]
    return [polygon[0] for polygon in coordinates] if geometry["type"] == "MultiPolygon" else coordinates[:1]


def _hull(points: Sequence[Point]) -> list[Point]:
    """Corners counter-clockwise (Andrew's monotone chain, 1979); points: sorted, at least three."""

    def half(ordered: Sequence[Point]) -> list[Point]:
        chain: list[Point] = []
        for point in ordered:
            while len(chain) > 1 and _turn(chain[-2], chain[-1], point) <= 0:
                chain.pop()
            chain.append(point)
        return chain[:-1]

    return half(points) + half(points[::-1])


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
