"""Footprints of imported rows: any WKB or points, in any reference system, to what eocat signs.

The reference system that a file declares is held against its coordinates: a published file declares
EPSG:3857, in metres, over longitudes and latitudes.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError

from eocat.verify.errors import InputError, UsageError

from ..footprint import Point
from .footprints import RING_OF_FIVE, Footprints, Rings

LONLAT: Final = "OGC:CRS84"
_METRES_PER_DEGREE: Final = 111_320
_HINT: Final = "eocat reads points, polygons and multipolygons of one ring each, as WKB"


@dataclass(frozen=True, slots=True)
class Geometries:
    """Of N rows, as read. points: (P, 2), row by row, rings open; counts: (N,), how many are a row's.

    rings: of the rows that have several, how many points each has.
    """

    points: NDArray[np.float64]
    counts: NDArray[np.intp]
    rings: Mapping[int, list[int]]


def read_geometries(cells: Sequence[object], first: int, label: str) -> Geometries:
    """The rows' WKB, the first of row `first` of the file; InputError naming the row for what is none."""
    wkb = [bytes(cell or b"") for cell in cells]  # type: ignore[call-overload]
    size = len(RING_OF_FIVE) + 5 * 16
    plain = np.array([len(one) == size and one.startswith(RING_OF_FIVE) for one in wkb], bool)
    others = {
        row: read_wkb(wkb[row], f"row {first + row} of {label}") for row in np.flatnonzero(~plain).tolist()
    }
    counts = np.full(len(wkb), 4, np.intp)
    counts[list(others)] = [sum(map(len, rings)) for rings in others.values()]
    points, of_plain = np.empty((counts.sum(), 2)), np.repeat(plain, counts)
    squares = b"".join(
        [one[len(RING_OF_FIVE) :] for one, is_plain in zip(wkb, plain, strict=True) if is_plain]
    )
    points[of_plain] = np.frombuffer(squares, "<f8").reshape(-1, 5, 2)[:, :4].reshape(-1, 2)
    points[~of_plain] = np.reshape(
        [point for rings in others.values() for ring in rings for point in ring], (-1, 2)
    )
    several = {row: [len(ring) for ring in rings] for row, rings in others.items() if len(rings) > 1}
    return Geometries(points, counts, several)


def read_points(longitudes: Sequence[object], latitudes: Sequence[object]) -> Geometries:
    """Rows of a point each."""
    points = np.column_stack([np.array(axis, np.float64) for axis in (longitudes, latitudes)])
    return Geometries(points, np.ones(len(points), np.intp), {})


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


def crs_of(declared: str | None, told: str | None, points: NDArray[np.float64], label: str) -> str:
    """The reference system of the coordinates: told, or declared and borne out by them.

    Raises InputError where metres are declared over degrees or degrees over metres.
    """
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
    geometries: Geometries, crs: str, ids: Sequence[str], *, square_metres: int | None
) -> Footprints:
    """In longitude and latitude, counter-clockwise, cut at the antimeridian.

    Points become squares of `square_metres`; InputError if there are points and none was given.
    """
    points, counts = _lonlat(geometries.points, crs), geometries.counts
    _check_degrees(points, counts, ids)
    starts = np.cumsum(counts) - counts
    one_ring = np.ones(len(counts), bool)
    one_ring[list(geometries.rings)] = False
    alone, four = np.flatnonzero(one_ring & (counts == 1)), np.flatnonzero(one_ring & (counts == 4))
    made = Footprints.blank(len(counts))
    if alone.size:
        made.set_quadrangles(alone, _squares(points[starts[alone]], square_metres, ids[alone[0]]), ids)
    made.set_quadrangles(four, points[starts[four, None] + np.arange(4)], ids)
    for row in np.flatnonzero(~one_ring | ~np.isin(counts, (1, 4))).tolist():
        rings, position = [], int(starts[row])
        for size in geometries.rings.get(row, [int(counts[row])]):
            ring = points[position : position + size]
            position += size
            square = ring if size > 1 else _squares(ring, square_metres, ids[row])[0]
            rings.append([(x, y) for x, y in square.tolist()])
        made.set_rings(row, rings, ids[row])
    return made


def _lonlat(points: NDArray[np.float64], crs: str) -> NDArray[np.float64]:
    if crs == LONLAT:
        return points
    try:
        transformer = Transformer.from_crs(crs, LONLAT, always_xy=True)
        return np.column_stack(transformer.transform(points[:, 0], points[:, 1], errcheck=True))
    except ProjError as error:
        raise InputError(f"coordinates are outside {crs[:60]}: {error}", hint="check --crs") from None


def _check_degrees(points: NDArray[np.float64], counts: NDArray[np.intp], ids: Sequence[str]) -> None:
    """Raise InputError naming the first row with a point that is on no globe, or not finite."""
    outside = ~(np.abs(points) <= (180, 90)).all(axis=1)
    if outside.any():
        place = int(outside.argmax())
        row = int(np.searchsorted(np.cumsum(counts), place, side="right"))
        x, y = points[place]
        raise InputError(
            f"row {ids[row]} has the point ({x:g}, {y:g}), which is no longitude and latitude",
            hint="leave such rows out of the file, or check --crs",
        )


def _squares(points: NDArray[np.float64], metres: int | None, name: str) -> NDArray[np.float64]:
    """Corners (N, 4, 2) around points (N, 2). name: of the first row, for an error."""
    if metres is None:
        raise InputError(
            f"row {name} has a point for a footprint", hint="say how large its square is: --footprint METRES"
        )
    half, (x, y) = metres / 2 / _METRES_PER_DEGREE, points.T
    shrink = np.array([max(math.cos(math.radians(latitude)), 1e-6) for latitude in y.tolist()])
    wide = half / shrink
    lon = np.stack([x - wide, x + wide, x + wide, x - wide], axis=1)
    lat = np.stack([y - half, y - half, y + half, y + half], axis=1)
    lon = np.where(lon > 180, lon - 360, np.where(lon < -180, lon + 360, lon))
    return np.stack([lon, lat.clip(-90, 90)], axis=2)
