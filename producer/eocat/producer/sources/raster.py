"""Scene from one multi-band raster file: a stack of Sentinel-1 or 2 bands or an RGB picture, georeferenced.

Band names come from the band descriptions where those name bands, or from the publisher; otherwise from
their number (13 = L1C, 12 = L2A, 3 = red, green, blue), which the scene records as an assumption. So it is
with the DN offset: the file's scale and offset are taken if it has any. The time is the tag
ACQUISITIONDATETIME, GDAL's name for it, or `datetime`, xarray's; TIFFTAG_DATETIME is when the file was
written, so it is not used. Where no tag tells it, the name of the product does.
"""

import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from eocat.verify.errors import InputError

from .bands import band_named, is_radar, product_of
from .datasets import EUROSAT_BANDS, is_eurosat, known_meaning, times_named
from .gdal import Raster, local_path, probe
from .locator import Locator, format_locator
from .scene import BandFile, Scene, SourceFile, make_scene, safe_id
from .sentinel2 import L1C_BANDS, L2A_BANDS, OFFSET, RGB_BANDS, baseline_in, has_offset
from .told import Told
from .values import Reading, reading

TIME_TAG: Final = "ACQUISITIONDATETIME"
XARRAY_TIME_TAG: Final = "datetime"
SYNTHETIC_TAG: Final = "EOCAT_SYNTHETIC"
SCALE: Final = 1e-4

_ORDERS: Final = {3: "red, green, blue", 12: "L2A order, no B10", 13: "L1C order"}
_BY_COUNT: Final = {len(bands): bands for bands in (RGB_BANDS, L2A_BANDS, L1C_BANDS)}


def read_raster(path: Path, told: Told) -> Scene:
    """The scene in the raster file at `path`; raises InputError if it is none that eocat can use."""
    raster = probe(local_path(path), path.name)
    bands, named = _bands(raster, path, told)
    readings = [reading_of(raster, band, told) for band in bands]
    assumed = tuple(dict.fromkeys(text for _, texts in readings for text in texts))
    product = product_of(bands, raster.dtype)
    offset, scaled = dn_offset([raster], bands, name=path.stem)
    identifier, renamed = safe_id(path.stem)
    (start, end), dated = times_of(raster, path.stem)
    return make_scene(
        id=identifier,
        product=product,
        band_files=[
            band_file(band, raster, index, found)
            for index, (band, (found, _)) in enumerate(zip(bands, readings, strict=True), start=1)
        ],
        files=side_files(raster, folder=None),
        nodata=readings[0][0].nodata,
        offset=offset,
        start=start,
        end=end,
        properties=_properties(raster, product),
        assumptions=renamed + named + assumed + scaled + dated,
    )


def reading_of(raster: Raster, band: str, told: Told) -> tuple[Reading, tuple[str, ...]]:
    """How the raster's numbers become pixels of `band`, and the assumption behind it."""
    units = (*raster.units, raster.tags.get("units"))
    return reading(
        raster.name,
        raster.dtype,
        raster.nodata,
        radar=is_radar(band),
        units=units,
        told=told.values,
        known=known_meaning(raster.name),
    )


def band_file(band: str, raster: Raster, index: int, reading: Reading) -> BandFile:
    """Band number `index` of the raster, read so."""
    path = format_locator(Locator(raster.path, meaning=reading.meaning, void=reading.void))
    return BandFile(band, path, index, raster.name, raster.grid, reading.dtype)


def side_files(raster: Raster, *, folder: str | None) -> list[SourceFile]:
    """The raster's file and its side-cars, in a stable order, named below `folder` if there is one."""
    paths = sorted({Path(file) for file in raster.files})
    return [SourceFile(f"{folder}/{path.name}" if folder else path.name, path) for path in paths]


def times_of(
    raster: Raster, name: str
) -> tuple[tuple[datetime, datetime] | tuple[None, None], tuple[str, ...]]:
    """Begin and end by the raster's own tag, else by the product's name `name`; and the assumption."""
    if (time := acquisition_time(raster)) is not None:
        return (time, time), ()
    if times := times_named(name):
        return times, (f"time: by the name {name[:80]}",)
    return (None, None), ()


