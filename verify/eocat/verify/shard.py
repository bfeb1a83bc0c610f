"""The shard: a GeoParquet file of rows, read within limits that its signed statement sets.

Format: docs/format.md, section 5. Parquet lies about size: 507 bytes were seen to decode to 2 GB. So the
footer is held against the signed row count and dimension when a shard is opened, a row group's page headers
before it is decoded (layout.py), and the dictionaries of its text columns before they are spread out.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .errors import Malformed
from .layout import FOOTER_BYTES, RowGroup, check_pages, read_row_groups
from .leaves import hash_leaves, numbers, unusual_rows
from .row import Row, check_vectors
from .statement import Rows
from .stride import first_value

ROW_GROUP_ROWS = 16_384
OTHER_BYTES_PER_ROW = 4096  # what all columns but the vector may decode to, per row on average
ROW_GROUP_BYTES = 56 << 20  # what a row group may decode to: reading it then takes less than 512 MiB
TEXT_COLUMNS = ["id", "geometry", "grid_cell", "source"]  # of any length, so a dictionary can hide their size

BATCH_ROWS = 2048  # at a time: their leaves stay in the processor's cache

LEAF_COLUMNS = ["id", "geometry", "start_datetime", "end_datetime", "input_digest", "embedding"]

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


_OTHER_COLUMNS = shard_schema("float16", 1).names[:-1]


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Rows `first` … of a shard. vectors: (N, D) in the shard's dtype; table: the other columns."""

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

    def slice(self, first: int, count: int) -> "RowBatch":
        """The rows from the `first` of these, at most `count`."""
        table, vectors = self.table.slice(first, count), self.vectors[first : first + count]
        return RowBatch(self.first + first, self.dtype, table, vectors)

    def leaf_hashes(self) -> bytes:
        """The leaf hashes of these rows, 32 bytes each, in order; Malformed if one of them is no `Row`."""
        hashes = []
        for first in range(0, len(self), BATCH_ROWS):
            part = self.slice(first, BATCH_ROWS)
            check_vectors(part.vectors, f"rows {part.first} to {part.first + len(part) - 1}")
            unusual = unusual_rows(part.table)
            if unusual.size:  # made, and so judged
                list(RowBatch(0, self.dtype, part.table.take(unusual), part.vectors[unusual]).rows())
            hashes.append(hash_leaves(part.table, part.vectors))
        return b"".join(hashes)


