"""Scene from one multi-band raster file: a stack of Sentinel-2 bands or an RGB picture, georeferenced.

Band names come from the band descriptions where those name bands; otherwise from their number (13 = L1C,
12 = L2A, 3 = red, green, blue), which the scene records as an assumption. So it is with the DN offset: the
file's scale and offset are taken if it has any. The time is the tag ACQUISITIONDATETIME, GDAL's name for it
(in its IMAGERY domain or the default one); TIFFTAG_DATETIME is when the file was written, so it is not used.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from eocat.verify.errors import InputError

from .gdal import Raster, local_path, probe
from .scene import BandFile, Scene, SourceFile, make_scene, safe_id
from .sentinel2 import L1C_BANDS, L2A_BANDS, OFFSET, RGB_BANDS, band_in, product_of

TIME_TAG: Final = "ACQUISITIONDATETIME"
SYNTHETIC_TAG: Final = "EOCAT_SYNTHETIC"
SCALE: Final = 1e-4

_ORDERS: Final = {3: "red, green, blue", 12: "L2A order, no B10", 13: "L1C order"}
_BY_COUNT: Final = {len(bands): bands for bands in (RGB_BANDS, L2A_BANDS, L1C_BANDS)}


def read_raster(path: Path) -> Scene:
    """The scene in the raster file at `path`; raises InputError if it is none that eocat can use."""
    raster = probe(local_path(path), path.name)
    bands, named = _bands(raster)
    product = product_of(bands, raster.dtype)
    offset, scaled = _offset(raster, product)
    identifier, renamed = safe_id(path.stem)
    time = acquisition_time(raster)
    return make_scene(
        id=identifier,
        product=product,
        band_files=[
            BandFile(band, raster.path, index, raster.name, raster.grid, raster.dtype)
            for index, band in enumerate(bands, start=1)
        ],
        files=side_files(raster, folder=None),
        nodata=raster.nodata,
        offset=offset,
        start=time,
        end=time,
        properties=_properties(raster, product),
        assumptions=renamed + named + scaled,
    )


def side_files(raster: Raster, *, folder: str | None) -> list[SourceFile]:
    """The raster's file and its side-cars, in a stable order, named below `folder` if there is one."""
    paths = sorted({Path(file) for file in (raster.path, *raster.files)})
    return [SourceFile(f"{folder}/{path.name}" if folder else path.name, path) for path in paths]


def acquisition_time(raster: Raster) -> datetime | None:
    """The time in the file's own tag, UTC; None if it has none. Raises InputError for a broken one."""
    if (text := raster.tags.get(TIME_TAG)) is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(
            f"{raster.name} has {TIME_TAG} {text[:40]!r}, a time such as 2024-06-01 10:00:31 is expected",
            hint=f"correct it: gdal_edit.py -mo {TIME_TAG}=… FILE",
        ) from None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _bands(raster: Raster) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The bands' names, and the assumption behind them if there is one."""
    count = len(raster.descriptions)
    named = [_described(text or "") for text in raster.descriptions]
    described = tuple(band for band in named if band is not None)
    if len(set(described)) == count:
        return described, ()
    if count == 1 and (band := band_in(raster.name)):
        raise InputError(
            f"{raster.name} holds band {band} alone",
            hint="give the folder that holds the bands of the scene, one file each",
        )
    if count not in _BY_COUNT:
        raise InputError(
            f"{raster.name} has {count} bands that their descriptions do not name: "
            "3 (red, green, blue), 12 (L2A) or 13 (L1C) are expected, or descriptions such as B02",
            hint="name the bands, in rasterio with dataset.descriptions = ('B02', 'B03', …)",
        )
    bands = _BY_COUNT[count]
    if bands == RGB_BANDS and raster.colours == RGB_BANDS:
        return bands, ()
    return bands, (f"bands: by their number ({count} = {_ORDERS[count]})",)


def _described(text: str) -> str | None:
    return text.lower() if text.lower() in RGB_BANDS else band_in(text)


def _offset(raster: Raster, product: str) -> tuple[int, tuple[str, ...]]:
    """The DN offset of a Sentinel-2 stack from the bands' own scale and offset, or an assumption."""
    if product == "raster":
        return 0, ()
    transforms = set(zip(raster.scales, raster.offsets, strict=True))
    if transforms == {(1.0, 0.0)}:
        return 0, (f"offset: 0; the file states none (products of baseline 04.00 and later hold {OFFSET})",)
    (scale, add), *others = sorted(transforms)
    if others or abs(scale - SCALE) > 1e-9:
        raise InputError(
            f"{raster.name} has scale {scale:g} and offset {add:g}, scale {SCALE:g} is expected in all bands",
            hint="write reflectance × 10000 as integers, with scale 0.0001 or none",
        )
    return round(-add / scale), ()


def _properties(raster: Raster, product: str) -> dict[str, JsonValue]:
    properties: dict[str, JsonValue] = {}
    if SYNTHETIC_TAG in raster.tags:
        properties["eocat:synthetic"] = True
    elif product != "raster":
        properties |= {"constellation": "sentinel-2", "instruments": ["msi"]}
    return properties
