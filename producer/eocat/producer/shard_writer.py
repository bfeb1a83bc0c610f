"""Writing a shard: GeoParquet whose bytes depend on the rows alone, and its file of row hashes.

Layout (docs/format.md, section 5): the vector column is uncompressed, PLAIN, one page per row group and the
last column, so that row i of a group of n starts at `data_page_offset + total_compressed_size − (n − i)·D·2`
(float16), known from the footer alone. Parquet's GEOMETRY type and GeoParquet 1.1 metadata are both written.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from eocat.verify.geometry import format_wkb
from eocat.verify.merkle import build_tiles, tree_of
from eocat.verify.shard import BBOX, WINDOW, RowBatch, rows_per_group, shard_schema

from .chips import Chip

_NO_STATISTICS = {"embedding.list.element", "geometry", "input_digest"}
_DICTIONARY = ["grid_cell", "source"]


class _Wkb(pa.ExtensionType):  # type: ignore[misc]
    """Makes pyarrow write Parquet's GEOMETRY logical type; an empty CRS means OGC:CRS84."""

    def __init__(self) -> None:
        super().__init__(pa.binary(), "geoarrow.wkb")

    def __arrow_ext_serialize__(self) -> bytes:
        return b"{}"

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> "_Wkb":
        return cls()


@dataclass(frozen=True, slots=True)
class ChipRows:
    """The rows of a shard, in their order. vectors: (N, D) float16 or float32; times: µs since 1970 UTC.

    source, start, end: one for all rows, or one for each.
    """

    chips: Sequence[Chip]
    source: str | Sequence[str]
    start: int | NDArray[np.int64]
    end: int | NDArray[np.int64]
    input_digests: Sequence[bytes]
    vectors: NDArray[np.floating]
    left_out: Mapping[str, int] = field(default_factory=dict)  # why → how many chips are no row

    @property
    def dtype(self) -> str:
        return str(self.vectors.dtype.name)

    def table(self) -> pa.Table:
        """The rows in the shard's schema, geometry as plain WKB."""
        count = len(self.chips)
        return rows_table(
            ids=[chip.id for chip in self.chips],
            wkb=[format_wkb(chip.geometry) for chip in self.chips],
            starts=np.broadcast_to(self.start, count),
            ends=np.broadcast_to(self.end, count),
            boxes=np.array([bounds(chip.geometry) for chip in self.chips]),
            cells=[chip.grid_cell for chip in self.chips],
            sources=[self.source] * count if isinstance(self.source, str) else self.source,
            windows=np.array([(chip.x, chip.y, chip.size) for chip in self.chips]),
            input_digests=self.input_digests,
            vectors=self.vectors,
        )


def rows_table(
    *, ids: Sequence[str], wkb: Sequence[bytes] | NDArray[np.object_], starts: NDArray[np.int64],
    ends: NDArray[np.int64], boxes: NDArray[np.float64], cells: Sequence[str | None], sources: Sequence[str],
    windows: NDArray[np.integer], input_digests: Sequence[bytes], vectors: NDArray[np.floating],
) -> pa.Table:  # fmt: skip
    """Rows in the shard's schema, geometry as plain WKB.

    boxes: (N, 4) as `bounds`; windows: (N, 3), x, y and size; times: µs since 1970 UTC.
    """
    schema = shard_schema(str(vectors.dtype.name), vectors.shape[1])
    x, y, size = np.ascontiguousarray(windows.T, np.int32)
    columns = [
        pa.array(ids, pa.string()),
        pa.array(wkb, pa.binary()),
        pa.array(starts, pa.int64()).cast(schema.field("start_datetime").type),
        pa.array(ends, pa.int64()).cast(schema.field("end_datetime").type),
        pa.StructArray.from_arrays(list(np.ascontiguousarray(boxes.T)), fields=list(BBOX)),
        pa.array(cells, pa.string()),
        pa.array(sources, pa.string()),
        pa.StructArray.from_arrays([x, y, size, size], fields=list(WINDOW)),
        pa.array(input_digests, pa.binary(32)),
        pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=schema.field("embedding").type),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def write_shard(rows: ChipRows, shard: Path, row_hashes: Path, *, about: dict[str, Any]) -> str:
    """Write both files; returns the row root (hex).

    about: the `emb` metadata of the file. The bytes are the same for the same rows, `about` and pyarrow.
    """
    kinds = {chip.geometry["type"] for chip in rows.chips}
    return write_rows(rows.table(), rows.vectors, kinds, shard, row_hashes, about=about)


