"""One raster file as GDAL reads it: where its pixels lie, and the pixels. No other module opens rasters.

Only the drivers named here may open a file, whatever its suffix says: a VRT or a web service description
would reach beyond the file whose digest is signed. Decoding is one pass of block-aligned strips with one
GDAL thread per handle (JPEG 2000 gains nothing from more) and a small block cache: all bands of a strip are
asked for at once, so that a pixel-interleaved block is decoded once. The caller runs handles side by side.
"""

import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader, MemoryFile
from rasterio.windows import Window

from eocat.verify.errors import InputError

from .cells import cell_bytes
from .locator import Locator, parse_locator
from .values import to_integers

DRIVERS: Final = ("GTiff", "JP2OpenJPEG", "PNG", "JPEG")
NETCDF: Final = "netCDF"
DTYPES: Final = ("uint8", "uint16", "int16", "float32", "float64")
MAX_SIDE: Final = 100_000  # pixels; a header may claim any size, and arrays are made from the claim

_OPTIONS: Final = {"GDAL_NUM_THREADS": "1", "GDAL_CACHEMAX": 32 << 20}  # the cache: bytes, for all handles
_STRIP_ROWS: Final = 256
_GRID_TOLERANCE: Final = 1e-6  # of a pixel: text in a side-car loses the last digits of a double

_FETCH_AGAIN = "fetch the file again and compare its size and checksum with the publisher's"


@dataclass(frozen=True, slots=True)
class Grid:
    """A pixel grid, north up: `transform` maps (column, row) of a corner to `crs` coordinates."""

    crs: str
    transform: Affine
    height: int
    width: int

    @property
    def is_utm(self) -> bool:
        """Whether it lies in a UTM zone of WGS 84, so that its unit is the metre."""
        return re.fullmatch(r"EPSG:32[67](0[1-9]|[1-5][0-9]|60)", self.crs) is not None

    def steps(self, fine: "Grid") -> int | None:
        """How many pixels of `fine` a pixel of this grid spans on each axis; None if the grids don't nest.

        Nesting means one reference system, one upper-left corner, one extent and a whole number of pixels.
        """
        step = max(1, round(self.transform.a / fine.transform.a))
        tolerance = _GRID_TOLERANCE * fine.transform.a
        same_corner = all(
            math.isclose(ours, theirs, rel_tol=0, abs_tol=limit)
            for ours, theirs, limit in (
                (self.transform.c, fine.transform.c, tolerance),
                (self.transform.f, fine.transform.f, tolerance),
                (self.transform.a, fine.transform.a * step, tolerance / fine.width),
                (self.transform.e, fine.transform.e * step, tolerance / fine.height),
            )
        )
        same_extent = (self.height * step, self.width * step) == (fine.height, fine.width)
        return step if self.crs == fine.crs and same_corner and same_extent else None

    def __str__(self) -> str:
        crs = self.crs if len(self.crs) < 40 else f"{self.crs[:36]} …"
        pixel, corner = (
            f"{self.transform.a:g} × {-self.transform.e:g}",
            (self.transform.c, self.transform.f),
        )
        return f"{crs}, {self.width} × {self.height} pixels of {pixel} from {corner}"


