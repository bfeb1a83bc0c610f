"""Scenes from SSL4EO-S12 and TerraMesh: a patch and time each, from zips of Zarr, also those in a tar.

SSL4EO-S12 v1.1: bands (sample, time, band, y, x) with x_, y_, crs and time_ for each sample, the DN of its
Sentinel-2 files 1000 above 10 000 times the reflectance (README: mean of B01 2607, in later tars 1607).
TerraMesh and SSL4EO's tars: a zip for each patch, bands (time, band, y, x). Sentinel-1 is in dB in both.
FORMATS.md, 4.4 and 4.5. The classes of cloud_mask are those of the dataset cards.
"""

import itertools
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from eocat.verify.errors import InputError

from .bands import band_named, is_radar, product_of
from .cf import is_time_unit, times
from .gdal import Grid, local_path
from .locator import Locator, format_locator
from .scene import BandFile, CloudClasses, Scene, SourceFile, make_scene, safe_id
from .sentinel2 import OFFSET, RGB_BANDS
from .told import Told
from .values import reading
from .zarr_zip import ZarrZip, opened_zip

SUFFIXES: Final = (".zarr.zip", ".tar")
CLOUDY: Final = (3, 4, 5)  # thin cloud, thick cloud, shadow; 0 land, 1 water, 2 snow, 6 no data

_BANDS: Final = "bands"
_LAST_AXES: Final = ("band", "y", "x")
_RGB: Final = dict(zip(("r", "g", "b"), RGB_BANDS, strict=True))
_EXPECTED: Final = "an array 'bands' with the axes …, band, y, x, and crs, x, y and time beside it"


