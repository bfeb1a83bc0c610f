"""GeoJSON geometry of a small quadrangle on the globe, cut at the antimeridian as RFC 7946 (3.1.9) asks.

Corners are joined by straight lines in longitude and latitude. Over a chip of a few kilometres that line and
the projected edge differ by decimetres, so edges are not densified; corners are exact.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from eocat.verify.errors import InputError

DECIMALS: Final = 9  # 0.1 mm

Point = tuple[float, float]


def quadrangle(corners: Sequence[Point], name: str) -> dict[str, Any]:
    """Polygon, or MultiPolygon of two across ±180°, of the corners (longitude, latitude), counter-clockwise.

    The exterior ring starts at the first corner that it holds; longitudes are in [-180, 180]. Raises
    InputError for a ring that surrounds a pole, which no box of longitudes holds.
    """
    ring = _unwrap(corners)
    if max(x for x, _ in ring) - min(x for x, _ in ring) >= 180:
        raise InputError(
            f"{name} surrounds a pole or spans half the globe", hint="leave the pole out: crop the scene"
        )
    west = _rounded(_clip(ring, 180.0, below=True))
    east = _rounded((x - 360, y) for x, y in _clip(ring, 180.0, below=False))
    parts = [part for part in (west, east) if len(part) > 3]
    if len(parts) == 1:
        return {"type": "Polygon", "coordinates": parts}
    return {"type": "MultiPolygon", "coordinates": [[part] for part in parts]}


def _unwrap(corners: Sequence[Point]) -> list[Point]:
    """The ring without a jump: longitudes within half a turn of the first, none west of -180."""
    first = corners[0][0]
    ring = [(x + 360 if x - first < -180 else x - 360 if x - first > 180 else x, y) for x, y in corners]
    return [(x + 360, y) for x, y in ring] if min(x for x, _ in ring) < -180 else ring


def _clip(ring: list[Point], limit: float, *, below: bool) -> list[Point]:
    """The part of a convex ring on one side of a meridian (Sutherland and Hodgman 1974)."""

    def inside(x: float) -> bool:
        return x <= limit if below else x >= limit

    part: list[Point] = []
    for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
        if inside(x0):
            part.append((x0, y0))
        if inside(x0) != inside(x1) and limit not in (x0, x1):
            part.append((limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)))
    return part


def _rounded(ring: Iterable[Point]) -> list[list[float]]:
    """The closed ring with rounded coordinates and no -0.0; empty if it has no area."""
    points: list[list[float]] = []
    for x, y in ring:
        point = [round(x, DECIMALS) + 0.0, round(y, DECIMALS) + 0.0]
        if not points or point != points[-1]:
            points.append(point)
    if len({x for x, _ in points}) < 2 or len({y for _, y in points}) < 2:
        return []
    return [*points, points[0]] if points[0] != points[-1] else points
