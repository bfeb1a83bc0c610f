"""The 480,038 records of reBEN (BigEarthNet v2) with their real ids, times and footprints.

The footprint follows from the id alone: patch `…_T33UUP_26_57` is the 27th from the left and the 58th from
the top of the 1,200 m squares of Sentinel-2 tile 33UUP, whose corner follows from its MGRS name and lies on a
grid of 60 m. `check` holds that against the 46,403 published footprints of zone 33.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyproj import Transformer

PATCH_M, GRID_M, SQUARE_M = 1_200, 60, 100_000
_ROWS = "ABCDEFGHJKLMNPQRSTUV"  # of MGRS squares, 20 letters repeating every 2,000 km
_COLUMNS = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")  # by zone
_BANDS = "CDEFGHJKLMNPQRSTUVWX"  # of 8 degrees from 80° S
_METRES_PER_DEGREE = 110_900


@dataclass(frozen=True)
class Products:
    """Patches by product, a Sentinel-2 scene of one tile: name → (ids, corners (N, 5, 2) in degrees)."""

    ids: dict[str, list[str]]
    rings: dict[str, NDArray[np.float64]]


def tile_corner(tile: str) -> tuple[int, int, int]:
    """EPSG code, and easting and northing of the upper left corner of a Sentinel-2 tile such as 33UUP."""
    zone, band, column, row = int(tile[:2]), tile[2], tile[3], tile[4]
    easting = (_COLUMNS[(zone - 1) % 3].index(column) + 1) * SQUARE_M
    south = (_BANDS.index(band) * 8 - 80) * _METRES_PER_DEGREE
    northing = ((_ROWS.index(row) - (0 if zone % 2 else 5)) % 20) * SQUARE_M
    while northing < south - SQUARE_M:  # the first repetition that lies in the band
        northing += 20 * SQUARE_M
    left = easting // GRID_M * GRID_M
    top = -(-(northing + SQUARE_M) // GRID_M) * GRID_M
    return 32_600 + zone, left, top


def patch_rings(tile: str, places: NDArray[np.integer]) -> NDArray[np.float64]:
    """(N, 5, 2) closed rings in metres. places: (N, 2), from the left and from the top."""
    _, left, top = tile_corner(tile)
    west, north = left + places[:, 0] * PATCH_M, top - places[:, 1] * PATCH_M
    east, south = west + PATCH_M, north - PATCH_M
    corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
    return np.stack([np.stack(corner, axis=1) for corner in corners], axis=1).astype(np.float64)


def read_products(folder: Path, count: int) -> Products:
    """The first `count` patches in the order of the file, by product."""
    names = pq.read_table(folder / "bigearthnet_v2_metadata.parquet", columns=["patch_id"])["patch_id"]
    ids: dict[str, list[str]] = {}
    for name in names.slice(0, count).to_pylist():
        ids.setdefault(name.rsplit("_", 2)[0], []).append(name)
    rings = {}
    for product, patches in ids.items():
        tile = product[-5:]
        places = np.array([name.rsplit("_", 2)[1:] for name in patches]).astype(int)
        transformer = Transformer.from_crs(tile_corner(tile)[0], 4326, always_xy=True)
        metres = patch_rings(tile, places)
        x, y = transformer.transform(metres[..., 0].ravel(), metres[..., 1].ravel())
        rings[product] = np.stack([x, y], axis=1).reshape(metres.shape)
    return Products(ids, rings)


def check(folder: Path) -> int:
    """How many published footprints there are, all of them equal to ours; ValueError otherwise."""
    published = pq.read_table(folder / "bigearthnet_v1_spatial_32633.parquet").to_pydict()
    known = dict(zip(published["patch_name"], published["geom"], strict=True))
    names = pq.read_table(folder / "bigearthnet_v2_metadata.parquet", columns=["patch_id", "s2v1_name"])
    checked = 0
    for name, old in zip(*(names[column].to_pylist() for column in names.column_names), strict=True):
        if old in known:
            tile, *place = name.rsplit("_", 3)[1:]
            ring = patch_rings(tile[1:], np.array([place]).astype(int))[0]
            theirs = np.frombuffer(known[old][-80:], "<f8").reshape(5, 2)
            if {tuple(point) for point in ring} != {tuple(point) for point in theirs}:
                raise ValueError(f"{name}: {ring.tolist()} is not {theirs.tolist()}")
            checked += 1
    return checked