def acquisition_time(raster: Raster) -> datetime | None:
    """The time in the file's own tag, UTC; None if it has none. Raises InputError for a broken one."""
    text = raster.tags.get(TIME_TAG) or raster.tags.get(XARRAY_TIME_TAG)
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(re.sub(r"(\.\d{6})\d{3}$", r"\1", text))  # xarray prints nanoseconds
    except ValueError:
        raise InputError(
            f"{raster.name} has {TIME_TAG} {text[:40]!r}, a time such as 2024-06-01 10:00:31 is expected",
            hint=f"correct it: gdal_edit.py -mo {TIME_TAG}=… FILE",
        ) from None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _bands(raster: Raster, path: Path, told: Told) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The bands' names, and the assumption behind them if there is one."""
    count = len(raster.descriptions)
    if by_order := told.bands_by_order(count):
        return by_order, ("bands: said by the publisher",)
    named = [band_named(text or "", told) for text in raster.descriptions]
    described = [band for band in named if band is not None]
    if len(set(described)) == count:
        return tuple(described), ("bands: said by the publisher",) * bool(told.bands)
    if count == 1 and (band := band_named(path.stem, told)):
        if is_radar(band):
            return (band,), ()
        raise InputError(
            f"{raster.name} holds band {band} alone",
            hint="give the folder that holds the bands of the scene, one file each",
        )
    _check_not_a_series(raster, described)
    if count == 1:
        raise InputError(
            f"{raster.name} has one band, and nothing says which: "
            "a map of heights, of classes or of an index is no scene",
            hint="if it is a band of a sensor, say which: --bands VV",
        )
    if count not in _BY_COUNT:
        raise InputError(
            f"{raster.name} has {count} bands that their descriptions do not name: "
            "3 (red, green, blue), 12 (L2A) or 13 (L1C) are expected, or descriptions such as B02",
            hint="name the bands by order: --bands B02,B03,…",
        )
    if count == len(EUROSAT_BANDS) and is_eurosat(path):
        return EUROSAT_BANDS, ("bands: EuroSAT's order, B8A last",)
    bands = _BY_COUNT[count]
    if bands == RGB_BANDS and raster.colours == RGB_BANDS:
        return bands, ()
    return bands, (f"bands: by their number ({count} = {_ORDERS[count]})",)


def _check_not_a_series(raster: Raster, described: list[str]) -> None:
    """Refuse a file whose bands are many dates: nothing in a GeoTIFF says which band is of which."""
    band, times = max(Counter(described).items(), key=lambda pair: pair[1], default=("", 0))
    dated = sum(times_named(text or "") is not None for text in raster.descriptions)
    if times > 1:
        raise InputError(
            f"{raster.name} has band {band} {times} times: one date is expected in a file",
            hint="write each date to a file of its own (gdal_translate -b …), or a NetCDF with a time axis",
        )
    if dated > 1:
        raise InputError(
            f"{raster.name} holds {dated} dates, one for each of its bands: one is expected in a file",
            hint="write a file for each date with its polarisations as bands: gdalbuildvrt -separate, -b N",
        )


def dn_offset(
    rasters: Sequence[Raster], bands: Sequence[str], *, name: str = ""
) -> tuple[int, tuple[str, ...]]:
    """The DN offset of Sentinel-2 bands from their own scale and offset, or an assumption.

    name: of the product, whose processing baseline tells it where the files don't.
    """
    if not any(band.startswith("B") for band in bands):
        return 0, ()
    if all(raster.dtype == "uint8" for raster in rasters):
        return 0, ("values: 8-bit display values, not reflectance",)
    transforms = {pair for raster in rasters for pair in zip(raster.scales, raster.offsets, strict=True)}
    if transforms == {(1.0, 0.0)} and (baseline := baseline_in(name)):
        offset = OFFSET if has_offset(baseline) else 0
        return offset, (f"offset: {offset}, by the baseline {baseline} in the name",)
    if transforms == {(1.0, 0.0)}:
        return 0, (f"offset: 0; the files state none (products of baseline 04.00 and later hold {OFFSET})",)
    (scale, add), *others = sorted(transforms)
    if others or abs(scale - SCALE) > 1e-9:
        raise InputError(
            f"{rasters[0].name} has scale {scale:g} and offset {add:g}, "
            f"scale {SCALE:g} is expected in all bands",
            hint="write reflectance × 10000 as integers, with scale 0.0001 or none",
        )
    return round(-add / scale), ()


def _properties(raster: Raster, product: str) -> dict[str, JsonValue]:
    properties: dict[str, JsonValue] = {}
    if SYNTHETIC_TAG in raster.tags:
        properties["eocat:synthetic"] = True
    elif product.startswith("sentinel-2"):
        properties |= {"constellation": "sentinel-2", "instruments": ["msi"]}
    elif product == "sentinel-1":
        properties |= {"constellation": "sentinel-1", "instruments": ["c-sar"]}
    return properties
