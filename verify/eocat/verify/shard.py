"""The shard: a GeoParquet file of rows, read within limits that its signed statement sets.

Layout (docs/format.md, section 5). Parquet lies about size: 507 bytes were seen to decode to 2 GB. So the
footer is held against the signed row count and dimension before anything is decoded, and rows are then
read one row group at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .errors import Malformed
from .merkle import leaf_hash
from .row import Row, check_vectors, encode_row
from .statement import Rows

ROW_GROUP_ROWS = 16_384
OTHER_BYTES_PER_ROW = 4096  # what all columns but the vector may decode to, per row on average
FOOTER_BYTES = 16 << 20
CODECS = {"UNCOMPRESSED", "SNAPPY", "ZSTD"}

BBOX = pa.struct([pa.field(name, pa.float64(), nullable=False) for name in ("xmin", "ymin", "xmax", "ymax")])
WINDOW = pa.struct([pa.field(name, pa.int32(), nullable=False) for name in ("x", "y", "width", "height")])
TIME = pa.timestamp("us", tz="UTC")

_ARROW_DTYPES = {"float16": pa.float16(), "float32": pa.float32()}


def shard_schema(dtype: str, dimension: int) -> pa.Schema:
    """The columns of a shard, in order. dtype: float16 or float32; geometry is WKB in OGC:CRS84."""
    value = pa.field("element", _ARROW_DTYPES[dtype], nullable=False)
    columns = [
        ("id", pa.string()),
        ("geometry", pa.binary()),
        ("start_datetime", TIME),
        ("end_datetime", TIME),
        ("bbox", BBOX),
        ("grid_cell", pa.string()),
        ("source", pa.string()),
        ("window", WINDOW),
        ("input_digest", pa.binary(32)),
        ("embedding", pa.list_(value, dimension)),
    ]
    return pa.schema([pa.field(name, kind, nullable=name == "grid_cell") for name, kind in columns])


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Rows `first` … of a shard. vectors: (N, D) in the shard's dtype; times: int64 µs since 1970 UTC."""

    first: int
    dtype: str
    table: pa.Table
    vectors: NDArray[np.floating]

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def rows(self) -> Iterator[Row]:
        """Each row as what its leaf signs."""
        columns = [
            self.table["id"].to_pylist(),
            self.table["geometry"].to_pylist(),
            self.table["start_datetime"].cast(pa.int64()).to_pylist(),
            self.table["end_datetime"].cast(pa.int64()).to_pylist(),
            self.table["input_digest"].to_pylist(),
        ]
        little_endian = self.vectors.astype(self.vectors.dtype.newbyteorder("<"), copy=False)
        for (row_id, wkb, start, end, digest), vector in zip(
            zip(*columns, strict=True), little_endian, strict=True
        ):
            yield Row(row_id, wkb, start, end, digest, self.dtype, vector.tobytes())

    def leaf_hashes(self) -> bytes:
        """The leaf hashes of these rows, 32 bytes each, in order."""
        return b"".join(leaf_hash(encode_row(row)) for row in self.rows())


@dataclass(frozen=True, slots=True)
class Shard:
    """An open shard whose footer agrees with `signed`."""

    file: pq.ParquetFile
    signed: Rows

    @classmethod
    def open(cls, path: Path, signed: Rows) -> "Shard":
        """Open `path`; Malformed if its schema, row count or sizes are not what `signed` allows."""
        try:
            file = pq.ParquetFile(
                path,
                thrift_string_size_limit=FOOTER_BYTES,
                thrift_container_size_limit=1 << 20,
                memory_map=False,
            )
            schema = _storage(file.schema_arrow)
        except (pa.ArrowException, OSError) as error:
            raise Malformed(
                f"shard {path.name} is not a readable Parquet file: {_first_line(error)}"
            ) from None
        shard = cls(file, signed)
        shard._check_schema(schema)
        shard._check_sizes()
        return shard

    def batches(self) -> Iterator[RowBatch]:
        """All rows in order, one row group at a time."""
        first = 0
        for group in range(self.file.num_row_groups):
            try:
                table = self.file.read_row_group(group, use_threads=False)
                table = table.cast(shard_schema(self.signed.dtype, self.signed.dimension))
                vectors = self._vectors(table)
            except (pa.ArrowException, OSError, ValueError) as error:
                raise Malformed(f"shard: row group {group} cannot be decoded: {_first_line(error)}") from None
            check_vectors(vectors, f"rows {first} to {first + table.num_rows - 1}")
            yield RowBatch(first, self.signed.dtype, table, vectors)
            first += table.num_rows

    def _vectors(self, table: pa.Table) -> NDArray[np.floating]:
        column = table["embedding"].combine_chunks()
        values = column.flatten().to_numpy(zero_copy_only=False)
        return np.asarray(values.reshape(table.num_rows, self.signed.dimension))

    def _check_schema(self, schema: pa.Schema) -> None:
        expected = shard_schema(self.signed.dtype, self.signed.dimension)
        if schema.names != expected.names:
            raise Malformed(f"shard has the columns {schema.names}, expected {expected.names}")
        for field in expected:
            if schema.field(field.name).type != field.type:
                raise Malformed(
                    f"shard column {field.name} is {schema.field(field.name).type}, expected {field.type}"
                )

    def _check_sizes(self) -> None:
        metadata = self.file.metadata
        if metadata.num_rows != self.signed.count:
            raise Malformed(f"shard has {metadata.num_rows} rows, {self.signed.count} are signed")
        vector_bytes = self.signed.dimension * np.dtype(self.signed.dtype).itemsize
        for index in range(metadata.num_row_groups):
            group = metadata.row_group(index)
            if group.num_rows > ROW_GROUP_ROWS:
                raise Malformed(
                    f"shard row group {index} has {group.num_rows} rows, at most {ROW_GROUP_ROWS}"
                )
            limit = group.num_rows * (vector_bytes + OTHER_BYTES_PER_ROW) + (1 << 20)
            if group.total_byte_size > limit:
                raise Malformed(
                    f"shard row group {index} decodes to {group.total_byte_size} bytes, at most {limit}"
                )
            codecs = {group.column(column).compression for column in range(group.num_columns)}
            if not codecs <= CODECS:
                raise Malformed(
                    f"shard row group {index} is compressed with {', '.join(sorted(codecs - CODECS))}"
                )


def _storage(schema: pa.Schema) -> pa.Schema:
    """The schema without extension types, which another library may have registered in this process."""
    return pa.schema([
        field.with_type(field.type.storage_type) if isinstance(field.type, pa.BaseExtensionType) else field
        for field in schema
    ])  # fmt: skip


def _first_line(error: Any) -> str:
    return str(error).splitlines()[0][:200]
