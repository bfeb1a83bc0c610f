"""Scenes from a NetCDF file (3 or 4): a variable is a band, a step of the time axis a scene.

The grid is CF's as GDAL reads it; where a variable names no grid mapping, its own attribute `crs` counts
(xarray of old wrote that). Bands are named by variable, attribute or publisher; variables that name none
(slope, rain) are no part of the scene. Sentinel-1 and Sentinel-2 in one file are scenes of their own.
GDAL passes over attributes that are not UTF-8, where other readers fail.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from rasterio.crs import CRS
from rasterio.errors import CRSError

from eocat.verify.errors import InputError

from .bands import BAND_ORDER, band_named, is_radar, product_of
from .cf import is_time_unit, times
from .gdal import Raster, describe, local_path, opened
from .raster import acquisition_time, band_file, dn_offset, reading_of
from .scene import Scene, SourceFile, make_scene, safe_id
from .told import Told
from .values import Reading

SUFFIX: Final = ".nc"
MAX_VARIABLES: Final = 1000

_CRS_ATTRIBUTES: Final = ("crs", "crs_wkt", "spatial_ref")
_ONE_AXIS: Final = "write one variable for each band, with the axes time, y and x"


@dataclass(frozen=True, slots=True)
class _Variable:
    """A variable that names a band. times: of its time axis, one for each raster band; () without one."""

    band: str
    raster: Raster
    reading: Reading
    assumed: tuple[str, ...]
    times: tuple[datetime, ...]


def read_netcdf(path: Path, told: Told) -> list[Scene]:
    """The scenes in the file, by sensor and time; raises InputError if it holds none that eocat can use."""
    variables, left_out = _variables(path, told)
    scenes = []
    for radar in (False, True):
        group = [variable for variable in variables if is_radar(variable.band) == radar]
        suffix = "_s1" if radar and len(group) < len(variables) else ""
        if len({variable.times for variable in group}) > 1:
            raise InputError(f"the bands in {path.name} have different time axes", hint=_ONE_AXIS)
        if group and not group[0].times:
            scenes.append(_scene(path, path.stem + suffix, group, 0, left_out, told))
        for step, time in enumerate(group[0].times if group else ()):
            identifier = f"{path.stem}_{time:%Y%m%dT%H%M%S}{suffix}"
            scenes.append(_scene(path, identifier, group, step, left_out, told))
    return scenes


def single_band(path: Path, told: Told) -> str | None:
    """The band of a file that holds one variable without a time axis; None for any other file."""
    names = _variable_paths(path)
    if len(names) != 1:
        return None
    with opened(names[0], path.name) as dataset:
        if dataset.count != 1:
            return None
        return told.band_called(path.stem) or _band(dataset, path, told) or band_named(path.stem, told)


def probe_variable(path: Path) -> Raster:
    """The one variable of a file of which `single_band` tells the band."""
    (name,) = _variable_paths(path)
    with opened(name, path.name) as dataset:
        return _describe(dataset, name, path)


def _variables(path: Path, told: Told) -> tuple[list[_Variable], tuple[str, ...]]:
    """The usable variables in the order of bands, and what was left out; raises if none is usable."""
    found, refused = [], []
    names = _variable_paths(path)
    for name in names:
        with opened(name, path.name) as dataset:
            band = _band(dataset, path, told)
            if band is None:
                continue
            try:
                raster = _describe(dataset, name, path)
                reading, assumed = reading_of(raster, band, told)
                found.append(_Variable(band, raster, reading, assumed, _times(dataset, raster, path)))
            except InputError as error:
                refused.append(error)
    if not found:
        if refused:
            raise refused[0]
        raise InputError(
            f"{path.name} has {len(names)} variables, and none names a band",
            hint="say which is which: --bands red=B04,nir=B08 by the variables' names",
        )
    left_out = tuple(f"left out: {error}" for error in refused)
    return sorted(found, key=lambda variable: BAND_ORDER.index(variable.band)), left_out


def _variable_paths(path: Path) -> list[str]:
    """GDAL's names of the file's raster variables."""
    root = f'NETCDF:"{local_path(path)}"'
    if '"' in str(path):
        raise InputError(f"the path {path} has a quotation mark", hint="rename the file")
    with opened(root, path.name) as dataset:
        tags = dataset.tags(ns="SUBDATASETS")
        if dataset.count and not tags:
            return [f"{root}:{dataset.tags(1)['NETCDF_VARNAME']}"]
    names = [value for key, value in tags.items() if key.endswith("_NAME")]
    if not 1 <= len(names) <= MAX_VARIABLES:
        raise InputError(
            f"{path.name} has {len(names)} raster variables, 1 to {MAX_VARIABLES} are expected",
            hint="a scene has a variable for each band, with the axes y and x",
        )
    return [f"{root}:{name.rpartition(':')[2]}" for name in names]


def _band(dataset: Any, path: Path, told: Told) -> str | None:
    attributes: Mapping[str, str] = dataset.tags(1)
    name = attributes.get("NETCDF_VARNAME", "")
    number = attributes.get("Band", "").strip()
    return (
        band_named(name, told)
        or band_named(attributes.get("long_name", ""), told)
        or (band_named(f"B{number}", told) if number else None)
    )


def _describe(dataset: Any, name: str, path: Path) -> Raster:
    crs = None
    for key in _CRS_ATTRIBUTES:
        if dataset.crs is None and crs is None and (text := dataset.tags(1).get(key)):
            try:
                crs = CRS.from_user_input(text)
            except CRSError:
                continue
    return describe(dataset, name, f"{path.name}:{name.rpartition(':')[2]}", crs=crs)


def _times(dataset: Any, raster: Raster, path: Path) -> tuple[datetime, ...]:
    tags: Mapping[str, str] = dataset.tags()
    axes = [axis for axis in tags.get("NETCDF_DIM_EXTRA", "").strip("{}").split(",") if axis]
    if not axes and dataset.count == 1:
        time = acquisition_time(raster)
        return () if time is None else (time,)
    units = tags.get(f"{axes[0]}#units", "") if axes else ""
    if len(axes) != 1 or not is_time_unit(units):
        raise InputError(
            f"{raster.name} has the axes {', '.join(axes) or '?'} beside y and x, time alone is expected",
            hint=_ONE_AXIS,
        )
    numbers = [float(text) for text in _numbers(dataset, axes[0])]
    calendar = tags.get(f"{axes[0]}#calendar", "standard")
    return tuple(times(numbers, units, f"{path.name}:{axes[0]}", calendar=calendar))


def _numbers(dataset: Any, axis: str) -> Sequence[str]:
    texts = [dataset.tags(band).get(f"NETCDF_DIM_{axis}", "") for band in range(1, dataset.count + 1)]
    if bad := [text for text in texts if not re.fullmatch(r"[-+0-9.eE]+", text) or math.isnan(float(text))]:
        raise InputError(f"axis {axis} has the value {bad[0][:30]!r}, a number is expected", hint=_ONE_AXIS)
    return texts


def _scene(
    path: Path, name: str, group: Sequence[_Variable], step: int, left_out: tuple[str, ...], told: Told
) -> Scene:
    bands = tuple(variable.band for variable in group)
    identifier, renamed = safe_id(name)
    offset, scaled = dn_offset([variable.raster for variable in group], bands)
    time = group[0].times[step] if group[0].times else None
    assumed = dict.fromkeys(text for variable in group for text in variable.assumed)
    said = ("bands: said by the publisher",) * bool(told.bands)
    nodata = {variable.reading.nodata for variable in group if variable.reading.nodata is not None}
    return make_scene(
        id=identifier,
        product=product_of(bands, group[0].raster.dtype),
        band_files=[
            band_file(variable.band, variable.raster, step + 1, variable.reading)
            for variable in group
        ],
        files=[SourceFile(path.name, path)],
        nodata=min(nodata, default=None),
        offset=offset,
        start=time,
        end=time,
        properties={},
        assumptions=(*renamed, *said, *assumed, *scaled, *left_out),
    )  # fmt: skip