def write_rows(
    table: pa.Table,
    vectors: NDArray[np.floating],
    kinds: Collection[str],
    shard: Path,
    row_hashes: Path,
    *,
    about: dict[str, Any],
) -> str:
    """As `write_shard`, of rows in the shard's schema. kinds: their geometries' types."""
    dtype = str(vectors.dtype.name)
    geometry = table.schema.get_field_index("geometry")
    typed = pa.ExtensionArray.from_storage(_Wkb(), table["geometry"].combine_chunks())
    file_table = table.set_column(geometry, pa.field("geometry", _Wkb(), nullable=False), typed)
    metadata = {b"geo": _compact(_geo_metadata(kinds)), b"emb": _compact(about)}
    leaves = [path for path in _leaf_columns(table.schema) if path != "embedding.list.element"]
    group_rows = rows_per_group(dtype, vectors.shape[1])
    pq.write_table(
        file_table.replace_schema_metadata(metadata),
        shard,
        row_group_size=group_rows,
        compression={**dict.fromkeys(leaves, "zstd"), "embedding.list.element": "none"},
        use_dictionary=_DICTIONARY,
        write_statistics=[path for path in leaves if path not in _NO_STATISTICS],
        data_page_size=1 << 30,  # above any row group: one page each
        max_rows_per_page=group_rows,
        write_batch_size=group_rows,
        write_page_index=True,
        store_schema=True,
    )
    tiles = build_tiles(RowBatch(0, dtype, table, vectors).leaf_hashes())
    row_hashes.write_bytes(tiles)
    return tree_of(tiles, table.num_rows).root().hex()


def bounds(geometry: dict[str, Any]) -> tuple[float, float, float, float]:
    """(west, south, east, north) in degrees; west > east where the geometry is cut at the antimeridian."""
    polygons = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    boxes = []
    for rings in polygons:
        xs, ys = zip(*rings[0], strict=True)
        boxes.append((min(xs), min(ys), max(xs), max(ys)))
    south, north = min(box[1] for box in boxes), max(box[3] for box in boxes)
    east_parts = [box for box in boxes if box[2] == 180.0]
    west_parts = [box for box in boxes if box[0] == -180.0]
    if len(boxes) > 1 and east_parts and west_parts:
        return min(b[0] for b in east_parts), south, max(b[2] for b in west_parts), north
    return min(box[0] for box in boxes), south, max(box[2] for box in boxes), north


def _geo_metadata(kinds: Collection[str]) -> dict[str, Any]:
    """GeoParquet 1.1 file metadata; an absent crs is OGC:CRS84."""
    return {
        "version": "1.1.0",
        "primary_column": "geometry",
        "columns": {
            "geometry": {
                "encoding": "WKB",
                "geometry_types": sorted(kinds),
                "orientation": "counterclockwise",
                "edges": "planar",
                "covering": {"bbox": {side: ["bbox", side] for side in ("xmin", "ymin", "xmax", "ymax")}},
            }
        },
    }


def _leaf_columns(schema: pa.Schema) -> list[str]:
    paths = []
    for column in schema:
        if pa.types.is_struct(column.type):
            paths += [f"{column.name}.{column.type.field(i).name}" for i in range(column.type.num_fields)]
        elif pa.types.is_fixed_size_list(column.type):
            paths.append(f"{column.name}.list.element")
        else:
            paths.append(column.name)
    return paths


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
