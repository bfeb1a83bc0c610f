"""GeoTIFFs that stand in cells of a Parquet file, as Major TOM Core has its images."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from eocat.verify.errors import InputError

from .locator import Locator


def open_parquet(path: str) -> pq.ParquetFile:
    """The file of that path; InputError if it is none."""
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"{Path(path).name} is no readable Parquet file: {str(error)[:120]}", hint="fetch the file again"
        ) from None


def cell_bytes(locator: Locator) -> bytes:
    """The GeoTIFF of one band of one row."""
    group, column = locator.place
    (cell,) = open_parquet(locator.path).read_row_group(group, columns=[column])[column].to_pylist()
    return bytes(cell)
