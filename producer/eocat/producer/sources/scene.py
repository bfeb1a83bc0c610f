"""The contract of the sources: a `Scene` names files and bands, and decodes pixels. DESIGN.md, section 3.

A reader makes a Scene from metadata alone; nothing is decoded until `read` is called or windows are cut
(windows.py), so that the files can be hashed first. All numbers of pixels refer to the scene's reference
grid, which is the grid of its finest band. Coarser bands are replicated pixel by pixel onto it, which is
nearest-neighbour resampling in exact integers, and only where the grids nest.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from pydantic import JsonValue
from rasterio.errors import RasterioError

from eocat.verify.errors import InputError

from .gdal import Grid, decode

PRODUCTS: Final = ("sentinel-2-l1c", "sentinel-2-l2a", "sentinel-1", "raster")
SAFE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that a scene comes from: `name` as it stands in the statement, relative with "/"."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class BandFile:
    """Where one band's pixels are: band number `index` (from 1) of a raster, on its own grid.

    path: a locator (locator.py), the file's path where it is a raster of integers. dtype: of the pixels.
    """

    band: str
    path: str
    index: int
    name: str
    grid: Grid
    dtype: str


class CloudMask(Protocol):
    """What tells where a scene is cloudy, in classes (below) or polygons (cloud_gml.py)."""

    @property
    def grid(self) -> Grid: ...

    def decode(self, scene: "Scene") -> NDArray[np.bool_]:
        """Which pixels of `grid` are cloudy; raises InputError for a damaged mask."""
        ...


@dataclass(frozen=True, slots=True)
class CloudClasses:
    """Classifications beside the bands. cloudy: the classes that hide the ground (cloud, cirrus, shadow)."""

    files: tuple[BandFile, ...]  # on one grid; a pixel is cloudy if one of them says so
    cloudy: tuple[int, ...]

    @property
    def grid(self) -> Grid:
        return self.files[0].grid

    def decode(self, scene: "Scene") -> NDArray[np.bool_]:
        planes = [np.empty((file.grid.height, file.grid.width), file.dtype) for file in self.files]
        scene.fill(self.files, planes, 1)
        cloudy: NDArray[np.bool_] = np.logical_or.reduce([np.isin(plane, self.cloudy) for plane in planes])
        return cloudy


@dataclass(frozen=True, slots=True)
class Clouds:
    """Decoded: which pixels of a grid are cloudy, and how many pixels of the reference grid each spans."""

    cloudy: NDArray[np.bool_]
    step: int

    def share(self, x: int, y: int, size: int) -> float:
        """The share, 0 to 1, of a window of the reference grid that is cloudy."""
        rows = np.arange(y, y + size) // self.step
        columns = np.arange(x, x + size) // self.step
        return float(self.cloudy[np.ix_(rows, columns)].mean())


@dataclass(frozen=True, slots=True)
class Scene:
    """One acquisition over one place, not yet decoded. Made by the readers through `make_scene`."""

    id: str
    product: str  # one of PRODUCTS
    bands: tuple[str, ...]  # "B01" … "B12", "VV", "VH", or "red", "green", "blue"
    files: tuple[SourceFile, ...]  # all that pixels or metadata came from
    crs: str  # "EPSG:32633", or WKT where there is no code
    transform: Affine
    height: int
    width: int
    dtype: str  # "uint8" | "uint16" | "int16"
    start: datetime | None  # UTC; None: the source does not say
    end: datetime | None
    nodata: int | None
    offset: int  # DN to subtract before the scale of 1e-4
    properties: Mapping[str, JsonValue]  # STAC properties that the source states
    assumptions: tuple[str, ...]  # what was inferred or told, not read
    band_files: tuple[BandFile, ...] = field(repr=False)
    cloud_mask: CloudMask | None = field(default=None, repr=False)

    @property
    def grid(self) -> Grid:
        return Grid(self.crs, self.transform, self.height, self.width)

    def read(self, bands: Sequence[str], *, workers: int | None = None) -> NDArray[np.integer]:
        """(C, H, W) raw DN of the bands in the order asked for, all on the reference grid.

        The whole scene in memory, every band decoded once: for large ones there is windows.py.
        workers: files decoded side by side, by default one per CPU.
        Raises InputError for a band that the scene lacks and for a damaged file.
        """
        sources = self.sources(bands)
        out = np.empty((len(sources), self.height, self.width), self.dtype)
        steps = [self.step(source) for source in sources]
        planes = [
            out[i] if step == 1 else np.empty((source.grid.height, source.grid.width), self.dtype)
            for i, (source, step) in enumerate(zip(sources, steps, strict=True))
        ]
        self.fill(sources, planes, workers)
        for target, plane, step in zip(out, planes, steps, strict=True):
            if step > 1:
                height, width = plane.shape
                target.reshape(height, step, width, step)[:] = plane[:, None, :, None]
        return out

    def clouds(self) -> Clouds:
        """The scene's cloud mask, decoded. Raises InputError if it has none."""
        if self.cloud_mask is None:
            raise InputError(
                f"scene {self.id} has no cloud mask, which a limit of cloud needs",
                hint="leave out --max-cloud, or give the product with its mask (SCL, MSK_CLASSI, MSK_CLOUDS)",
            )
        step = self.cloud_mask.grid.steps(self.grid)
        if step is None:  # as in `step`
            raise ValueError(f"the cloud mask is not on the grid of scene {self.id}")
        return Clouds(self.cloud_mask.decode(self), step)

    def sources(self, bands: Sequence[str]) -> list[BandFile]:
        """Where the bands are, in the order asked for; InputError for a band that the scene lacks."""
        table = {source.band: source for source in self.band_files}
        if missing := [band for band in bands if band not in table]:
            raise InputError(
                f"scene {self.id} has no band {', '.join(missing)}, its bands are {', '.join(self.bands)}",
                hint="fetch the missing band files, or choose an encoder for the bands that are there",
            )
        if not bands or len(set(bands)) < len(bands):
            raise ValueError(f"bands to read must be named once each, got {list(bands)}")
        return [table[band] for band in bands]

    def step(self, source: BandFile) -> int:
        """Pixels of the reference grid that a pixel of the band spans on each axis."""
        step = source.grid.steps(self.grid)
        if step is None:  # make_scene has checked every band: only a hand-made Scene comes here
            raise ValueError(f"band {source.band} is not on the grid of scene {self.id}")
        return step

    def fill(
        self, sources: Sequence[BandFile], planes: Sequence[NDArray[np.integer]], workers: int | None
    ) -> None:
        """Decode each file once, files side by side: GDAL releases the lock, so threads are enough."""
        targets: defaultdict[str, dict[int, NDArray[np.integer]]] = defaultdict(dict)
        names = {source.path: source.name for source in sources}
        for source, plane in zip(sources, planes, strict=True):
            targets[source.path][source.index] = plane
        with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
            jobs = {path: pool.submit(decode, path, bands) for path, bands in targets.items()}
        for path, job in jobs.items():
            if isinstance(error := job.exception(), RasterioError):
                raise self.damaged(names[path]) from error
            job.result()

    def damaged(self, name: str) -> InputError:
        """What to say when the file of that name could be opened and not be decoded."""
        return InputError(
            f"{name} of scene {self.id} cannot be decoded: it is damaged or cut off",
            hint="fetch the file again and compare its size and checksum with the publisher's",
        )


