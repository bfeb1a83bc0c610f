"""Footprints of imported rows: any WKB or points, in any reference system, to what eocat signs.

The reference system that a file declares is held against its coordinates: a published file declares
EPSG:3857, in metres, over longitudes and latitudes.
"""

import math
import struct
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError

from eocat.verify.errors import InputError, UsageError

from ..footprint import Point, quadrangle

LONLAT: Final = "OGC:CRS84"
_METRES_PER_DEGREE: Final = 111_320
_HINT: Final = "eocat reads points, polygons and multipolygons of one ring each, as WKB"

Rings = list[list[Point]]  # the exterior rings of a geometry, open


def read_wkb(data: bytes, label: str) -> Rings:
    """The exterior rings, or one ring of one point; ISO or extended WKB, heights dropped."""
    try:
        rings, end = _geometry(data, 0)
    except (struct.error, IndexError, ValueError) as error:
        raise InputError(f"{label} has a geometry that is no WKB of an area: {error}", hint=_HINT) from None
    if end != len(data) or not rings:
        raise InputError(f"{label} has a geometry of {len(data)} bytes, WKB of {end} is expected", hint=_HINT)
    return rings


def _geometry(data: bytes, position: int) -> tuple[Rings, int]:
    order = "<" if data[position] == 1 else ">"
    (kind,) = struct.unpack_from(f"{order}I", data, position + 1)
    position += 5
    if kind & 0x20000000:  # PostGIS writes the SRID here; the file's own metadata rule
        position += 4
    extra = bool(kind & 0xC0000000) + ((kind & 0xFFFFFFF) // 1000 in (1, 2))
    base = (kind & 0xFFFFFFF) % 1000
    if base == 1:
        point, position = _points(data, position, order, 1, 2 + extra)
        return [point], position
    if base == 3:
        rings = []
        count, position = _count(data, position, order)
        for _ in range(count):
            size, position = _count(data, position, order)
            ring, position = _points(data, position, order, size, 2 + extra)
            rings.append(ring[:-1])
        if len(rings) != 1:
            raise ValueError(f"a polygon of {len(rings)} rings")
        return rings, position
    if base == 6:
        parts: Rings = []
        count, position = _count(data, position, order)
        for _ in range(count):
            rings, position = _geometry(data, position)
            parts += rings
        return parts, position
    raise ValueError(f"type {base}")


def _count(data: bytes, position: int, order: str) -> tuple[int, int]:
    (count,) = struct.unpack_from(f"{order}I", data, position)
    if not 1 <= count <= 10_000:
        raise ValueError(f"{count} parts")
    return count, position + 4


def _points(data: bytes, position: int, order: str, count: int, axes: int) -> tuple[list[Point], int]:
    numbers = struct.unpack_from(f"{order}{count * axes}d", data, position)
    points = [(numbers[i], numbers[i + 1]) for i in range(0, len(numbers), axes)]
    return points, position + 8 * len(numbers)


def crs_of(declared: str | None, told: str | None, geometries: Sequence[Rings], label: str) -> str:
    """The reference system of the coordinates: told, or declared and borne out by them.

    Raises InputError where metres are declared over degrees or degrees over metres.
    """
    points = np.array([point for rings in geometries for ring in rings for point in ring])
    if not np.isfinite(points).all():
        raise InputError(
            f"{label} has a coordinate that is not finite", hint="leave such rows out of the file"
        )
    degrees = bool((np.abs(points[:, 0]) <= 180).all() and (np.abs(points[:, 1]) <= 90).all())
    crs = told or declared or LONLAT
    try:
        geographic = CRS.from_user_input(crs).is_geographic
    except CRSError:
        raise UsageError(f"reference system {crs[:60]!r} is not known", hint="such as EPSG:32633") from None
    x, y = points[0]
    if geographic != degrees:
        found, right = (
            ("longitudes and latitudes", LONLAT) if degrees else ("no longitudes and latitudes", "EPSG:…")
        )
        raise InputError(
            f"{label} {'is told to be in' if told else 'declares'} {crs[:60]}, "
            f"but its coordinates, such as ({x:g}, {y:g}), are {found}",
            hint=f"say what they are: --crs {right}",
        )
    return LONLAT if geographic else crs


def footprints(
    geometries: Sequence[Rings], crs: str, ids: Sequence[str], *, square_metres: int | None
) -> list[dict[str, Any]]:
    """GeoJSON in longitude and latitude, counter-clockwise, cut at the antimeridian.

    Points become squares of `square_metres`; InputError if there are points and none was given.
    """
    flat = np.array([point for rings in geometries for ring in rings for point in ring])
    if crs != LONLAT:
        try:
            transformer = Transformer.from_crs(crs, LONLAT, always_xy=True)
            flat = np.column_stack(transformer.transform(flat[:, 0], flat[:, 1], errcheck=True))
        except ProjError as error:
            raise InputError(f"coordinates are outside {crs[:60]}: {error}", hint="check --crs") from None
    made, position = [], 0
    for rings, name in zip(geometries, ids, strict=True):
        parts: Rings = []
        for ring in rings:
            corners = [(float(x), float(y)) for x, y in flat[position : position + len(ring)]]
            position += len(ring)
            parts.append(_square(corners[0], square_metres, name) if len(corners) == 1 else corners)
        made.append(_geojson(parts, name))
    return made


def centre(geometry: dict[str, Any]) -> Point:
    """Mean longitude and latitude of the first part's corners: for the order of rows."""
    part = geometry["coordinates"][0]
    ring = (part[0] if geometry["type"] == "MultiPolygon" else part)[:-1]
    return sum(x for x, _ in ring) / len(ring), sum(y for _, y in ring) / len(ring)


def _square(point: Point, metres: int | None, name: str) -> list[Point]:
    if metres is None:
        raise InputError(
            f"row {name} has a point for a footprint", hint="say how large its square is: --footprint METRES"
        )
    (x, y), half = point, metres / 2 / _METRES_PER_DEGREE
    wide = half / max(math.cos(math.radians(y)), 1e-6)
    ring = [(x - wide, y - half), (x + wide, y - half), (x + wide, y + half), (x - wide, y + half)]
    return [(_wrap(lon), min(max(lat, -90.0), 90.0)) for lon, lat in ring]


def _wrap(longitude: float) -> float:
    return longitude - 360 if longitude > 180 else longitude + 360 if longitude < -180 else longitude


def _geojson(parts: Rings, name: str) -> dict[str, Any]:
    shapes = [quadrangle(_anticlockwise(ring), f"row {name}") for ring in parts]
    polygons = [
        polygon
        for shape in shapes
        for polygon in (shape["coordinates"] if shape["type"] == "MultiPolygon" else [shape["coordinates"]])
    ]
    if not all(polygons):
        raise InputError(f"row {name} has a footprint without area", hint=_HINT)
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def _anticlockwise(ring: list[Point]) -> list[Point]:
    first = ring[0][0]
    near = [(x + 360 if x - first < -180 else x - 360 if x - first > 180 else x, y) for x, y in ring]
    area = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(near, [*near[1:], near[0]], strict=True))
    return ring if area >= 0 else ring[::-1]
