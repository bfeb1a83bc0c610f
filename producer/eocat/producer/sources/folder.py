"""Scene from a folder of one-band raster files that are named by band, with the STAC Item beside them if any.

GeoTIFF, COG or JPEG 2000 under any suffix, or NetCDF with one variable; the georeference may be in a side-car
(.aux.xml). A file whose name tells no band (a preview) is no part of the scene; SCL is its cloud mask.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

from eocat.verify.errors import InputError

from .bands import BAND_ORDER, band_named, product_of
from .datasets import majortom_cell, times_named
from .gdal import Raster, local_path, probe
from .netcdf import SUFFIX as NETCDF_SUFFIX
from .netcdf import probe_variable, single_band
from .raster import band_file, dn_offset, reading_of, side_files, times_of
from .scene import BandFile, CloudClasses, CloudMask, Scene, SourceFile, make_scene, safe_id
from .sentinel2 import SCL_CLOUDY
from .stac import ItemFacts, read_item
from .told import Told
from .values import Reading

MAJORTOM_CLOUDY: Final = (1, 2, 3)  # thick, thin, shadow: all but clear

_ONE_SCENE: Final = "put each scene with its Item in a folder of its own, one file for each band"
_MASKS: Final = (
    (re.compile(r"(?<![A-Za-z0-9])SCL(?![A-Za-z0-9])", re.IGNORECASE), SCL_CLOUDY),
    (re.compile(r"cloud_mask", re.IGNORECASE), MAJORTOM_CLOUDY),
)


def band_of_file(path: Path, told: Told) -> str | None:
    """The band that a one-band file's name tells, or of a NetCDF file its one variable."""
    if path.suffix.lower() == NETCDF_SUFFIX:
        return single_band(path, told)
    return band_named(path.stem, told)


def read_band_folder(folder: Path, paths: Sequence[Path], told: Told) -> list[Scene]:
    """The scene whose bands are those raster files in `folder` that a band names.

    Where each file holds a series, its bands named by one product each, it is a scene for each product.
    Raises InputError.
    """
    named = [(band, path) for path in paths if (band := band_of_file(path, told))]
    ordered = sorted(named, key=lambda pair: BAND_ORDER.index(pair[0]))
    rasters = {band: _probe_band(path) for band, path in ordered}
    _check_one_file_each(folder, ordered)
    item_path, item = _item_beside(folder)
    beside = [SourceFile(f"{folder.name}/{item_path.name}", item_path)] if item_path else []
    mask, classified = _cloud_mask([path for path in paths if path.suffix.lower() != NETCDF_SUFFIX])
    beside += [file for raster in classified for file in side_files(raster, folder=folder.name)]
    products = {raster.descriptions for raster in rasters.values()}
    if {len(names) for names in products} == {1}:
        return [band_scene(folder, rasters, told, item=item, files=beside, mask=mask)]
    if len(products) > 1 or not all(times_named(text or "") for text in next(iter(products))):
        raster = max(rasters.values(), key=lambda raster: len(raster.descriptions))
        raise InputError(
            f"{raster.name} has {len(raster.descriptions)} bands, its name tells of one", hint=_ONE_SCENE
        )
    return [
        band_scene(folder, rasters, told, product=text or "", index=index, files=beside)
        for index, text in enumerate(products.pop(), start=1)
    ]


