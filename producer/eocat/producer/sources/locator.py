"""Where a band's pixels are, as one text that goes to other processes: what `BandFile.path` holds.

A raster of integers is its path as GDAL opens it. Everything else is a JSON object: real numbers that are
brought to integers (values.py), a GeoTIFF in a cell of a Parquet file, an array in a zip of Zarr.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from .values import Meaning


@dataclass(frozen=True, slots=True)
class Locator:
    """path: of the file, for GDAL its own spelling. meaning, void: see `values.Reading`.

    place: in Parquet the row group and column; in Zarr offset and size of the zip in the file, the array's
    name, and the indices before the axes band, y and x.
    """

    path: str
    store: Literal["gdal", "parquet", "zarr"] = "gdal"
    place: tuple[int | str, ...] = ()
    meaning: Meaning | None = None
    void: float | None = None


def format_locator(locator: Locator) -> str:
    plain = locator.store == "gdal" and locator.meaning is None
    return locator.path if plain else json.dumps(asdict(locator))


def parse_locator(text: str) -> Locator:
    """The locator that `format_locator` wrote."""
    if not text.startswith("{"):
        return Locator(text)
    members: dict[str, Any] = json.loads(text)
    return Locator(**members | {"place": tuple(members["place"])})