def make_scene(
    *,
    id: str,  # noqa: A002 - the field's name
    product: str,
    band_files: Sequence[BandFile],
    files: Sequence[SourceFile],
    nodata: int | None,
    offset: int,
    start: datetime | None = None,
    end: datetime | None = None,
    properties: Mapping[str, JsonValue] | None = None,
    assumptions: Sequence[str] = (),
    cloud_mask: CloudMask | None = None,
) -> Scene:
    """The scene of these bands, on the grid of the finest one.

    Raises InputError if two files hold one band, grids do not nest, or pixel types differ. A cloud mask that
    does not nest is left out, which is recorded.
    """
    if twice := [band for band, count in Counter(source.band for source in band_files).items() if count > 1]:
        names = " and ".join(source.name for source in band_files if source.band == twice[0])
        raise InputError(
            f"scene {id} has band {twice[0]} twice: {names}", hint="keep one file for each band in the folder"
        )
    finest = min(band_files, key=lambda source: (source.grid.transform.a, source.band))
    for source in band_files:
        if source.grid.steps(finest.grid) is None:
            raise InputError(
                f"{source.name} does not lie on the grid of {finest.name}: "
                f"{source.grid} against {finest.grid}",
                hint="bring all bands of a scene to one extent and reference system with gdalwarp -r near",
            )
        if source.dtype != finest.dtype:
            raise InputError(
                f"{source.name} holds {source.dtype} values, {finest.name} holds {finest.dtype}: "
                "one type is expected for all bands of a scene",
                hint="write all bands with one type: gdal_translate -ot UInt16 IN OUT",
            )
    grid = finest.grid
    if cloud_mask and cloud_mask.grid.steps(grid) is None:
        cloud_mask = None
        assumptions = (*assumptions, "clouds: the mask is not on the bands' grid and was left out")
    return Scene(
        id=id,
        product=product,
        bands=tuple(source.band for source in band_files),
        files=tuple(files),
        crs=grid.crs,
        transform=grid.transform,
        height=grid.height,
        width=grid.width,
        dtype=finest.dtype,
        start=start,
        end=end,
        nodata=nodata,
        offset=offset,
        properties=_ground_sample_distance(grid) | dict(properties or {}),
        assumptions=tuple(assumptions),
        band_files=tuple(band_files),
        cloud_mask=cloud_mask,
    )


def _ground_sample_distance(grid: Grid) -> dict[str, JsonValue]:
    """STAC `gsd`, the pixel in metres; nothing for a grid that is not UTM."""
    pixel = grid.transform.a
    return {"gsd": int(pixel) if pixel.is_integer() else pixel} if grid.is_utm else {}


def safe_id(name: str) -> tuple[str, tuple[str, ...]]:
    """The name as an identifier, and the assumption to record if it had to be changed for that."""
    if SAFE_ID.fullmatch(name):
        return name, ()
    changed = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("._-")[:128]
    if not SAFE_ID.fullmatch(changed):
        raise InputError(
            f"the name {name!r} gives no identifier", hint="rename it with letters, digits, '.', '_' and '-'"
        )
    return changed, (f"id: the name {name!r}, other characters replaced by '-'",)
