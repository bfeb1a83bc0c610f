"""Chips: the square windows of a scene that become rows. DESIGN.md, section 3; FORMATS.md, 4.1 and 4.2.

Two layouts. `tile_chips` lays whole windows from the scene's upper-left corner; what is left at the right and
lower border is no chip, or belongs to a last window that is shifted back to the border. `majortom_chips` cuts
the fragments of the Major TOM cells that lie wholly in the scene, as the published embeddings have them: a
cell's picture is 1068 × 1068 pixels of 10 m whose lower-left corner is 340 m south and west of the cell's
corner in its own UTM zone. Scenes have grids of their own, so the picture is moved to the nearest pixel, by
half a pixel at most, and the chip's x and y say where it is.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer
from pyproj.exceptions import ProjError

from eocat.verify.errors import InputError, UsageError

from .footprint import quadrangle
from .grid import Cell, cell_at
from .hilbert import order_along
from .recipe import Recipe
from .sources.scene import Clouds, Scene

CELL_PIXELS: Final = 1068
CELL_MARGIN_METRES: Final = 340
CELL_PIXEL_METRES: Final = 10

_SAMPLE_METRES: Final = 4_000  # less than half a cell: a cell wholly in the scene holds a sample
_TILE_HINT: Final = "use --layout tile, which needs no grid"


@dataclass(frozen=True, slots=True)
class Chip:
    """A window of `size` × `size` pixels of the scene's reference grid; (x, y) is its upper-left pixel."""

    id: str  # "<scene>/<x>_<y>", or "<scene>/<cell>/<row>_<col>" for fragments of a cell
    x: int
    y: int
    size: int
    geometry: dict[str, Any]  # GeoJSON of the four corners in longitude and latitude
    centre: tuple[float, float]  # longitude, latitude
    grid_cell: str | None


@dataclass(frozen=True, slots=True)
class _Window:
    id: str
    x: int
    y: int
    grid_cell: str | None = None


def tile_chips(scene: Scene, *, size: int, stride: int, edge: str = "drop") -> list[Chip]:
    """The whole windows at every `stride` pixels, row by row. Raises InputError if the scene has none.

    edge: "shift" adds a last column and line of windows that end at the right and lower border.
    """
    _check_positive(size=size, stride=stride)
    if min(scene.height, scene.width) < size:
        raise InputError(
            f"scene {scene.id} is {scene.width} × {scene.height} pixels, a chip of {size} does not fit",
            hint=f"choose --size {min(scene.height, scene.width)} or less",
        )
    windows = [
        _Window(f"{scene.id}/{x}_{y}", x, y)
        for y in _starts(scene.height, size, stride, edge)
        for x in _starts(scene.width, size, stride, edge)
    ]
    return _chips(scene, windows, size)


def _starts(length: int, size: int, stride: int, edge: str) -> list[int]:
    starts = list(range(0, length - size + 1, stride))
    rest = length - size
    return [*starts, rest] if edge == "shift" and starts[-1] < rest else starts


def majortom_chips(scene: Scene, *, size: int) -> list[Chip]:
    """The fragments of every Major TOM cell whose picture lies wholly in the scene, cell by cell.

    Cells of another UTM zone than the scene's are left to that zone's products. Raises InputError for a scene
    that is not on a 10 m UTM grid or holds no whole cell.
    """
    offsets = fragment_offsets(size)
    windows = [
        _Window(f"{scene.id}/{cell.name}/{row}_{column}", x + dx, y + dy, cell.name)
        for cell, x, y in _whole_cells(scene)
        for row, dy in enumerate(offsets)
        for column, dx in enumerate(offsets)
    ]
    if not windows:
        raise InputError(
            f"scene {scene.id} ({scene.width} × {scene.height} pixels) holds no whole Major TOM cell, "
            f"which is {CELL_PIXELS} × {CELL_PIXELS} pixels of {CELL_PIXEL_METRES} m",
            hint=_TILE_HINT,
        )
    return _chips(scene, windows, size)