def band_scene(
    folder: Path,
    rasters: Mapping[str, Raster],
    told: Told,
    *,
    item: ItemFacts | None = None,
    product: str = "",
    index: int = 1,
    files: Sequence[SourceFile] = (),
    mask: CloudMask | None = None,
) -> Scene:
    """The scene of band `index` of each raster; facts by the Item, or else by files and the name.

    product: the name of a series' member; "": the folder's name counts.
    """
    readings = {band: reading_of(raster, band, told) for band, raster in rasters.items()}
    first = next(iter(rasters.values()))
    facts = item or _without_item(folder, rasters, product)
    stated = facts.product if first.dtype != "uint8" else None
    assumed = dict.fromkeys(
        text.replace(rasters[band].name, "files") for band, (_, texts) in readings.items() for text in texts
    )
    sources = [file for raster in rasters.values() for file in side_files(raster, folder=folder.name)]
    return make_scene(
        id=facts.id,
        product=stated or product_of(list(rasters), first.dtype),
        band_files=[band_file(band, rasters[band], index, found) for band, (found, _) in readings.items()],
        files=sorted([*sources, *files], key=lambda file: file.name),
        nodata=_one_nodata(folder, [found for found, _ in readings.values()]),
        offset=facts.offset,
        start=facts.start,
        end=facts.end,
        properties=facts.properties,
        assumptions=(*facts.assumptions, *assumed),
        cloud_mask=mask,
    )


def _probe_band(path: Path) -> Raster:
    if path.suffix.lower() == NETCDF_SUFFIX:
        return probe_variable(path)
    return probe(local_path(path), path.name)


def _check_one_file_each(folder: Path, named: Sequence[tuple[str, Path]]) -> None:
    for (band, path), (following, other) in pairwise(named):
        if band == following:
            raise InputError(
                f"{folder.name} has band {band} twice: {path.name} and {other.name}",
                hint="keep one file for each band in the folder",
            )


def _one_nodata(folder: Path, readings: Sequence[Reading]) -> int | None:
    nodata = {reading.nodata for reading in readings if reading.nodata is not None}
    if len(nodata) > 1:
        raise InputError(
            f"the bands in {folder.name} declare {len(nodata)} nodata values, one is expected",
            hint="set one value for all bands: gdal_edit.py -a_nodata 0 FILE",
        )
    return nodata.pop() if nodata else None


def _cloud_mask(paths: Sequence[Path]) -> tuple[CloudMask | None, list[Raster]]:
    """The classification among the files, and its raster, if one is there."""
    for path in paths:
        for pattern, cloudy in _MASKS:
            if pattern.search(path.stem):
                raster = probe(local_path(path), path.name)
                return _mask(raster, cloudy), [raster]
    return None, []


def mask_of(path: Path) -> tuple[CloudMask, Raster]:
    """Sentinel-2's scene classification in the file at `path`, and its raster."""
    raster = probe(local_path(path), path.name)
    return _mask(raster, SCL_CLOUDY), raster


def _mask(raster: Raster, cloudy: tuple[int, ...]) -> CloudClasses:
    file = BandFile("clouds", raster.path, 1, raster.name, raster.grid, raster.dtype)
    return CloudClasses((file,), cloudy)


def _item_beside(folder: Path) -> tuple[Path | None, ItemFacts | None]:
    paths = [path for path in sorted(folder.glob("*.json")) if path.is_file()]
    items = [(path, item) for path in paths if (item := read_item(path))]
    if len(items) > 1:
        raise InputError(
            f"{folder.name} holds {len(items)} STAC Items, at most one is expected beside the bands",
            hint=_ONE_SCENE,
        )
    return items[0] if items else (None, None)


def _without_item(folder: Path, rasters: Mapping[str, Raster], product: str) -> ItemFacts:
    """The little that the files and the name alone tell."""
    name = product or folder.absolute().name
    identifier, renamed = safe_id(name)
    if cell := majortom_cell(folder):
        identifier, renamed = f"{identifier}_{cell}", (*renamed, "id: the product and its Major TOM cell")
    found = [times_of(raster, product or raster.name) for raster in rasters.values()]
    found = [times if times[0][0] else times_of(raster, name) for raster, times in
             zip(rasters.values(), found, strict=True)]  # fmt: skip
    if len({times for times, _ in found}) > 1:
        raise InputError(
            f"the bands in {folder.name} have {len({times for times, _ in found})} acquisition times, "
            "one is expected",
            hint=_ONE_SCENE,
        )
    (start, end), dated = found[0]
    offset, values = dn_offset(list(rasters.values()), list(rasters), name=name)
    return ItemFacts(identifier, None, start, end, offset, {}, (*renamed, *values, *dated))