def is_patches(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def patch_readers(path: Path, told: Told) -> list[Callable[[], Iterable[Scene]]]:
    """What reads the scenes of each zip of the file; raises InputError for a tar without any."""
    if not path.name.lower().endswith(".tar"):
        return [partial(_read_zip, path, 0, 0, path.name, told)]
    members = list(_members(path))
    if not members:
        raise InputError(
            f"{path.name} holds no .zarr.zip", hint="a shard of TerraMesh or SSL4EO-S12 is expected"
        )
    return [partial(_read_zip, path, offset, size, name, told) for name, offset, size in members]


def _members(path: Path) -> Iterator[tuple[str, int, int]]:
    """(name, offset, size) of each zip in the tar; nothing is unpacked."""
    try:
        with tarfile.open(local_path(path), "r:") as archive:
            for member in archive:
                if member.isfile() and member.name.endswith(".zip"):
                    yield member.name.rpartition("/")[2], member.offset_data, member.size
    except tarfile.TarError as error:
        raise InputError(f"{path.name} is no readable tar: {error}", hint="fetch it again") from None


def _read_zip(path: Path, offset: int, size: int, name: str, told: Told) -> list[Scene]:
    """One scene for each sample and time, in that order."""
    with opened_zip(local_path(path), offset, size, name) as group:
        array = group.arrays.get(_BANDS)
        if array is None or array.dimensions[-3:] != _LAST_AXES:
            raise InputError(f"{name} is not laid out as SSL4EO-S12 or TerraMesh", hint=_EXPECTED)
        leading = array.dimensions[:-3]
        stem = name.removesuffix(".zip").removesuffix(".zarr")
        return [
            _Patch(group, path, (offset, size), stem, dict(zip(leading, index, strict=True)), told).scene()
            for index in itertools.product(*(range(n) for n in array.shape[:-3]))
        ]


class _Patch:
    """One sample and time of a group. index: axis → place, of the axes before band, y and x."""

    def __init__(
        self,
        group: ZarrZip,
        path: Path,
        zip_at: tuple[int, int],
        stem: str,
        index: dict[str, int],
        told: Told,
    ) -> None:
        self._group, self._path, self._zip_at, self._stem = group, path, zip_at, stem
        self._index, self._told = index, told

    def scene(self) -> Scene:
        array = self._group.arrays[_BANDS]
        bands, named = self._bands()
        found, assumed = reading(
            self._group.label, array.dtype.name, None,
            radar=is_radar(bands[0]), told=self._told.values, known="db" if is_radar(bands[0]) else None,
        )  # fmt: skip
        grid = self._grid(array.shape[-2], array.shape[-1])
        place: tuple[int | str, ...] = (*self._zip_at, _BANDS, *self._index.values())
        path = format_locator(Locator(str(self._path.absolute()), "zarr", place, found.meaning, found.void))
        identifier, renamed = safe_id(self._identifier())
        offset, scaled = self._offset(bands, found.dtype)
        time = self._time()
        return make_scene(
            id=identifier,
            product=product_of(bands, found.dtype),
            band_files=[
                BandFile(band, path, number, identifier, grid, found.dtype)
                for number, band in enumerate(bands, start=1)
            ],
            files=[SourceFile(self._path.name, self._path)],
            nodata=found.nodata,
            offset=offset,
            start=time,
            end=time,
            assumptions=(*renamed, *named, *assumed, *scaled),
            cloud_mask=self._cloud_mask(grid, identifier),
        )

    def _bands(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        count = self._group.arrays[_BANDS].shape[-3]
        if told := self._told.bands_by_order(count):
            return told, ("bands: said by the publisher",)
        texts = [str(text) for text in self._group.read("band")] if "band" in self._group.arrays else []
        named = [_RGB.get(text.lower()) or band_named(text, self._told) for text in texts]
        bands = tuple(band for band in named if band)
        if len(bands) != count:
            raise InputError(
                f"{self._group.label} has {count} bands, of which {len(bands)} are named",
                hint="name them by order: --bands B02,B03,…",
            )
        return bands, ()

    def _one(self, *names: str) -> NDArray[Any] | None:
        """The first of these arrays that is there, at this sample and time; its other axes whole."""
        for name in names:
            if array := self._group.arrays.get(name):
                index = [self._index[axis] for axis in array.dimensions if axis in self._index]
                return self._group.read(name, index)
        return None

    def _grid(self, height: int, width: int) -> Grid:
        crs, x, y = self._one("crs"), self._one("x_", "x"), self._one("y_", "y")
        if crs is None or x is None or y is None or x.shape != (width,) or y.shape != (height,):
            raise InputError(f"{self._group.label} has no georeference", hint=_EXPECTED)
        step = float(x[-1] - x[0]) / (width - 1), float(y[-1] - y[0]) / (height - 1)
        even = np.allclose(np.diff(x), step[0], atol=1e-3) and np.allclose(np.diff(y), step[1], atol=1e-3)
        code = str(crs.item()).upper().removeprefix("EPSG:")
        if not even or step[0] <= 0 or step[1] >= 0 or not code.isdigit() or x[0] == y[-1] == 0:
            raise InputError(
                f"{self._group.label} has no even, north-up grid with an EPSG code (crs {code[:20]!r})",
                hint=_EXPECTED,
            )
        corner = float(x[0]) - step[0] / 2, float(y[0]) - step[1] / 2
        return Grid(f"EPSG:{code}", Affine(step[0], 0, corner[0], 0, step[1], corner[1]), height, width)

    def _time(self) -> datetime | None:
        name = next((name for name in ("time_", "time") if name in self._group.arrays), None)
        value = None if name is None else self._one(name)
        if name is None or value is None:
            return None
        units = str(self._group.arrays[name].attributes.get("units", ""))
        number = int(value.astype("datetime64[ns]").astype("int64").item()) if value.dtype.kind == "M" else (
            value.item()
        )  # fmt: skip
        if is_time_unit(units):
            return times([number], units, self._group.label)[0]
        if abs(number) < 1e15:  # an index, or 0 for none: nanoseconds of any year of Sentinel are 1e18
            return None
        return datetime.fromtimestamp(number // 1000 / 1e6, UTC)

    def _identifier(self) -> str:
        sample = self._one("sample_id") if "sample" in self._index else None
        name = str(sample.item()) if sample is not None and sample.size == 1 else ""
        steps = self._group.arrays[_BANDS].shape[-4] if "time" in self._index else 1
        suffix = f"_{self._index['time']}" if steps > 1 else ""
        return f"{self._stem}_{name}" if name else f"{self._stem}{suffix}"

    def _offset(self, bands: Sequence[str], dtype: str) -> tuple[int, tuple[str, ...]]:
        if is_radar(bands[0]) or dtype == "uint8" or bands == RGB_BANDS:
            return 0, ()
        if "sample" in self._index:
            return OFFSET, (f"offset: {OFFSET}, as SSL4EO-S12 v1.1 has it in its zips of many samples",)
        return 0, ("offset: 0; the file states none, and TerraMesh brought some of its years to 1000",)

    def _cloud_mask(self, grid: Grid, identifier: str) -> CloudClasses | None:
        mask = self._group.arrays.get("cloud_mask")
        if mask is None or mask.dimensions[-2:] != _LAST_AXES[1:] or mask.dtype != np.uint8:
            return None
        index = [self._index[axis] for axis in mask.dimensions if axis in self._index]
        locator = Locator(str(self._path.absolute()), "zarr", (*self._zip_at, "cloud_mask", *index))
        return CloudClasses(
            (BandFile("clouds", format_locator(locator), 1, identifier, grid, "uint8"),), CLOUDY
        )
