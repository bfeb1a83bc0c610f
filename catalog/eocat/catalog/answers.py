"""Answers of a catalogue, as they were served, and as tables: Arrow, and GeoPandas where it is installed.

Geometries are WKB in OGC:CRS84 under GeoArrow's extension name, so that GeoPandas, DuckDB and lonboard know
them; written as Parquet the tables are GeoParquet 1.1. Nothing is checked here: `Catalogue.verify` does
that.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from eocat.verify.edge.terminal import needs
from eocat.verify.errors import ConfigError
from eocat.verify.geometry import format_wkb
from eocat.verify.statement import parse_time

if TYPE_CHECKING:
    import geopandas

TIME = pa.timestamp("us", tz="UTC")
GEO = {
    "version": "1.1.0",
    "primary_column": "geometry",
    "columns": {"geometry": {"encoding": "WKB", "geometry_types": []}},  # without crs: OGC:CRS84
}
_WKB = {
    "ARROW:extension:name": "geoarrow.wkb",
    "ARROW:extension:metadata": json.dumps({"crs": "OGC:CRS84", "crs_type": "authority_code"}),
}
HITS = pa.schema(
    [
        pa.field("collection", pa.string(), nullable=False),
        pa.field("item", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("distance", pa.float64()),
        pa.field("start_datetime", TIME, nullable=False),
        pa.field("end_datetime", TIME, nullable=False),
        pa.field("geometry", pa.binary(), nullable=False, metadata=_WKB),
        pa.field("grid_cell", pa.string()),
        pa.field("source", pa.string()),
        pa.field("license", pa.string()),
        pa.field("status", pa.string()),
    ],
    metadata={"geo": json.dumps(GEO)},
)


class Items(list[dict[str, Any]]):
    """STAC Items."""

    def to_arrow(self) -> pa.Table:
        """One row an Item, as stac-geoparquet has it; needs the extra frames."""
        with needs("frames"):
            from .geoparquet import items_table

            return items_table(list(self))

    def to_geopandas(self) -> "geopandas.GeoDataFrame":
        with needs("frames"):
            import geopandas

            return geopandas.GeoDataFrame.from_features(self, crs="OGC:CRS84")

    def write_parquet(self, path: Path) -> None:
        """Write a stac-geoparquet file."""
        with needs("frames"):
            from .geoparquet import format_items

            _write(path, format_items(list(self)))


class Hits(dict[str, Any]):
    """A FeatureCollection of rows, nearest first (docs/similarity.md)."""

    @property
    def features(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self["features"]
        return found

    def to_arrow(self) -> pa.Table:
        """One row a hit, in their order; with a column `vector` where vectors were asked for."""
        columns: dict[str, list[Any]] = {name: [] for name in HITS.names}
        for feature in self.features:
            place = feature["properties"]
            values = {
                **place,
                "id": feature["id"],
                "geometry": format_wkb(feature["geometry"]),
                "start_datetime": parse_time(place["start_datetime"]),
                "end_datetime": parse_time(place["end_datetime"]),
                "status": place["eocat:status"],
            }
            for name, column in columns.items():
                column.append(values.get(name))
        table = pa.table(columns, schema=HITS)
        vectors = [feature["properties"].get("vector") for feature in self.features]
        if vectors and all(vector is not None for vector in vectors):
            kind = pa.list_(pa.float32(), len(vectors[0]))
            table = table.append_column(pa.field("vector", kind), pa.array(vectors, kind))
        return table

    def to_geopandas(self) -> "geopandas.GeoDataFrame":
        with needs("frames"):
            import geopandas

            return geopandas.GeoDataFrame.from_arrow(self.to_arrow())

    def write_parquet(self, path: Path) -> None:
        """Write a GeoParquet file."""
        sink = pa.BufferOutputStream()
        pq.write_table(self.to_arrow(), sink, compression="zstd")
        _write(path, sink.getvalue().to_pybytes())


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
