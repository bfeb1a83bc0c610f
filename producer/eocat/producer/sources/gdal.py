"""One raster file as GDAL reads it: where its pixels lie, and the pixels. No other module opens rasters.

Only the drivers named here may open a file, whatever its suffix says: a VRT or a web service description
would reach beyond the file whose digest is signed. Decoding is one pass of block-aligned strips with one
GDAL thread per handle (JPEG 2000 gains nothing from more) and a small block cache; the caller runs handles
side by side, since GDAL works outside Python's lock.
"""

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from eocat.verify.errors import InputError

DRIVERS: Final = ("GTiff", "JP2OpenJPEG", "PNG", "JPEG")
DTYPES: Final = ("uint8", "uint16", "int16")
MAX_SIDE: Final = 100_000  # pixels; a header may claim any size, and arrays are made from the claim

_OPTIONS: Final = {"GDAL_NUM_THREADS": "1", "GDAL_CACHEMAX": 256 << 20}  # the cache: bytes, for all handles
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

    path: str  # as GDAL opens it: a file, or /vsizip/{archive}/member
    name: str  # for messages
    grid: Grid
    dtype: str
    nodata: int | None
    descriptions: tuple[str | None, ...]  # one per band; the length is the number of bands
    colours: tuple[str, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    tags: Mapping[str, str]
    files: tuple[str, ...]  # the file and the side-cars that GDAL read with it


def probe(path: str, name: str) -> Raster:
    """The raster's own description.

    Raises InputError if the file cannot be opened, lies nowhere on the Earth, or holds no integers.
    """
    try:
        with warnings.catch_warnings(), rasterio.Env(**_OPTIONS):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # said below, as an error
            with DatasetReader(path, driver=list(DRIVERS)) as dataset:  # rasterio.open takes one driver only
                return _describe(dataset, path, name)
    except RasterioError as error:
        raise InputError(
            f"{name} cannot be opened as {', '.join(DRIVERS)}: it is damaged, cut off or of another type",
            hint=_FETCH_AGAIN,
        ) from error


def _describe(dataset: Any, path: str, name: str) -> Raster:
    _check_georeference(dataset, name)
    epsg = dataset.crs.to_epsg()
    dtypes = set(dataset.dtypes)
    if len(dtypes) != 1 or not dtypes <= set(DTYPES):
        raise InputError(
            f"{name} holds {', '.join(sorted(dtypes))} values, {', '.join(DTYPES)} are expected",
            hint="scale reflectance by 10000 and write it as integers: gdal_translate -ot UInt16 -scale …",
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
            crs=f"EPSG:{epsg}" if epsg else dataset.crs.to_wkt(),
            transform=Affine(*dataset.transform[:6]),
            height=dataset.height,
            width=dataset.width,
        ),
        dtype=dtypes.pop(),
        nodata=_nodata(dataset.nodatavals, name),
        descriptions=tuple(dataset.descriptions),
        colours=tuple(colour.name for colour in dataset.colorinterp),
        scales=tuple(dataset.scales),
        offsets=tuple(dataset.offsets),
        tags=dataset.tags(),
        files=tuple(dataset.files),
    )


def _check_georeference(dataset: Any, name: str) -> None:
    if dataset.crs is None and dataset.gcps[0]:
        raise InputError(
            f"{name} has {len(dataset.gcps[0])} ground control points and no grid, a grid is expected",
            hint="warp it to a grid first: gdalwarp -t_srs EPSG:… -r near IN OUT",
        )
    transform = dataset.transform
    if dataset.crs is None or transform.is_identity:
        missing = "coordinate reference system" if dataset.crs is None else "geotransform"
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


def _nodata(values: Sequence[float | None], name: str) -> int | None:
    """The one nodata value of the bands; a value that no integer pixel can have marks none."""
    whole = {int(value) for value in values if value is not None and float(value).is_integer()}
    if len(whole) > 1:
        raise InputError(
            f"{name} declares {len(whole)} nodata values, one for all bands is expected",
            hint="set one value for all bands: gdal_edit.py -a_nodata 0 FILE",
        )
    return whole.pop() if whole else None


def decode(path: str, targets: Mapping[int, NDArray[np.integer]]) -> None:
    """Fill each target (H, W) with the DN of its band (counted from 1), every block decoded once.

    Raises rasterio's RasterioError for a damaged file: the caller knows which scene and bands to name.
    """
    with rasterio.Env(**_OPTIONS), DatasetReader(path, driver=list(DRIVERS)) as dataset:
        block = dataset.block_shapes[0][0]
        rows = block * math.ceil(_STRIP_ROWS / block)
        for top in range(0, dataset.height, rows):
            window = Window(0, top, dataset.width, min(rows, dataset.height - top))
            # Bands inside strips: a pixel-interleaved block is still in the cache for its other bands.
            for band, target in targets.items():
                dataset.read(band, window=window, out=target[top : top + rows])


def local_path(path: Path) -> str:
    """The file as GDAL is to open it; raises InputError if it is empty."""
    if path.stat().st_size == 0:
        raise InputError(f"{path.name} is empty (0 bytes)", hint=_FETCH_AGAIN)
    return str(path.absolute())
