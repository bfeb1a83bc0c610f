"""The footprint of a shard: the convex hull of its chips, cut at the antimeridian."""

from collections.abc import Iterable, Sequence
from typing import Any

from .chips import Chip
from .footprint import Point, quadrangle


def outline(chips: Sequence[Chip], name: str) -> dict[str, Any]:
    """GeoJSON Polygon (MultiPolygon across ±180°) around all chips, longitude and latitude."""
    return around([chip.geometry for chip in chips], chips[0].centre[0], name)


def around(geometries: Iterable[dict[str, Any]], near: float, name: str) -> dict[str, Any]:
    """The same around footprints. near: a longitude in the middle of them, or within 180° of it."""
    points = {
        (x + 360 if x - near < -180 else x - 360 if x - near > 180 else x, y)
        for geometry in geometries
        for ring in _rings(geometry)
        for x, y in ring
    }
    return quadrangle(_hull(sorted(points)), name)


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
