"""Clouds as polygons: QI_DATA/MSK_CLOUDS_B00.gml of Sentinel-2 products before baseline 04.00.

An eop:Mask holds an eop:MaskFeature for each cloud, OPAQUE or CIRRUS, with one gml:Polygon along the pixels
of 60 m of which it was made; positions are easting and northing in the tile's UTM zone. Where there is no
cloud, maskMembers is empty, and the envelope, which names the reference system, is missing. Read off real
masks of baselines 02.04 to 02.14. They lie on their tile: one that leaves it is another tile's.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import rasterize

from eocat.verify.errors import InputError

from .gdal import Grid
from .safe_files import open_safe
from .safe_xml import Element, parse_xml
from .scene import Scene

MAX_BYTES: Final = (
    16 << 20
)  # of a mask; a corner of each pixel of a tile would be 50 MB, real ones have less than 1
PIXEL_METRES: Final = 60
TYPES: Final = ("OPAQUE", "CIRRUS")

_EOP: Final = "{http://www.opengis.net/eop/2.0}"
_GML: Final = "{http://www.opengis.net/gml/3.2}"
_CRS: Final = re.compile(r"urn:ogc:def:crs:EPSG:[0-9.]*:([0-9]{4,6})")
_NUMBER: Final = r"-?[0-9]{1,9}(?:\.[0-9]{1,16})?"
_POSITIONS: Final = re.compile(rf"\s*{_NUMBER}(?:\s+{_NUMBER})*\s*")

Ring = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class CloudPolygons:
    """The polygons in file `name` of the SAFE product at `product`, and the grid that they are drawn on."""

    product: Path
    name: str
    grid: Grid

    def decode(self, scene: Scene) -> NDArray[np.bool_]:
        """Which pixels are cloudy: those whose centre lies in a polygon. Raises InputError for a bad mask."""
        with open_safe(self.product) as files:
            data = files.read(self.name, limit_bytes=MAX_BYTES)
        label = f"{self.name.rpartition('/')[2]} of scene {scene.id}"
        clouds = [{"type": "Polygon", "coordinates": rings} for rings in parse_clouds(data, label, self.grid)]
        cloudy = np.zeros((self.grid.height, self.grid.width), np.uint8)
        if clouds:
            rasterize(clouds, out=cloudy, transform=self.grid.transform)
        return cloudy.astype(np.bool_)


def mask_grid(bands: Grid) -> Grid:
    """The grid of 60 m on the extent of `bands`, if a whole number of its pixels lies there."""
    pixels = PIXEL_METRES / bands.transform.a
    transform = Affine(PIXEL_METRES, 0, bands.transform.c, 0, -PIXEL_METRES, bands.transform.f)
    return Grid(bands.crs, transform, round(bands.height / pixels), round(bands.width / pixels))


def parse_clouds(data: bytes, label: str, grid: Grid) -> Iterator[list[Ring]]:
    """Outer ring and holes of each cloud. Raises InputError for a mask that is damaged or not this tile's.

    label: what messages call it. grid: of the tile.
    """
    root = parse_xml(data, label)
    members = root.findall(f"{_EOP}maskMembers")
    if root.tag != f"{_EOP}Mask" or len(members) != 1:
        raise _refusal(label, "is no eop:Mask with one eop:maskMembers")
    if len(members[0]):
        _check_crs(root, label, grid)
    for feature in members[0]:
        kind = (feature.findtext(f"{_EOP}maskType") or "").strip()
        if feature.tag != f"{_EOP}MaskFeature" or kind not in TYPES:
            raise _refusal(label, f"holds a feature of type {kind[:24]!r}, {' or '.join(TYPES)} is expected")
        yield _polygon(feature, label, grid)


def _check_crs(root: Element, label: str, grid: Grid) -> None:
    """Whether it names a reference system, and none but the tile's."""
    named = {text for element in root.iter() if (text := element.get("srsName")) is not None}
    systems = {f"EPSG:{match[1]}" if (match := _CRS.fullmatch(text)) else text for text in named}
    if systems != {grid.crs}:
        found = ", ".join(sorted(systems))[:80] or "no reference system"
        raise _refusal(label, f"is in {found}, {grid.crs} is expected")


def _polygon(feature: Element, label: str, grid: Grid) -> list[Ring]:
    polygons = feature.findall(f"{_EOP}extentOf/{_GML}Polygon")
    outer, holes = (
        [
            ring
            for polygon in polygons
            for ring in polygon.findall(f"{_GML}{side}/{_GML}LinearRing/{_GML}posList")
        ]
        for side in ("exterior", "interior")
    )
    if len(polygons) != 1 or len(outer) != 1:
        raise _refusal(label, "has a cloud that is no gml:Polygon with one outer ring")
    return [_ring(positions, label, grid) for positions in (*outer, *holes)]


def _ring(positions: Element, label: str, grid: Grid) -> Ring:
    text = positions.text or ""
    values = [float(word) for word in text.split()] if _POSITIONS.fullmatch(text) else []
    ring = list(zip(values[::2], values[1::2], strict=False))
    if positions.get("srsDimension", "2") != "2" or len(values) % 2 or len(ring) < 4 or ring[0] != ring[-1]:
        raise _refusal(label, f"has a ring that is no closed line of easting and northing: {text[:40]!r}")
    left, top = grid.transform.c, grid.transform.f
    right, bottom = left + grid.width * PIXEL_METRES, top - grid.height * PIXEL_METRES
    if not all(left <= east <= right and bottom <= north <= top for east, north in ring):
        raise _refusal(label, f"has a cloud outside the tile: {text[:40]!r}")
    return ring


def _refusal(label: str, defect: str) -> InputError:
    return InputError(
        f"{label} {defect}: it is damaged, or the cloud mask of another product",
        hint="fetch the product again, or leave out --max-cloud",
    )
