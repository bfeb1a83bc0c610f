"""Items as stac-geoparquet, for search answers that are tables (https://github.com/stac-utils/stac-geoparquet)."""

from tempfile import NamedTemporaryFile
from typing import Any

import pyarrow as pa

from eocat.verify.errors import Malformed

MEDIA_TYPE = "application/vnd.apache.parquet"


def accepts_parquet(accept: str) -> bool:
    """Whether an Accept header names Parquet, and no JSON before it: `*/*` is no wish for a table."""
    wishes: list[tuple[float, str]] = []
    for part in accept.split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = next((one[2:] for one in parameters if one.startswith("q=")), "1")
        try:
            wishes.append((float(quality), kind))
        except ValueError:
            continue
    wanted = max((quality for quality, kind in wishes if kind == MEDIA_TYPE), default=0.0)
    other = max(
        (quality for quality, kind in wishes if kind in ("application/geo+json", "application/json")),
        default=0.0,
    )
    return wanted > 0 and wanted >= other


def format_items(items: list[dict[str, Any]]) -> bytes:
    """The Items as one GeoParquet file, one row each; Malformed where they are no whole Items.

    No Items make a file with the columns that every Item has, and no rows.
    """
    from stac_geoparquet.arrow import to_parquet

    with NamedTemporaryFile(suffix=".parquet") as file:
        to_parquet(items_table(items), file.name, compression="zstd")
        return file.read()


def items_table(items: list[dict[str, Any]]) -> pa.Table:
    """The Items as an Arrow table, one row each, their geometry in WKB."""
    from stac_geoparquet.arrow import parse_stac_items_to_arrow

    try:
        table: pa.Table = parse_stac_items_to_arrow(items or [_EMPTY]).read_all()
    except (pa.ArrowException, KeyError, TypeError, ValueError):
        raise Malformed("the items cannot be one table: ask for whole items, without `fields`") from None
    return table if items else table.slice(0, 0)


_EMPTY = {
    "type": "Feature",
    "stac_version": "1.1.0",
    "stac_extensions": [],
    "id": "",
    "collection": "",
    "geometry": {"type": "Point", "coordinates": [0.0, 0.0]},
    "bbox": [0.0, 0.0, 0.0, 0.0],
    "properties": {"datetime": "1970-01-01T00:00:00Z"},
    "links": [],
    "assets": {},
}
