"""Rows of a shard as PostgreSQL's binary COPY of `eocat.chip` (PostgreSQL manual, COPY, "Binary Format").

What is copied is hashed on the way, from the same values, and the caller commits only if the leaf hashes of
the rows that went into the database are those under the signed root. Binary, because text
would round times and print floats. Whole columns are joined at once, the columns of fixed width as one, and
the next blocks are made while the server takes one: PostgreSQL is what a load waits for.
"""

import struct
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from psycopg import sql
from psycopg.rows import TupleRow

from eocat.verify.errors import InputError
from eocat.verify.geometry import MAX_WKB_BYTES
from eocat.verify.leaves import fixed, input_digests, join_columns, numbers, times
from eocat.verify.merkle import HASH_BYTES
from eocat.verify.shard import BATCH_ROWS, RowBatch

from .partitions import Partition
from .projection import Projection

AHEAD = 4  # blocks that are made or being made while one is sent
TURN_S = 0.0002

_FIXED = ("shard_id", "row", "start_time", "end_time", "input_digest")
_VARIABLE = ("id", "geometry", "grid_cell", "source")
_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_TRAILER = struct.pack(">h", -1)
_EPOCH_US = 946_684_800_000_000  # PostgreSQL counts from 2000-01-01, the leaf from 1970
_YEARS_US = (-62_135_596_800_000_000, 253_402_300_799_999_999)  # years 1 to 9999, all that RFC 3339 can print
_EWKB_SRID = 0x20000000


def copy_rows(
    connection: psycopg.Connection[TupleRow],
    partition: Partition,
    shard_id: int,
    batches: Iterable[RowBatch],
    projection: Projection | None = None,
) -> bytes:
    """COPY all `batches` of one shard into the collection's partition; nothing is committed.

    projection: gives the rows their codes. Returns the leaf hashes of what was copied, 32 bytes a row.
    Raises InputError for a row whose time has no date, and what reading the batches raises.
    """
    leaves: list[bytes] = []
    statement = copy_statement(partition, projection)
    with _short_turns(), connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(_HEADER)
        for hashes, data in _ahead(_blocks(partition, shard_id, batches, projection)):
            copy.write(data)
            leaves.append(hashes)
        copy.write(_TRAILER)
    return b"".join(leaves)


def copy_statement(partition: Partition, projection: Projection | None = None) -> sql.Composed:
    """COPY into the partition itself: PostgreSQL need not look where each row belongs."""
    names = ["collection", *_FIXED, partition.column, *([] if projection is None else ["code"]), *_VARIABLE]
    columns = map(sql.Identifier, names)
    return sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
        partition.table, sql.SQL(", ").join(columns)
    )


@contextmanager
def _short_turns() -> Iterator[None]:
    """The threads of this process take short turns: else the sender waits while a thousand rows are hashed.

    The server empties the socket's buffer in less than Python's 5 ms, and would then do nothing. Of two
    copies at once the one that ends last may leave the shorter turns behind, which harms nothing.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(TURN_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _ahead(blocks: Iterator[tuple[bytes, Any]]) -> Iterator[tuple[bytes, Any]]:
    """The same blocks; the next ones are made in another thread while the caller sends this one.

    A first block that is not full is mostly the only one, and not worth a thread.
    """
    for hashes, data in blocks:
        yield hashes, data
        if len(hashes) == BATCH_ROWS * HASH_BYTES:
            break
    else:
        return
    with ThreadPoolExecutor(1) as maker:
        following = deque(maker.submit(next, blocks, None) for _ in range(AHEAD))
        while (block := following.popleft().result()) is not None:
            following.append(maker.submit(next, blocks, None))
            yield block


def _blocks(
    partition: Partition, shard_id: int, batches: Iterable[RowBatch], projection: Projection | None = None
) -> Iterator[tuple[bytes, Any]]:
    """(leaf hashes, tuples) of a few rows at a time."""
    for batch in batches:
        for first in range(0, len(batch), BATCH_ROWS):
            block = batch.slice(first, BATCH_ROWS)
            yield block.leaf_hashes(), _format_tuples(partition, shard_id, block, projection)


def _format_tuples(
    partition: Partition, shard_id: int, block: RowBatch, projection: Projection | None
) -> Any:
    """The rows as COPY's tuples, one after the other: a buffer."""
    name = partition.collection.encode()
    vectors = [block.vectors] if projection is None else [block.vectors, projection.encode(block.vectors)]
    columns = 1 + len(_FIXED) + len(vectors) + len(_VARIABLE)
    head = struct.pack(">hi", columns, len(name)) + name
    tuples = join_columns(
        pa.scalar(head, pa.binary()),
        fixed(_fixed_fields(shard_id, block)),
        *(fixed(_vector_field(values)) for values in vectors),
        *_field(block.table["id"].cast(pa.binary())),
        *_field(_format_ewkb(block.table["geometry"])),
        *_field(block.table["grid_cell"].cast(pa.binary())),
        *_field(block.table["source"].cast(pa.binary())),
    )
    return tuples.buffers()[2]