@dataclass(frozen=True, slots=True)
class Shard:
    """An open shard whose footer agrees with `signed`."""

    source: pa.NativeFile
    groups: tuple[RowGroup, ...]
    file: pq.ParquetFile
    signed: Rows

    @classmethod
    def open(cls, path: Path, signed: Rows) -> "Shard":
        """Open `path`; Malformed if its schema, row count or sizes are not what `signed` allows."""
        try:
            source = pa.OSFile(str(path))  # opened once, for layout.py and for Arrow
        except OSError as error:
            raise Malformed(
                f"shard {path.name} is not a readable Parquet file: {_first_line(error)}"
            ) from None
        return cls.read(source, path.name, signed)

    @classmethod
    def read(cls, source: pa.NativeFile, name: str, signed: Rows) -> "Shard":
        """The shard in an open file, as `open`; name: for its errors."""
        try:
            groups = read_row_groups(source)
            _check_sizes(groups, signed)
            file = pq.ParquetFile(
                source,
                pre_buffer=False,  # it would hold a row group twice
                read_dictionary=TEXT_COLUMNS,
                thrift_string_size_limit=FOOTER_BYTES,
                thrift_container_size_limit=1 << 16,
            )
            _check_schema(_storage(file.schema_arrow), signed)
        except KeyError:  # of `read_dictionary`
            raise Malformed(f"shard {name} lacks one of the columns {', '.join(TEXT_COLUMNS)}") from None
        except (pa.ArrowException, OSError, ValueError) as error:
            raise Malformed(f"shard {name} is not a readable Parquet file: {_first_line(error)}") from None
        return cls(source, groups, file, signed)

    def row(self, number: int, *, by_stride: bool) -> Row:
        """Row `number` of the shard, from the columns of its row group that its leaf covers.

        by_stride: the vector is read from where a plain, uncompressed page has it (docs/format.md, section
        5). Whether it is one, nobody has looked: the caller checks the row against its proof.
        """
        index, first = self._place(number)
        group = self.groups[index]
        names = [name for name in LEAF_COLUMNS if not by_stride or name != "embedding"]
        try:
            self._check_pages(group, names)
            table = self._decoded(self.file.read_row_group(index, columns=names, use_threads=False))
            vectors = self._stride(group, number - first) if by_stride else self._vectors(table)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise Malformed(f"shard: row group {index} cannot be decoded: {_first_line(error)}") from None
        one = vectors if by_stride else vectors[number - first : number - first + 1]
        return next(RowBatch(number, self.signed.dtype, table.slice(number - first, 1), one).rows())

    def _place(self, number: int) -> tuple[int, int]:
        """(row group, its first row) of row `number`."""
        first = 0
        for index, group in enumerate(self.groups):
            if first <= number < first + group.rows:
                return index, first
            first += group.rows
        raise Malformed(f"shard has no row {number}")

    def _stride(self, group: RowGroup, index: int) -> NDArray[np.floating]:
        """What stands where a column in one plain page has the vector of row `index` of its group; (1, D)."""
        column, size = group.columns[-1], _vector_bytes(self.signed)
        self.source.seek(column.start + column.stored_bytes - (group.rows - index) * size)
        data = self.source.read(size)
        if len(data) != size:
            raise Malformed(f"shard ends before the vector of row {index}")
        return np.frombuffer(data, np.dtype(self.signed.dtype).newbyteorder("<"))[None, :]

    def batches(self) -> Iterator[RowBatch]:
        """All rows in order, a few at a time: at most BATCH_ROWS, where their vectors can be read so."""
        first = 0
        for index, group in enumerate(self.groups):
            try:
                self._check_pages(group)
                start = self._first_value(group)
                names = _OTHER_COLUMNS if start is not None else None
                table = self._decoded(self.file.read_row_group(index, columns=names, use_threads=False))
                if start is None:
                    vectors = self._vectors(table)
                    yield RowBatch(first, self.signed.dtype, table.drop_columns("embedding"), vectors)
                else:
                    yield from self._by_stride(first, table, start)
            except (pa.ArrowException, OSError, ValueError) as error:
                raise Malformed(f"shard: row group {index} cannot be decoded: {_first_line(error)}") from None
            first += group.rows
            del table  # or two row groups would be held at once

    def _first_value(self, group: RowGroup) -> int | None:
        """Offset of the group's vectors in the file, if they lie there as they are."""
        kind, size = self.file.schema.column(len(group.columns) - 1), np.dtype(self.signed.dtype).itemsize
        if (kind.max_definition_level, kind.max_repetition_level) != (1, 1):
            return None
        return first_value(self.source, group.columns[-1], group.rows, self.signed.dimension, size)

    def _by_stride(self, first: int, table: pa.Table, start: int) -> Iterator[RowBatch]:
        """The rows of `table`, a row group's other columns, each few with their vectors."""
        dtype = self.signed.dtype
        for low in range(0, table.num_rows, BATCH_ROWS):
            part = table.slice(low, BATCH_ROWS)
            vectors = np.empty((part.num_rows, self.signed.dimension), np.dtype(dtype).newbyteorder("<"))
            self.source.seek(start + low * _vector_bytes(self.signed))
            if self.source.readinto(vectors) != vectors.nbytes:
                raise Malformed("shard ends before its last vector")
            yield RowBatch(first + low, dtype, part, vectors)

    def _decoded(self, table: pa.Table) -> pa.Table:
        """The row group in the shard's schema, if its text columns are not longer than they may be."""
        limit = table.num_rows * OTHER_BYTES_PER_ROW
        for name in [name for name in TEXT_COLUMNS if name in table.column_names]:
            index = table.schema.get_field_index(name)
            column = table.column(index).combine_chunks()
            limit -= pc.sum(pc.binary_length(column.dictionary).take(column.indices)).as_py() or 0
            if limit < 0:
                raise Malformed(
                    f"shard column {name} decodes to more than {OTHER_BYTES_PER_ROW} bytes per row"
                )
            table = table.set_column(index, name, column.dictionary_decode())
        schema = shard_schema(self.signed.dtype, self.signed.dimension)
        table = table.cast(pa.schema([schema.field(name) for name in table.column_names]))
        table.validate(full=True)  # text is UTF-8, offsets ascend
        return table

    def _vectors(self, table: pa.Table) -> NDArray[np.floating]:
        chunks = table["embedding"]
        column = chunks.chunk(0) if chunks.num_chunks == 1 else chunks.combine_chunks()  # the latter copies
        values = column.flatten()
        if len(values) != table.num_rows * self.signed.dimension:  # the values of a null are left out
            raise Malformed("shard column embedding holds a null")
        found: NDArray[np.floating] = numbers(values, self.signed.dtype)
        return found.reshape(table.num_rows, self.signed.dimension)

    def _check_pages(self, group: RowGroup, names: Collection[str] | None = None) -> None:
        """Hold page headers of a row group (of all columns, or these) against its limit, before decoding."""
        limit = _limit_bytes(group.rows, self.signed)
        for column in group.columns:
            if names is not None and column.name.partition(".")[0] not in names:
                continue
            per_row = self.signed.dimension if column is group.columns[-1] else 1
            limit -= check_pages(self.source, column, values=group.rows * per_row, limit_bytes=limit)


