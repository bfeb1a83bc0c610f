"""geometry.py: one WKB for one GeoJSON, and back."""

import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eocat.verify.errors import Malformed
from eocat.verify.geometry import MAX_POINTS, MAX_WKB_BYTES, format_wkb, parse_wkb

RING = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]
POLYGON = {"type": "Polygon", "coordinates": [RING]}
MULTI = {"type": "MultiPolygon", "coordinates": [[RING], [RING, RING]]}


def by_hand(*rings: list[list[float]]) -> bytes:
    wkb = struct.pack("<BII", 1, 3, len(rings))
    for ring in rings:
        wkb += struct.pack("<I", len(ring)) + b"".join(struct.pack("<dd", *point) for point in ring)
    return wkb


def test_wkb_is_iso_little_endian_two_dimensional() -> None:
    assert format_wkb(POLYGON) == by_hand(RING)
    assert format_wkb(MULTI) == struct.pack("<BII", 1, 6, 2) + by_hand(RING) + by_hand(RING, RING)


@pytest.mark.parametrize("geometry", [POLYGON, MULTI])
def test_what_is_formatted_is_parsed(geometry: dict[str, Any]) -> None:
    assert parse_wkb(format_wkb(geometry)) == geometry


def test_integers_and_floats_of_json_stand_for_the_same_bytes() -> None:
    whole = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
    negative_zero = {"type": "Polygon", "coordinates": [[[-0.0, 0], [1, -0.0], [1, 1], [0, 0]]]}
    assert format_wkb(whole) == format_wkb(negative_zero) == format_wkb(POLYGON)


def ring(*points: Any) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [list(points)]}


@pytest.mark.parametrize(
    "geometry",
    [
        {},
        {"type": "Point", "coordinates": [0, 0]},
        {"type": "Polygon"},
        {"type": "polygon", "coordinates": [RING]},
        {"type": "Polygon", "coordinates": []},
        {"type": "Polygon", "coordinates": None},
        {"type": "Polygon", "coordinates": RING},
        {"type": "MultiPolygon", "coordinates": []},
        {"type": "MultiPolygon", "coordinates": [[]]},
        {"type": "MultiPolygon", "coordinates": ["x"]},
        {**POLYGON, "crs": {"type": "name", "properties": {"name": "EPSG:32633"}}},
        {**POLYGON, "bbox": [5, 5, 6, 6]},
        ring(*RING[:3]),
        ring([0, 0], [1, 0], [1, 1], [0, 1]),
        ring([0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0]),
        ring([0], [1], [1], [0]),
        ring([0, math.nan], [1, 0], [1, 1], [0, math.nan]),
        ring([0, 0], [math.inf, 0], [1, 1], [0, 0]),
        ring([0, 0], [True, 0], [1, 1], [0, 0]),
        ring([0, 0], ["1", 0], [1, 1], [0, 0]),
        ring([0, 0], None, [1, 1], [0, 0]),
        ring([0, 0], *[[1, 1]] * MAX_POINTS, [0, 0]),
        {"type": "MultiPolygon", "coordinates": [[RING]] * (MAX_WKB_BYTES // 64)},
    ],
)
def test_another_geometry_is_refused(geometry: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        format_wkb(geometry)


GOOD = by_hand(RING)


@pytest.mark.parametrize(
    ("wkb", "defect"),
    [
        (b"", "empty"),
        (GOOD[:-1], "cut"),
        (GOOD + b"\x00", "bytes left over"),
        (b"\x00" + GOOD[1:], "big-endian"),
        (GOOD[:1] + struct.pack("<I", 1) + GOOD[5:], "a point"),
        (GOOD[:1] + struct.pack("<I", 1003) + GOOD[5:], "ISO Z"),
        (GOOD[:1] + struct.pack("<I", 0x20000003) + struct.pack("<I", 4326) + GOOD[5:], "EWKB with SRID"),
        (struct.pack("<BII", 1, 3, 0), "no rings"),
        (struct.pack("<BII", 1, 3, 0xFFFFFFFF), "4 billion rings"),
        (struct.pack("<BIII", 1, 3, 1, 0xFFFFFFFF), "4 billion points"),
        (by_hand(RING[:3]), "three points"),
        (by_hand([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]), "not closed"),
        (by_hand([[-0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [-0.0, 0.0]]), "negative zero"),
        (by_hand([[math.nan, 0.0], [1.0, 0.0], [1.0, 1.0], [math.nan, 0.0]]), "NaN"),
        (struct.pack("<BII", 1, 6, 1) + struct.pack("<BII", 1, 6, 1) + GOOD, "nested collection"),
        (bytes(MAX_WKB_BYTES + 1), "too long"),
    ],
)
def test_another_wkb_is_refused(wkb: bytes, defect: str) -> None:
    with pytest.raises(Malformed):
        parse_wkb(wkb)


degrees = st.floats(-180, 180).map(lambda value: value + 0.0)
rings = st.lists(st.lists(degrees, min_size=2, max_size=2), min_size=3, max_size=6).map(lambda r: [*r, r[0]])
polygons = st.lists(rings, min_size=1, max_size=3)


@given(polygons)
def test_every_polygon_survives_both_ways(coordinates: list[Any]) -> None:
    geometry = {"type": "Polygon", "coordinates": coordinates}
    wkb = format_wkb(geometry)
    assert wkb == by_hand(*coordinates)
    assert parse_wkb(wkb) == geometry
    assert format_wkb(parse_wkb(wkb)) == wkb


@given(st.binary(max_size=120))
def test_bytes_are_parsed_to_themselves_or_refused(wkb: bytes) -> None:
    try:
        geometry = parse_wkb(wkb)
    except Malformed:
        return
    assert format_wkb(geometry) == wkb
