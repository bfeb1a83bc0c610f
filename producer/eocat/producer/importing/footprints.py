"""Footprints of many rows at once: what `footprint.quadrangle` makes of each, without an object for each.

A row of one ring of four corners that stays clear of the antimeridian is treated on whole columns, any other
by itself. Both ways give the same bytes.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eocat.verify.errors import InputError
from eocat.verify.geometry import format_wkb, parse_wkb

from ..footprint import DECIMALS, Point, quadrangle
from ..shard_writer import bounds

RING_OF_FIVE: Final = struct.pack("<BIII", 1, 3, 1, 5)  # what WKB of a polygon of four corners begins with
_RING_BYTES: Final = len(RING_OF_FIVE) + 5 * 16
_NEAR_HALF: Final = 1e-3  # of the last decimal: far above the error of one product

Rings = list[list[Point]]  # the exterior rings of a geometry, open


@dataclass(frozen=True, slots=True)
class Footprints:
    """Of rows, longitude and latitude in degrees.

    wkb: (N,) of bytes; boxes: (N, 4), as `bounds`; centres: (N, 2), the mean corner of the first part, for
    the order of rows.
    """

    wkb: NDArray[np.object_]
    boxes: NDArray[np.float64]
    centres: NDArray[np.float64]

    @classmethod
    def blank(cls, count: int) -> "Footprints":
        """Room for so many, to be filled by `set_quadrangles` and `set_rings`."""
        return cls(np.empty(count, object), np.empty((count, 4)), np.empty((count, 2)))

    def set_quadrangles(
        self, rows: NDArray[np.intp], corners: NDArray[np.float64], ids: Sequence[str]
    ) -> None:
        """Set these rows to the areas within `corners` (M, 4, 2), whichever way round. ids: of all rows."""
        turned = np.where(_area(corners)[:, None, None] < 0, corners[:, ::-1], corners)
        rounded = rounded_degrees(turned)
        plain = _are_plain(turned, rounded)
        simple = rows[plain]
        ring = rounded[plain]
        self.wkb[simple] = _format_rings(ring)
        self.boxes[simple] = np.concatenate([ring.min(axis=1), ring.max(axis=1)], axis=1)
        self.centres[simple] = ring.sum(axis=1) / 4
        for row, ends in zip(rows[~plain].tolist(), corners[~plain].tolist(), strict=True):
            self.set_rings(row, [[(x, y) for x, y in ends]], ids[row])

    def set_rings(self, row: int, rings: Rings, name: str) -> None:
        """Set one row to the area within the rings."""
        geometry = _geojson(rings, name)
        part = geometry["coordinates"][0]
        corners = (part[0] if geometry["type"] == "MultiPolygon" else part)[:-1]
        self.wkb[row] = format_wkb(geometry)
        self.boxes[row] = bounds(geometry)
        self.centres[row] = [sum(axis) / len(corners) for axis in zip(*corners, strict=True)]

    def take(self, places: NDArray[np.intp]) -> "Footprints":
        return Footprints(self.wkb[places], self.boxes[places], self.centres[places])

    def kinds(self) -> set[str]:
        """The types of the geometries."""
        return {"Polygon" if wkb[1] == 3 else "MultiPolygon" for wkb in self.wkb}

    def points(self) -> NDArray[np.float64]:
        """All corners, (P, 2)."""
        plain = b"".join([wkb[len(RING_OF_FIVE) :] for wkb in self.wkb if len(wkb) == _RING_BYTES])
        others = [parse_wkb(wkb) for wkb in self.wkb if len(wkb) != _RING_BYTES]
        more = [point for geometry in others for ring in _rings(geometry) for point in ring]
        return np.concatenate([np.frombuffer(plain, "<f8").reshape(-1, 2), np.reshape(more, (-1, 2))])


def quadrangles(corners: NDArray[np.float64], ids: Sequence[str]) -> Footprints:
    """The areas within `corners` (N, 4, 2), whichever way round."""
    made = Footprints.blank(len(corners))
    made.set_quadrangles(np.arange(len(corners)), corners, ids)
    return made


def rounded_degrees(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """`round(value, DECIMALS) + 0.0` of each, to the last bit; values: -360 to 360.

    A whole number over a power of ten is divided right; what lies near the middle of two is left to Python.
    """
    scaled = values * 10**DECIMALS
    whole = np.rint(scaled)
    rounded = whole / 10**DECIMALS + 0.0
    middle = np.abs(scaled - whole) > 0.5 - _NEAR_HALF
    rounded[middle] = [round(value, DECIMALS) + 0.0 for value in values[middle].tolist()]
    return rounded


def _area(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Twice the area within each ring, below zero where it goes clockwise."""
    after = np.roll(corners, -1, axis=1)
    turns: NDArray[np.float64] = corners[..., 0] * after[..., 1] - after[..., 0] * corners[..., 1]
    return np.asarray(turns.sum(axis=1))


def _are_plain(corners: NDArray[np.float64], rounded: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rings are neither cut at the antimeridian nor lose a corner by rounding."""
    x = corners[..., 0]
    low, high = rounded.min(axis=1), rounded.max(axis=1)
    inside = (x.min(axis=1) >= -180) & (x.max(axis=1) < 180) & (np.ptp(x, axis=1) < 180)
    apart = (rounded != np.roll(rounded, -1, axis=1)).any(axis=2).all(axis=1)
    return np.asarray(inside & apart & (low < high).all(axis=1))


def _format_rings(corners: NDArray[np.float64]) -> list[bytes]:
    """WKB of the rings (M, 4, 2), closed: what `format_wkb` gives for each."""
    wkb = np.empty(len(corners), [("head", f"V{len(RING_OF_FIVE)}"), ("ring", "<f8", (5, 2))])
    wkb["head"] = np.void(RING_OF_FIVE)
    wkb["ring"][:, :4], wkb["ring"][:, 4] = corners, corners[:, 0]
    found: list[bytes] = wkb.view(f"V{_RING_BYTES}").tolist()
    return found


def _geojson(rings: Rings, name: str) -> dict[str, Any]:
    shapes = [quadrangle(_anticlockwise(ring), f"row {name}") for ring in rings]
    polygons = [
        polygon
        for shape in shapes
        for polygon in (shape["coordinates"] if shape["type"] == "MultiPolygon" else [shape["coordinates"]])
    ]
    if not polygons or not all(polygons):
        raise InputError(
            f"row {name} has a footprint without area", hint="leave it out, or give points and --footprint"
        )
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def _anticlockwise(ring: list[Point]) -> list[Point]:
    first = ring[0][0]
    near = [(x + 360 if x - first < -180 else x - 360 if x - first > 180 else x, y) for x, y in ring]
    area = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(near, [*near[1:], near[0]], strict=True))
    return ring if area >= 0 else ring[::-1]


def _rings(geometry: dict[str, Any]) -> list[list[list[float]]]:
    coordinates = geometry["coordinates"]
    return [part[0] for part in coordinates] if geometry["type"] == "MultiPolygon" else [coordinates[0]]
