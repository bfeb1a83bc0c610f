"""Scenes from Major TOM Core: a Parquet file whose rows hold a patch, each band a GeoTIFF. FORMATS.md, 4.2.

Columns product_id, grid_cell, timestamp (or product_datetime), B01 … B12 or vv and vh, perhaps cloud_mask.
A row is read when its scene is asked for, never the file. Sentinel-1 RTC is linear power there.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from eocat.verify.errors import InputError

from .bands import BAND_ORDER, band_named, is_radar, product_of
from .cells import open_parquet
from .gdal import Raster, describe, local_path, opened_bytes
from .locator import Locator, format_locator
from .raster import dn_offset
from .scene import BandFile, CloudClasses, Scene, SourceFile, make_scene, safe_id
from .told import Told
from .values import Reading, reading

SUFFIX: Final = ".parquet"
CLOUDY: Final = (1, 2, 3)  # cloud_mask: thick, thin, shadow, all but clear

_KEYS: Final = ("product_id", "grid_cell")
_TIMES: Final = ("timestamp", "product_datetime")
_EXPECTED: Final = "images of Major TOM Core have product_id, grid_cell, timestamp and bands as GeoTIFF"
MAX_ROW_BYTES: Final = 1 << 30  # of a row group, as its footer says


def core_readers(path: Path, told: Told) -> list[Callable[[], Iterable[Scene]]]:
    """What reads the scene of each row; raises InputError if the file is no Major TOM Core."""
    file = open_parquet(local_path(path))
    bands = _band_columns(file.schema_arrow, told)
    if not bands or not {*_KEYS} <= set(file.schema_arrow.names):
        raise InputError(
            f"{path.name} is a Parquet file without images of Major TOM Core",
            hint=f"{_EXPECTED}; published vectors are for 'eocat import'",
        )
    readers: list[Callable[[], Iterable[Scene]]] = []
    for group in range(file.num_row_groups):
        size, count = file.metadata.row_group(group).total_byte_size, file.metadata.row_group(group).num_rows
        if count != 1 or size > MAX_ROW_BYTES:
            raise InputError(
                f"row group {group} of {path.name} has {count} rows and {size} bytes, "
                f"one row of at most {MAX_ROW_BYTES} bytes is expected",
                hint="write it as Major TOM Core is: row_group_size=1",
            )
        readers.append(partial(_read_row, path, group, bands, told))
    return readers


def is_core(path: Path) -> bool:
    """Whether the file has the columns of Major TOM Core; false for one that cannot be read."""
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowInvalid, OSError):
        return False
    return {*_KEYS} <= set(schema.names) and bool(_band_columns(schema, Told()))


def _band_columns(schema: pa.Schema, told: Told) -> dict[str, str]:
    """Band → its column, in the order of bands."""
    columns = [field.name for field in schema if pa.types.is_binary(field.type)]
    named = {band: column for column in columns if (band := band_named(column, told))}
    return {band: named[band] for band in BAND_ORDER if band in named}


def _read_row(path: Path, group: int, bands: dict[str, str], told: Told) -> list[Scene]:
    file = open_parquet(local_path(path))
    masks = ["cloud_mask"] if "cloud_mask" in file.schema_arrow.names else []
    times = [name for name in _TIMES if name in file.schema_arrow.names]
    columns = [*_KEYS, *times[:1], *bands.values(), *masks]
    row: dict[str, Any] = file.read_row_group(group, columns=columns).to_pylist()[0]
    label = f"row {group} of {path.name}"
    product, cell = (_text(row[key], key, label) for key in _KEYS)
    identifier, renamed = safe_id(f"{product.removesuffix('.SAFE')}_{cell}")
    found = {band: _band_file(path, group, column, row[column], band, told) for band, column in bands.items()}
    rasters = [raster for raster, _, _, _ in found.values()]
    offset, scaled = dn_offset(rasters, list(found), name=product)
    time = _time(row[times[0]], label) if times else None
    assumed = dict.fromkeys(text for _, _, _, texts in found.values() for text in texts)
    return [
        make_scene(
            id=identifier,
            product=product_of(list(found), rasters[0].dtype),
            band_files=[band_file for _, band_file, _, _ in found.values()],
            files=[SourceFile(path.name, path)],
            nodata=next(iter(found.values()))[2].nodata,
            offset=offset,
            start=time,
            end=time,
            properties={"grid:code": f"MAJORTOM-{cell}"},
            assumptions=(*renamed, *assumed, *scaled),
            cloud_mask=_cloud_mask(path, group, row[masks[0]]) if masks and row[masks[0]] else None,
        )
    ]


def _band_file(
    path: Path, group: int, column: str, data: object, band: str, told: Told
) -> tuple[Raster, BandFile, Reading, tuple[str, ...]]:
    label = f"{column} in row {group} of {path.name}"
    raster = _describe(data, label)
    radar = is_radar(band)
    found, assumed = reading(
        label, raster.dtype, raster.nodata, radar=radar, told=told.values, known="power" if radar else None
    )
    locator = Locator(str(path.absolute()), "parquet", (group, column), found.meaning, found.void)
    file = BandFile(band, format_locator(locator), 1, label, raster.grid, found.dtype)
    return raster, file, found, assumed


def _describe(data: object, label: str) -> Raster:
    if not isinstance(data, bytes) or not data:
        raise InputError(f"{label} is empty, a GeoTIFF is expected", hint="fetch the file again")
    with opened_bytes(data, label) as dataset:
        return describe(dataset, "", label)


def _cloud_mask(path: Path, group: int, data: object) -> CloudClasses:
    label = f"cloud_mask in row {group} of {path.name}"
    raster = _describe(data, label)
    locator = Locator(str(path.absolute()), "parquet", (group, "cloud_mask"))
    file = BandFile("clouds", format_locator(locator), 1, label, raster.grid, raster.dtype)
    return CloudClasses((file,), CLOUDY)


def _text(value: object, key: str, label: str) -> str:
    if not isinstance(value, str) or not value:
        raise InputError(f"{label} has no {key}", hint=_EXPECTED)
    return value


def _time(value: object, label: str) -> datetime:
    """UTC of Core's 20220706T085611, of ISO 8601, or of a timestamp."""
    try:
        time = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        raise InputError(
            f"{label} has the time {str(value)[:40]!r}, one such as 20220706T085611 is expected",
            hint="correct the column, or leave it out and give --datetime",
        ) from None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