@dataclass(frozen=True, slots=True)
class Raster:
    """What a raster file says of itself; nothing of it has been decoded."""

    path: str  # as GDAL opens it: a file, /vsizip/{archive}/member, NETCDF:"file":variable
    name: str  # for messages
    grid: Grid
    dtype: str
    nodata: float | None
    units: tuple[str | None, ...]
    descriptions: tuple[str | None, ...]  # one per band; the length is the number of bands
    colours: tuple[str, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    tags: Mapping[str, str]
    files: tuple[str, ...]  # the file and the side-cars that GDAL read with it


def probe(path: str, name: str) -> Raster:
    """The raster's own description.

    Raises InputError if the file cannot be opened, lies nowhere on the Earth, or holds no numbers of DTYPES.
    """
    with opened(path, name) as dataset:
        return describe(dataset, path, name)


@contextmanager
def opened(path: str, name: str) -> Iterator[Any]:
    """The dataset at `path`, opened for reading; raises InputError if it cannot be opened."""
    try:
        with _quietly(), DatasetReader(path, driver=_drivers(path)) as dataset:
            yield dataset
    except RasterioError as error:
        kinds = "NetCDF" if is_netcdf(path) else ", ".join(DRIVERS)
        raise InputError(
            f"{name} cannot be opened as {kinds}: it is damaged, cut off or of another type",
            hint=_FETCH_AGAIN,
        ) from error


@contextmanager
def opened_bytes(data: bytes, name: str) -> Iterator[Any]:
    """The GeoTIFF in `data`, opened for reading; raises InputError if it cannot be opened."""
    try:
        with _quietly(), MemoryFile(data) as memory, memory.open(driver="GTiff") as dataset:
            yield dataset
    except RasterioError as error:
        raise InputError(
            f"{name} cannot be opened as GeoTIFF: it is damaged or of another type", hint=_FETCH_AGAIN
        ) from error


@contextmanager
def _quietly() -> Iterator[None]:
    with warnings.catch_warnings(), rasterio.Env(**_OPTIONS):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # `describe` says it, as an error
        yield


def is_netcdf(path: str) -> bool:
    return path.startswith("NETCDF:")


def _drivers(path: str) -> list[str]:
    """Those that may open it (rasterio.open would take one only)."""
    return [NETCDF] if is_netcdf(path) else list(DRIVERS)


def describe(dataset: Any, path: str, name: str, *, crs: CRS | None = None) -> Raster:
    """What the open dataset says of itself; `crs` stands in where it has none. Raises as `probe`."""
    crs = _checked_crs(dataset, dataset.crs or crs, name)
    epsg = crs.to_epsg()
    dtypes = set(dataset.dtypes)
    if len(dtypes) != 1 or not dtypes <= set(DTYPES):
        raise InputError(
            f"{name} holds {', '.join(sorted(dtypes))} values, one of {', '.join(DTYPES)} is expected",
            hint="write it with another type: gdal_translate -ot UInt16 IN OUT",
        )
    if max(dataset.shape) > MAX_SIDE:
        raise InputError(
            f"{name} is {dataset.width} × {dataset.height} pixels, at most {MAX_SIDE} a side are read",
            hint="cut it into tiles: gdal_retile.py",
        )
    return Raster(
        path=path,
        name=name,
        grid=Grid(
            crs=f"EPSG:{epsg}" if epsg else crs.to_wkt(),
            transform=Affine(*dataset.transform[:6]),
            height=dataset.height,
            width=dataset.width,
        ),
        dtype=dtypes.pop(),
        nodata=_nodata(dataset.nodatavals, name),
        units=tuple(dataset.units),
        descriptions=tuple(dataset.descriptions),
        colours=tuple(colour.name for colour in dataset.colorinterp),
        scales=tuple(dataset.scales),
        offsets=tuple(dataset.offsets),
        tags=dataset.tags(),
        files=tuple(dataset.files),
    )


def _checked_crs(dataset: Any, crs: CRS | None, name: str) -> CRS:
    """The reference system of a north-up grid; InputError for any other georeference."""
    transform = dataset.transform
    if dataset.gcps[0] and (crs is None or transform.is_identity):
        raise InputError(
            f"{name} has {len(dataset.gcps[0])} ground control points and no grid, a grid is expected",
            hint="where terrain does not matter: gdalwarp -tps -t_srs EPSG:… -r near -dstnodata 0 IN OUT. "
            "Sentinel-1's counts are refused on a grid, too: calibrate it first (docs/sources.md)",
        )
    if crs is None or transform.is_identity:
        missing = "coordinate reference system" if crs is None else "geotransform"
        raise InputError(
            f"{name} has no georeference: a coordinate reference system and a geotransform are expected, "
            f"it has no {missing}",
            hint="take the georeferenced original, or write it in: gdal_translate -a_srs EPSG:… -a_ullr …",
        )
    if transform.b or transform.d or transform.a <= 0 or transform.e >= 0:
        raise InputError(
            f"{name} is rotated or not north up, a north-up grid is expected",
            hint="warp it to a north-up grid first: gdalwarp -t_srs EPSG:… -r near IN OUT",
        )
    return crs


def _nodata(values: Sequence[float | None], name: str) -> float | None:
    """The one nodata value of the bands, NaN passed over: it never is a pixel's."""
    declared = {value for value in values if value is not None and not math.isnan(value)}
    if len(declared) > 1:
        raise InputError(
            f"{name} declares {len(declared)} nodata values, one for all bands is expected",
            hint="set one value for all bands: gdal_edit.py -a_nodata 0 FILE",
        )
    return declared.pop() if declared else None


class Handle(Protocol):
    """An open source of pixels. block_rows: rows of a block; strips are whole blocks."""

    block_rows: int
    height: int

    def read(self, bands: Sequence[int], top: int, out: NDArray[np.integer]) -> None:
        """Fill `out` (bands, rows, W) with the pixels of the bands (counted from 1) from row `top` on."""
        ...

    def close(self) -> None: ...


class RasterHandle:
    """A raster that GDAL reads; its numbers come out as pixels."""

    def __init__(self, dataset: Any, locator: Locator, *, beside: Any = None) -> None:
        self._dataset, self._locator, self._beside = dataset, locator, beside
        self.block_rows: int = dataset.block_shapes[0][0]
        self.height: int = dataset.height

    def read(self, bands: Sequence[int], top: int, out: NDArray[np.integer]) -> None:
        window = Window(0, top, out.shape[2], out.shape[1])
        with rasterio.Env(**_OPTIONS):
            if self._locator.meaning is None:
                self._dataset.read(list(bands), window=window, out=out)
                return
            numbers = self._dataset.read(list(bands), window=window)
        out[:] = to_integers(numbers, self._locator.meaning, self._locator.void)

    def close(self) -> None:
        self._dataset.close()
        if self._beside is not None:
            self._beside.close()


def open_raster(path: str) -> Handle:
    """What reads the pixels at `path` (locator.py). Raises rasterio's RasterioError for a damaged file."""
    locator = parse_locator(path)
    if locator.store == "zarr":
        from .zarr_zip import open_slice

        return open_slice(locator)
    with _quietly():
        if locator.store == "parquet":
            memory = MemoryFile(cell_bytes(locator))
            return RasterHandle(memory.open(driver="GTiff"), locator, beside=memory)
        return RasterHandle(DatasetReader(locator.path, driver=_drivers(locator.path)), locator)


def strip_rows(handle: Handle) -> int:
    """Rows of a strip that decodes no block twice: whole blocks, about 256 rows (1024 in Sentinel-2's)."""
    return min(handle.block_rows * math.ceil(_STRIP_ROWS / handle.block_rows), handle.height)


def decode(path: str, targets: Mapping[int, NDArray[np.integer]]) -> None:
    """Fill each target (H, W) with the pixels of its band (counted from 1), every block decoded once.

    Raises rasterio's RasterioError for a damaged file: the caller knows which scene and bands to name.
    """
    with closing(open_raster(path)) as handle:
        rows = strip_rows(handle)
        planes = list(targets.values())
        for top in range(0, handle.height, rows):
            strips = np.stack([plane[top : top + rows] for plane in planes])
            handle.read(list(targets), top, strips)
            for plane, strip in zip(planes, strips, strict=True):
                plane[top : top + rows] = strip


def local_path(path: Path) -> str:
    """The file as GDAL is to open it; raises InputError if it is empty."""
    if path.stat().st_size == 0:
        raise InputError(f"{path.name} is empty (0 bytes)", hint=_FETCH_AGAIN)
    return str(path.absolute())