def _fixed_fields(shard_id: int, block: RowBatch) -> NDArray[Any]:
    """The columns of fixed width, each with its length before it, big-endian."""
    layout: list[tuple[str, Any]] = [
        ("shard_id", ">i8"), ("row", ">i4"), ("start_time", ">i8"), ("end_time", ">i8"),
        ("input_digest", "V32"),
    ]  # fmt: skip
    widths = [(name, np.dtype(kind)) for name, kind in layout]
    fields = np.zeros(
        len(block), [part for name, kind in widths for part in ((f"{name} bytes", ">i4"), (name, kind))]
    )
    for name, kind in widths:
        fields[f"{name} bytes"] = kind.itemsize
    fields["shard_id"], fields["row"] = shard_id, np.arange(block.first, block.first + len(block))
    fields["start_time"], fields["end_time"] = (moment - _EPOCH_US for moment in _dated(block))
    fields["input_digest"] = input_digests(block.table)
    return fields


def _vector_field(vectors: NDArray[np.floating]) -> NDArray[Any]:
    """Vectors as pgvector receives them, each with its length before it."""
    count, dimension = vectors.shape
    values = np.dtype(f"V{dimension * vectors.itemsize}")  # bytes: numpy would convert value by value
    fields = np.empty(count, [("bytes", ">i4"), ("dimension", ">u2"), ("unused", ">u2"), ("values", values)])
    fields["bytes"], fields["dimension"], fields["unused"] = fields.dtype.itemsize - 4, dimension, 0
    big_endian = vectors.astype(vectors.dtype.newbyteorder(">"), order="C")
    fields["values"] = big_endian.view(values)[:, 0]
    return fields


def _field(column: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """A field's length, −1 for null, and its bytes."""
    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    lengths = numbers(pc.fill_null(pc.binary_length(values), -1), "<i4").astype(">i4")
    return fixed(lengths), pc.fill_null(values, b"")


def _format_ewkb(wkb: pa.ChunkedArray) -> pa.Array:
    """The leaf's WKB with PostGIS's SRID field set: the coordinates' bytes stay as they are."""
    kinds = np.frombuffer(b"".join(pc.binary_slice(wkb, 1, 5).to_pylist()), "<u4")
    head = np.zeros(len(kinds), np.dtype([("order", "u1"), ("kind", "<u4"), ("srid", "<u4")]))
    head["order"], head["kind"], head["srid"] = 1, kinds | _EWKB_SRID, 4326
    return join_columns(fixed(head), pc.binary_slice(wkb, 5, MAX_WKB_BYTES).combine_chunks())


def _dated(block: RowBatch) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Start and end of the rows, each with a date that can be printed."""
    found = times(block.table)
    for moments in found:
        outside = np.flatnonzero((moments < _YEARS_US[0]) | (moments > _YEARS_US[1]))
        if outside.size:
            index = int(outside[0])
            name = block.table["id"][index].as_py()
            raise InputError(f"row {name}: time {moments[index]} µs is outside the years 1 to 9999")
    return found