def fragment_offsets(size: int) -> tuple[int, ...]:
    """Where the fragments of a cell's picture begin on each axis, in pixels (224 → 0, 211, 422, 633, 844).

    Fragments overlap by a tenth or more, and the last one ends at the border. FORMATS.md, section 4.2.
    """
    _check_positive(size=size)
    rest = CELL_PIXELS - size
    if rest < 0:
        raise UsageError(
            f"a chip of {size} pixels is larger than a Major TOM cell of {CELL_PIXELS}", hint=_TILE_HINT
        )
    if rest == 0:
        return (0,)
    steps = max(1, round(Fraction(10 * rest, 9 * size)))
    return (*(i * (rest // steps) for i in range(steps)), rest)


def hilbert_order(chips: Sequence[Chip], *, start: Callable[[Chip], int] = lambda _: 0) -> list[Chip]:
    """The chips along the Hilbert curve of their centres; ties by `start` (µs), then by id."""
    centres, ids = [chip.centre for chip in chips], [chip.id for chip in chips]
    return [chips[at] for at in order_along(centres, [start(chip) for chip in chips], ids)]


def fault_of(
    chip: Chip, pixels: NDArray[np.integer], scene: Scene, recipe: Recipe, clouds: Clouds | None
) -> str:
    """Why a chip with these pixels (C, H, W) is left out: "nodata", "empty" (all zero) or "cloud".

    "" if it stays. clouds: the scene's, where the recipe has a limit of cloud.
    """
    if 100 * (1 - valid_share(pixels, scene.nodata)) > recipe.max_nodata_percent:
        return "nodata"
    if not pixels.any():
        return "empty"
    if clouds and 100 * clouds.share(chip.x, chip.y, chip.size) > recipe.max_cloud_percent:
        return "cloud"
    return ""


def valid_share(pixels: NDArray[np.integer], nodata: int | None) -> float:
    """The share, 0 to 1, of the pixels of a chip (C, H, W) that hold data in at least one band."""
    if nodata is None:
        return 1.0
    return float((pixels != nodata).any(axis=0).mean())


def _chips(scene: Scene, windows: list[_Window], size: int) -> list[Chip]:
    """The windows with their corners (lower left first, counter-clockwise) and centres, projected at once."""
    x = np.array([window.x for window in windows], np.float64)[:, None] + np.array([0, 1, 1, 0, 0.5]) * size
    y = np.array([window.y for window in windows], np.float64)[:, None] + np.array([1, 1, 0, 0, 0.5]) * size
    transform = scene.transform
    longitudes, latitudes = _to_lonlat(scene, transform.c + transform.a * x, transform.f + transform.e * y)
    chips = []
    for window, lon, lat in zip(windows, longitudes.tolist(), latitudes.tolist(), strict=True):
        geometry = quadrangle(list(zip(lon[:4], lat[:4], strict=True)), f"chip {window.id}")
        chips.append(Chip(window.id, window.x, window.y, size, geometry, (lon[4], lat[4]), window.grid_cell))
    return chips


def _to_lonlat(
    scene: Scene, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """WGS 84 longitudes and latitudes of points in the scene's reference system, degrees."""
    try:
        transformer = Transformer.from_crs(scene.crs, "EPSG:4326", always_xy=True)
        longitudes, latitudes = transformer.transform(x, y, errcheck=True)
    except ProjError as error:
        raise InputError(
            f"scene {scene.id} has a reference system without longitude and latitude: {scene.crs[:60]}",
            hint="warp it to a UTM zone: gdalwarp -t_srs EPSG:… -r near IN OUT",
        ) from error
    if not (
        np.isfinite(longitudes).all()
        and (np.abs(longitudes) <= 180).all()
        and (np.abs(latitudes) <= 90).all()
    ):
        raise InputError(
            f"scene {scene.id} lies off the globe", hint="check its geotransform and its reference system"
        )
    return longitudes, latitudes


def _whole_cells(scene: Scene) -> Iterator[tuple[Cell, int, int]]:
    """(cell, x, y of its picture's upper-left pixel) for the cells wholly in the scene, south-west first."""
    pixel = (scene.transform.a, -scene.transform.e)
    if not scene.grid.is_utm or {round(side, 6) for side in pixel} != {CELL_PIXEL_METRES}:
        raise InputError(
            f"scene {scene.id} is on {scene.crs[:40]} with pixels of {pixel[0]:g}, "
            f"Major TOM needs a UTM zone and {CELL_PIXEL_METRES} m",
            hint=_TILE_HINT,
        )
    epsg = int(scene.crs.removeprefix("EPSG:"))
    to_utm = Transformer.from_crs("EPSG:4326", scene.crs, always_xy=True)
    for cell in sorted(_cells_touched(scene)):
        if cell.epsg != epsg:
            continue
        east, north = to_utm.transform(cell.west, cell.south, errcheck=True)
        top = north - CELL_MARGIN_METRES + CELL_PIXELS * CELL_PIXEL_METRES
        x = math.floor((east - CELL_MARGIN_METRES - scene.transform.c) / CELL_PIXEL_METRES + 0.5)
        y = math.floor((scene.transform.f - top) / CELL_PIXEL_METRES + 0.5)
        if 0 <= x <= scene.width - CELL_PIXELS and 0 <= y <= scene.height - CELL_PIXELS:
            yield cell, x, y


def _cells_touched(scene: Scene) -> set[Cell]:
    """The cells of a net of points over the scene: all that could lie wholly in it, across ±180° too."""
    step = _SAMPLE_METRES / CELL_PIXEL_METRES
    x, y = np.meshgrid(np.arange(0, scene.width, step), np.arange(0, scene.height, step))
    lon, lat = _to_lonlat(
        scene, scene.transform.c + scene.transform.a * x, scene.transform.f + scene.transform.e * y
    )
    return {cell_at(*point) for point in zip(lat.ravel().tolist(), lon.ravel().tolist(), strict=True)}


def _check_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise UsageError(f"{name} is {value}, at least 1 pixel is expected")
