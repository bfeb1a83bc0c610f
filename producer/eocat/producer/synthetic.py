"""A synthetic scene in the form of a Sentinel-2 level-2A stack: for the demo and for tests without downloads.

The land is invented (`landscape`); the numbers are those of real reflectance: means per cover and band from
level-2A pixels of water, soil, crops and woods, 20 m and 60 m bands coarse as they are in products, a blur of
one pixel, noise per band. The file says in its tags that it is synthetic, and the reader passes that on.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer

from eocat.verify.errors import UsageError

from .chips import CELL_MARGIN_METRES, CELL_PIXELS
from .grid import Cell, cell_named
from .landscape import Cover, Field, Landscape, draw_landscape
from .sources.raster import SCALE, SYNTHETIC_TAG, TIME_TAG
from .sources.sentinel2 import L2A_BANDS

SIZE: Final = 1120  # pixels: room for one Major TOM cell of 1068
CELL: Final = "508U_101R"  # on the coast of the northern Adriatic, UTM zone 33
ACQUIRED: Final = datetime(2024, 6, 1, 10, 0, 31, tzinfo=UTC)
MIN_SIZE: Final = 64
MAX_SIZE: Final = 10_980

_PIXEL_METRES: Final = 10
_COARSE: Final = dict.fromkeys(("B05", "B06", "B07", "B8A", "B11", "B12"), 2) | {"B01": 6, "B09": 6}

# DN (reflectance × 10000) by cover, in the order of L2A_BANDS: B01 … B08, B8A, B09, B11, B12.
_SPECTRA: Final = {
    Cover.SEA: (330, 320, 270, 150, 130, 105, 100, 85, 80, 75, 40, 30),
    Cover.SHALLOWS: (560, 740, 980, 560, 420, 210, 190, 160, 150, 130, 80, 60),
    Cover.RIVER: (390, 460, 610, 430, 400, 330, 320, 280, 270, 250, 130, 90),
    Cover.BEACH: (950, 1350, 1850, 2200, 2380, 2500, 2600, 2750, 2800, 2800, 3500, 3100),
    Cover.BROADLEAF: (190, 220, 430, 260, 750, 2300, 2900, 3100, 3250, 3250, 1600, 750),
    Cover.CONIFER: (150, 165, 290, 190, 480, 1300, 1600, 1700, 1850, 1850, 900, 420),
    Cover.ROAD: (760, 880, 1020, 1100, 1180, 1300, 1380, 1430, 1470, 1480, 1600, 1450),
    Cover.CONCRETE: (1350, 1600, 1800, 1950, 2050, 2150, 2250, 2350, 2350, 2350, 2500, 2300),
    Cover.TILES: (700, 800, 1080, 1680, 1880, 2050, 2200, 2300, 2350, 2350, 2650, 2350),
    Cover.GARDEN: (330, 400, 700, 520, 1050, 2250, 2650, 2850, 2950, 2950, 1950, 1080),
    Cover.HEDGE: (210, 240, 440, 310, 780, 2000, 2450, 2650, 2750, 2750, 1500, 760),
    Cover.WHEAT: (260, 300, 650, 340, 1000, 2900, 3700, 3950, 4050, 4000, 1750, 850),
    Cover.MAIZE: (380, 480, 820, 800, 1380, 2300, 2650, 2850, 3050, 3050, 2500, 1550),
    Cover.RAPESEED: (320, 430, 1200, 1050, 1700, 2700, 3100, 3400, 3500, 3400, 2000, 1050),
    Cover.STUBBLE: (620, 880, 1380, 1820, 2150, 2450, 2600, 2800, 2950, 2950, 3700, 2700),
    Cover.SOIL: (640, 820, 1120, 1450, 1700, 1870, 1980, 2120, 2220, 2230, 2950, 2450),
    Cover.MEADOW: (320, 380, 760, 540, 1130, 2500, 2950, 3150, 3300, 3300, 2250, 1220),
}
_CLOUD: Final = (6200, 6400, 6300, 6400, 6500, 6600, 6700, 6750, 6750, 6700, 4300, 3300)


def write_scene(
    path: Path, *, seed: int, size: int = SIZE, cell: str = CELL, acquired: datetime = ACQUIRED
) -> Path:
    """Write the scene of this seed as a GeoTIFF of twelve bands, uint16, over the middle of a Major TOM cell.

    size: pixels of 10 m a side. The same arguments give the same bytes with the same GDAL. The file appears
    under its name when it is whole. Raises UsageError for a size that is out of range.
    """
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise UsageError(f"size is {size} pixels, {MIN_SIZE} to {MAX_SIZE} are expected")
    rng = np.random.Generator(np.random.PCG64(seed))
    landscape = draw_landscape(size, rng)
    place = cell_named(cell)
    profile = {
        "driver": "GTiff",
        "count": len(L2A_BANDS),
        "dtype": "uint16",
        "nodata": 0,
        "height": size,
        "width": size,
        "crs": f"EPSG:{place.epsg}",
        "transform": _transform(place, size),
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "interleave": "band",
        "compress": "deflate",
        "predictor": 2,
    }
    draft = path.with_name(f".{path.name}.tmp")
    with rasterio.Env(GDAL_NUM_THREADS="1"), rasterio.open(draft, "w", **profile) as dataset:
        for index, dn in enumerate(_bands(landscape, rng), start=1):
            dataset.write(dn, index)
        dataset.descriptions = L2A_BANDS
        dataset.scales = (SCALE,) * len(L2A_BANDS)
        dataset.offsets = (0.0,) * len(L2A_BANDS)
        dataset.update_tags(
            **{
                TIME_TAG: acquired.astimezone(UTC).isoformat(),
                SYNTHETIC_TAG: f"procedural scene, seed {seed}: no satellite took it",
            }
        )
    return draft.replace(path)


def _transform(cell: Cell, size: int) -> Affine:
    """The scene's grid: on whole pixels, with the cell's picture in the middle (FORMATS.md, 4.1)."""
    to_utm = Transformer.from_crs("EPSG:4326", f"EPSG:{cell.epsg}", always_xy=True)
    east, north = to_utm.transform(cell.west, cell.south)
    middle, half = CELL_PIXELS * _PIXEL_METRES / 2 - CELL_MARGIN_METRES, size * _PIXEL_METRES / 2
    left, top = (round(metres / _PIXEL_METRES) for metres in (east + middle - half, north + middle + half))
    return Affine(_PIXEL_METRES, 0, left * _PIXEL_METRES, 0, -_PIXEL_METRES, top * _PIXEL_METRES)


def _bands(landscape: Landscape, rng: np.random.Generator) -> Iterator[NDArray[np.uint16]]:
    """(size, size) DN of each band in turn, 1 or more: 0 is nodata."""
    spectra = np.array([_SPECTRA[cover] for cover in Cover], np.float64)
    sea = np.where(landscape.cover == Cover.SEA, landscape.shallowness, 0.0)
    light = landscape.brightness * (1 - landscape.shadow)
    for index, band in enumerate(L2A_BANDS):
        ground = spectra[landscape.cover, index]
        ground += sea * (spectra[Cover.SHALLOWS, index] - spectra[Cover.SEA, index])
        seen = ground * light
        seen += landscape.cloud * (_CLOUD[index] - seen)
        seen = _blur(seen)
        seen += (8 + 0.018 * seen) * _noise(seen.shape, rng)
        yield np.clip(np.rint(_coarsen(seen, _COARSE.get(band, 1))), 1, 65_535).astype(np.uint16)


def _noise(shape: tuple[int, ...], rng: np.random.Generator) -> Field:
    """Nearly normal noise, mean 0 and deviation 1: the sum of three even draws needs no logarithm."""
    noise: Field = 2 * (rng.random(shape) + rng.random(shape) + rng.random(shape) - 1.5)
    return noise


def _blur(image: Field) -> Field:
    """The image seen through a lens: weights 1, 2, 1 on each axis."""
    for axis in (0, 1):
        edge = np.pad(image, [(1, 1) if i == axis else (0, 0) for i in (0, 1)], mode="edge")
        before, after = (np.take(edge, range(k, k + image.shape[axis]), axis) for k in (0, 2))
        image = (before + 2 * image + after) / 4
    return image


def _coarsen(image: Field, step: int) -> Field:
    """Each block of `step` × `step` pixels at its mean, as a coarse band looks on the fine grid."""
    if step == 1:
        return image
    size = image.shape[0]
    padded = np.pad(image, (0, -size % step), mode="edge")
    blocks = padded.reshape(padded.shape[0] // step, step, -1, step).mean(axis=(1, 3))
    fine: Field = blocks.repeat(step, axis=0).repeat(step, axis=1)
    return fine[:size, :size]
