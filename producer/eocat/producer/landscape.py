"""An invented coast with fields, woods, a river and a town, as a map of land cover for `synthetic`.

Everything follows from the seed through integers and correctly rounded operations (no sine, no exponential,
no matrix product), so that every machine draws the same map. Distances are in pixels of 10 m; the coast, the
river, the town and the clouds scale with the map, fields and streets do not.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]  # (size, size) unless a comment says otherwise
Mask = NDArray[np.bool_]

# Rotations in whole numbers (Pythagorean triples): cosine, sine and radius.
_ROTATIONS: Final = np.array(
    [(4, 3, 5), (12, 5, 13), (15, 8, 17), (3, -4, 5), (24, -7, 25), (1, 0, 1)], np.int64
)


class Cover(IntEnum):
    """Land cover; the crops stand together at the end."""

    SEA = 0
    SHALLOWS = 1
    RIVER = 2
    BEACH = 3
    BROADLEAF = 4
    CONIFER = 5
    ROAD = 6
    CONCRETE = 7
    TILES = 8
    GARDEN = 9
    HEDGE = 10
    WHEAT = 11
    MAIZE = 12
    RAPESEED = 13
    STUBBLE = 14
    SOIL = 15
    MEADOW = 16


_CROP_SHARES: Final = (
    *(Cover.WHEAT,) * 5,
    *(Cover.MAIZE,) * 3,
    Cover.RAPESEED,
    *(Cover.STUBBLE,) * 2,
    *(Cover.SOIL,) * 2,
    *(Cover.MEADOW,) * 3,
)


@dataclass(frozen=True, slots=True)
class Landscape:
    """What lies where: cover (size, size) uint8, and what varies within one cover."""

    cover: NDArray[np.uint8]
    brightness: Field  # factor on the reflectance, about 1: fields, buildings and crowns differ
    shallowness: Field  # 0 … 1: how far the ground shows through the sea
    cloud: Field  # 0 … 1: opacity
    shadow: Field  # 0 … 1: how much of the light the clouds take


def draw_landscape(size: int, rng: np.random.Generator) -> Landscape:
    """The map of `size` × `size` pixels that this generator's seed gives."""
    y, x = np.indices((size, size))
    height = _relief(size, rng)
    cover, brightness = _farmland(x, y, rng)
    _plant_woods(cover, brightness, height, rng)
    _build_town(cover, brightness, height, x, y, rng)
    cover[(height < 0.006) & (cover != Cover.ROAD)] = Cover.BEACH
    cover[_river(size, rng)] = Cover.RIVER
    cover[height < 0] = Cover.SEA
    brightness[(cover == Cover.SEA) | (cover == Cover.RIVER)] = 1.0
    cloud = _clouds(size, rng)
    return Landscape(
        cover=cover,
        brightness=brightness,
        shallowness=np.clip(1 + height * 9, 0, 1) ** 2,
        cloud=cloud,
        shadow=0.6 * _moved(cloud, down=22, right=14),
    )


def fractal(size: int, cell: float, octaves: int, rng: np.random.Generator) -> Field:
    """Value noise, 0 … 1: random lattices of ever finer cells, each with half the weight of the last."""
    total, weight = np.zeros((size, size)), 0.0
    for octave in range(octaves):
        spacing = max(cell / 2**octave, 1.0)
        count = int(size / spacing) + 3
        lattice = rng.random((count, count))
        position = (np.arange(size) + rng.random()) / spacing
        at = position.astype(np.int64)
        part = position - at
        ease = part * part * (3 - 2 * part)
        rows = lattice[at] + (lattice[at + 1] - lattice[at]) * ease[:, None]
        total += (rows[:, at] + (rows[:, at + 1] - rows[:, at]) * ease) / 2**octave
        weight += 1 / 2**octave
    noise: Field = total / weight
    return noise


def _relief(size: int, rng: np.random.Generator) -> Field:
    """Height above the sea, in no unit: the land rises to the east, the coast runs about north and south."""
    y, x = (np.indices((size, size)) + 0.5) / size
    rise = x - 0.27 + 0.16 * y
    rough = (fractal(size, size / 2.6, 6, rng) - 0.5) * (0.45 + np.abs(rise))
    height: Field = 0.7 * rise + 0.75 * rough
    return height


def _farmland(
    x: NDArray[np.int64], y: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], Field]:
    """Fields in strips, the strips turned differently in each district; roads between districts."""
    district, gap = _districts(x, y, 230, rng)
    count = int(district.max()) + 1
    cosine, sine, radius = (
        part[district] for part in _ROTATIONS[rng.integers(len(_ROTATIONS), size=count)].T
    )
    along, across = (cosine * x + sine * y) / radius, (cosine * y - sine * x) / radius
    width = rng.integers(16, 34, size=count)[district]
    strip = np.floor(across / width).astype(np.int64)
    key = (strip + 61 * district) & 1023
    length = rng.integers(32, 110, size=1024)[key]
    shifted = along + rng.integers(0, 110, size=1024)[key]
    plot = np.floor(shifted / length).astype(np.int64)
    number = (plot * 37 + strip * 101 + district * 59) & 4095
    cover = np.array(_CROP_SHARES, np.uint8)[rng.integers(len(_CROP_SHARES), size=4096)][number]
    brightness = (0.84 + 0.32 * rng.random(4096))[number]
    brightness *= 1 + 0.12 * (fractal(x.shape[0], 26, 3, rng) - 0.5)  # soils differ within a field
    border = (across - strip * width < 1.0) | (shifted - plot * length < 0.8)
    hedged = border & (rng.random(4096) < 0.45)[number]
    cover[hedged] = Cover.HEDGE
    cover[gap < 2.2] = Cover.ROAD
    return cover, brightness


