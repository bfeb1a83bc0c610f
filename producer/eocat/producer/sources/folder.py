"""Scene from a folder of one-band raster files that are named by band, with the STAC Item beside them if any.

GeoTIFF, COG or JPEG 2000 under any suffix; the georeference may be in a side-car (.aux.xml). A file whose
name tells no band (SCL, a preview) is no part of the scene.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from eocat.verify.errors import InputError

from .gdal import Raster, local_path, probe
from .raster import acquisition_time, side_files
from .scene import BandFile, Scene, SourceFile, make_scene, safe_id
from .sentinel2 import L1C_BANDS, OFFSET, band_in, product_of
from .stac import ItemFacts, read_item

_ONE_SCENE: Final = "put each scene with its Item in a folder of its own, one file for each band"


def read_band_folder(folder: Path, paths: Sequence[Path]) -> Scene:
    """The scene whose bands are those raster files in `folder` that a band names; raises InputError."""
    named = [(band, path) for path in paths if (band := band_in(path.name))]
    rasters = [_probe_band(path) for _, path in sorted(named, key=lambda pair: L1C_BANDS.index(pair[0]))]
    bands = [band_in(raster.name) or "" for raster in rasters]
    nodata = {raster.nodata for raster in rasters if raster.nodata is not None}
    if len(nodata) > 1:
        raise InputError(
            f"the bands in {folder.name} declare {len(nodata)} nodata values, one is expected",
            hint="set one value for all bands: gdal_edit.py -a_nodata 0 FILE",
        )
    files = [file for raster in rasters for file in side_files(raster, folder=folder.name)]
    item_path, item = _item_beside(folder)
    if item_path:
        files.append(SourceFile(f"{folder.name}/{item_path.name}", item_path))
    facts = item or _without_item(folder, rasters)
    stated = facts.product if rasters[0].dtype != "uint8" else None
    return make_scene(
        id=facts.id,
        product=stated or product_of(tuple(bands), rasters[0].dtype),
        band_files=[
            BandFile(band, raster.path, 1, raster.name, raster.grid, raster.dtype)
            for band, raster in zip(bands, rasters, strict=True)
        ],
        files=sorted(files, key=lambda file: file.name),
        nodata=nodata.pop() if nodata else None,
        offset=facts.offset,
        start=facts.start,
        end=facts.end,
        properties=facts.properties,
        assumptions=facts.assumptions,
    )


def _probe_band(path: Path) -> Raster:
    raster = probe(local_path(path), path.name)
    if len(raster.descriptions) != 1:
        raise InputError(
            f"{path.name} has {len(raster.descriptions)} bands, its name tells of one", hint=_ONE_SCENE
        )
    return raster


def _item_beside(folder: Path) -> tuple[Path | None, ItemFacts | None]:
    paths = [path for path in sorted(folder.glob("*.json")) if path.is_file()]
    items = [(path, item) for path in paths if (item := read_item(path))]
    if len(items) > 1:
        raise InputError(
            f"{folder.name} holds {len(items)} STAC Items, at most one is expected beside the bands",
            hint=_ONE_SCENE,
        )
    return items[0] if items else (None, None)


def _without_item(folder: Path, rasters: Sequence[Raster]) -> ItemFacts:
    """The little that the files alone tell; 8-bit values are a picture's, which has no offset."""
    identifier, renamed = safe_id(folder.absolute().name)
    times = {acquisition_time(raster) for raster in rasters}
    if len(times) > 1:
        raise InputError(
            f"the bands in {folder.name} have {len(times)} acquisition times, one is expected",
            hint=_ONE_SCENE,
        )
    time = times.pop()
    display = all(raster.dtype == "uint8" for raster in rasters)
    offset = f"offset: 0; the files state none (products of baseline 04.00 and later hold {OFFSET})"
    values = "values: 8-bit display values, not reflectance"
    return ItemFacts(identifier, None, time, time, 0, {}, (*renamed, values if display else offset))
