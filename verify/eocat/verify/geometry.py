"""GeoJSON ⇄ ISO WKB for chip footprints: the one spelling of a geometry that a row leaf signs.

Little-endian, two-dimensional, no SRID, Polygon and MultiPolygon (a chip across the antimeridian is cut).
Coordinates are longitude and latitude as float64; the bytes keep them exactly, and so does the shortest
decimal that JSON prints, so both spellings stand for the same bytes.
"""

import math
import struct
from typing import Any

from .errors import Malformed

_POLYGON, _MULTIPOLYGON = 3, 6
MAX_POINTS = 10_000  # of one ring
MAX_WKB_BYTES = 1 << 18


def format_wkb(geometry: dict[str, Any]) -> bytes:
    """WKB of a GeoJSON Polygon or MultiPolygon; Malformed for any other geometry or number."""
    wkb = _format(geometry)
    if len(wkb) > MAX_WKB_BYTES:
        raise Malformed(f"geometry has {len(wkb)} bytes of WKB, at most {MAX_WKB_BYTES}")
    return wkb


def parse_wkb(wkb: bytes) -> dict[str, Any]:
    """GeoJSON of the WKB that `format_wkb` writes; every other spelling is Malformed."""
    if len(wkb) > MAX_WKB_BYTES:
        raise Malformed(f"WKB geometry has {len(wkb)} bytes, at most {MAX_WKB_BYTES}")
    geometry = _parse(_Reader(wkb))
    if format_wkb(geometry) != wkb:  # bytes left over, negative zero
        raise Malformed("WKB geometry has bytes left over or a second spelling")
    return geometry


def _format(geometry: dict[str, Any]) -> bytes:
    match geometry:
        case {"type": "Polygon", "coordinates": list(rings), **rest} if not rest:
            return _format_polygon(rings)
        case {"type": "MultiPolygon", "coordinates": list(polygons), **rest} if polygons and not rest:
            parts = [_format_polygon(rings) for rings in polygons]
            return struct.pack("<BII", 1, _MULTIPOLYGON, len(parts)) + b"".join(parts)
    raise Malformed(
        f"geometry is {str(geometry.get('type'))[:40]!r} with {', '.join(geometry)[:80]}, "
        "expected Polygon or MultiPolygon with type and coordinates alone"
    )


def _parse(reader: "_Reader") -> dict[str, Any]:
    kind = reader.header()
    if kind == _POLYGON:
        return {"type": "Polygon", "coordinates": reader.rings()}
    if kind == _MULTIPOLYGON:
        polygons = []
        for _ in range(reader.count()):
            if reader.header() != _POLYGON:
                raise Malformed("a part of a WKB MultiPolygon is not a Polygon")
            polygons.append(reader.rings())
        return {"type": "MultiPolygon", "coordinates": polygons}
    raise Malformed(f"WKB type {kind} is neither Polygon (3) nor MultiPolygon (6)")


def _format_polygon(rings: list[Any]) -> bytes:
    if not isinstance(rings, list) or not rings:
        raise Malformed("polygon without rings")
    return struct.pack("<BII", 1, _POLYGON, len(rings)) + b"".join(_format_ring(ring) for ring in rings)


def _format_ring(ring: Any) -> bytes:
    if not isinstance(ring, list) or not 4 <= len(ring) <= MAX_POINTS or ring[0] != ring[-1]:
        raise Malformed(f"polygon ring is not closed or has not 4 to {MAX_POINTS} points")
    return struct.pack("<I", len(ring)) + b"".join(_format_point(point) for point in ring)


def _format_point(point: Any) -> bytes:
    match point:
        case [int() | float() as x, int() | float() as y] if not isinstance(x, bool) and not isinstance(
            y, bool
        ):
            if math.isfinite(x) and math.isfinite(y):
                return struct.pack("<dd", x + 0.0, y + 0.0)  # JSON writers drop the sign of -0.0, so do we
    raise Malformed(f"coordinate {str(point)[:60]} is not two finite numbers")


class _Reader:
    """A cursor over WKB bytes that never reads past their end."""

    def __init__(self, wkb: bytes) -> None:
        self.wkb = wkb
        self.position = 0

    def header(self) -> int:
        order, kind = self._unpack("<BI")
        if order != 1:
            raise Malformed("WKB is not little-endian")
        return int(kind)

    def count(self) -> int:
        (count,) = self._unpack("<I")
        if not 1 <= count <= MAX_POINTS:
            raise Malformed(f"WKB counts {count} parts, expected 1 to {MAX_POINTS}")
        return int(count)

    def rings(self) -> list[list[list[float]]]:
        return [[list(self._unpack("<dd")) for _ in range(self.count())] for _ in range(self.count())]

    def _unpack(self, layout: str) -> tuple[Any, ...]:
        try:
            values = struct.unpack_from(layout, self.wkb, self.position)
        except struct.error:
            raise Malformed(f"WKB ends early, at byte {len(self.wkb)}") from None
        self.position += struct.calcsize(layout)
        return values