def _districts(
    x: NDArray[np.int64], y: NDArray[np.int64], spacing: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], Field]:
    """The nearest of scattered seats for each pixel, and how much farther the second nearest is."""
    side = x.shape[0] // spacing + 3
    seats = rng.random((side, side, 2))
    row, column = y // spacing + 1, x // spacing + 1
    nearest, second = np.full(x.shape, np.inf), np.full(x.shape, np.inf)
    owner = np.zeros(x.shape, np.int64)
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            seat = seats[row + i, column + j]
            dy = y - (row + i - 1 + seat[..., 0]) * spacing
            dx = x - (column + j - 1 + seat[..., 1]) * spacing
            distance = np.sqrt(dx * dx + dy * dy)
            closer = distance < nearest
            second = np.where(closer, nearest, np.minimum(second, distance))
            owner = np.where(closer, (row + i) * side + column + j, owner)
            nearest = np.minimum(nearest, distance)
    return owner, second - nearest


def _plant_woods(
    cover: NDArray[np.uint8], brightness: Field, height: Field, rng: np.random.Generator
) -> None:
    size = cover.shape[0]
    wild = fractal(size, 210, 5, rng) + 0.22 * np.clip(height, 0, 1)
    wood = (wild > 0.60) & (cover != Cover.ROAD)
    conifer = fractal(size, 120, 4, rng) > 0.53
    cover[wood] = np.where(conifer, Cover.CONIFER, Cover.BROADLEAF)[wood]
    crowns = 0.72 + 0.56 * fractal(size, 5, 2, rng)
    brightness[wood] = crowns[wood]


def _build_town(
    cover: NDArray[np.uint8],
    brightness: Field,
    height: Field,
    x: NDArray[np.int64],
    y: NDArray[np.int64],
    rng: np.random.Generator,
) -> None:
    """Blocks between streets that stand askew, dense in the middle, with gardens towards the edge."""
    size = cover.shape[0]
    dx, dy = x / size - 0.56, y / size - 0.40
    density = 1 - np.sqrt(dx * dx + dy * dy) / 0.16 + 1.3 * (fractal(size, 90, 4, rng) - 0.5)
    along, across = (4 * x + 3 * y) // 5, (4 * y - 3 * x) // 5
    street = (along % 23 < 2) | (across % 15 < 2) | (along % 138 < 4) | (across % 120 < 4)
    block = (along // 23 * 131 + across // 15 * 17) & 2047
    town = (density > (0.3 * rng.random(2048) ** 2)[block]) & (height > 0.01)  # the edge frays by blocks
    house = (along // 4 * 193 + across // 3 * 29) & 8191
    roofs = np.array([Cover.TILES, Cover.TILES, Cover.CONCRETE, Cover.ROAD], np.uint8)
    kind = np.where(
        (rng.random(2048) < 0.25)[block], Cover.CONCRETE, roofs[rng.integers(len(roofs), size=8192)[house]]
    )
    green = (rng.random(8192)[house] > 0.35 + 0.75 * density) | (rng.random(2048) < 0.07)[block]
    cover[town] = np.where(street, Cover.ROAD, np.where(green, Cover.GARDEN, kind))[town]
    shade = np.where(street, 0.95, (0.65 + 0.8 * rng.random(8192))[house])
    brightness[town] = shade[town]


def _river(size: int, rng: np.random.Generator) -> Mask:
    """A winding river from the east border to the sea, wider downstream, 50 to 120 m."""
    y, x = np.indices((size, size)) + 0.5
    bend = (fractal(size, size / 3, 3, rng) - 0.5) * 0.5 + (fractal(size, size / 11, 2, rng) - 0.5) * 0.07
    middle = size * (0.66 - 0.10 * x / size + bend)
    return np.asarray(np.abs(y - middle) < 6.0 - 3.5 * x / size)


def _clouds(size: int, rng: np.random.Generator) -> Field:
    """A few fair-weather clouds: what rises above the 98th percentile of a noise."""
    noise = fractal(size, size / 6.5, 6, rng)
    level = np.sort(noise, axis=None)[int(noise.size * 0.98)]
    return np.asarray(np.clip((noise - level) * 14, 0, 1))


def _moved(image: Field, *, down: int, right: int) -> Field:
    """The image moved by whole pixels, zero where nothing came from."""
    out = np.zeros_like(image)
    out[down:, right:] = image[: image.shape[0] - down, : image.shape[1] - right]
    return out