def _check_schema(schema: pa.Schema, signed: Rows) -> None:
    expected = shard_schema(signed.dtype, signed.dimension)
    if schema.names != expected.names:
        raise Malformed(f"shard has the columns {schema.names}, expected {expected.names}")
    for field in expected:
        if schema.field(field.name).type != field.type:
            raise Malformed(
                f"shard column {field.name} is {schema.field(field.name).type}, expected {field.type}"
            )


def _check_sizes(groups: tuple[RowGroup, ...], signed: Rows) -> None:
    if (count := sum(group.rows for group in groups)) != signed.count:
        raise Malformed(f"shard has {count} rows, {signed.count} are signed")
    for index, group in enumerate(groups):
        if not 1 <= group.rows <= ROW_GROUP_ROWS:
            raise Malformed(f"shard row group {index} has {group.rows} rows, expected 1 to {ROW_GROUP_ROWS}")
        limit, decoded = _limit_bytes(group.rows, signed), group.decoded_bytes
        least = group.rows * _vector_bytes(signed)  # runs of equal values take no room in the file
        if decoded < 0 or max(decoded, least) > limit:
            raise Malformed(
                f"shard row group {index} decodes to {max(decoded, least)} bytes, at most {limit}"
            )


def _limit_bytes(rows: int, signed: Rows) -> int:
    """What a row group of `rows` rows may decode to."""
    return min(rows * (_vector_bytes(signed) + OTHER_BYTES_PER_ROW) + (1 << 20), ROW_GROUP_BYTES)


def rows_per_group(dtype: str, dimension: int) -> int:
    """Rows that a writer puts into a group: as many as fit with 48 MiB of vectors, at most ROW_GROUP_ROWS."""
    return max(1, min(ROW_GROUP_ROWS, (48 << 20) // (dimension * np.dtype(dtype).itemsize)))


def _vector_bytes(signed: Rows) -> int:
    return signed.dimension * np.dtype(signed.dtype).itemsize


def _storage(schema: pa.Schema) -> pa.Schema:
    """The schema without dictionaries and extension types (another library may have registered some)."""
    return pa.schema([field.with_type(_storage_type(field.type)) for field in schema])


def _storage_type(kind: pa.DataType) -> pa.DataType:
    if isinstance(kind, pa.BaseExtensionType):
        return _storage_type(kind.storage_type)
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _first_line(error: Any) -> str:
    return str(error).splitlines()[0][:200]
