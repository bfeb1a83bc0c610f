"""Rows of a shard as PostgreSQL's binary COPY of `eocat.chip` (PostgreSQL manual, COPY, "Binary Format").

What is copied is hashed on the way, from the same values: `Copied.root` is the Merkle root over the rows
that went into the database, and the caller commits only if it is the signed one. Binary, because text
would round times and print floats; written here, because a general encoder is five times slower.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import psycopg
from psycopg.rows import TupleRow

from eocat.verify.errors import InputError
from eocat.verify.merkle import build_tiles, leaf_hash, tree_of
from eocat.verify.row import Row, encode_row
from eocat.verify.shard import RowBatch

COPY_CHIPS = (
    "COPY eocat.chip (collection, shard_id, row, id, geometry, start_time, end_time, grid_cell, source,"
    " pixel_window, input_digest, leaf_hash, {column}) FROM STDIN (FORMAT binary)"
)

_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_TRAILER = struct.pack(">h", -1)
_INT4 = 23  # oid of integer, named in the header of an array
_EPOCH_US = 946_684_800_000_000  # PostgreSQL counts from 2000-01-01, the leaf from 1970
_YEARS_US = (-62_135_596_800_000_000, 253_402_300_799_999_999)  # years 1 to 9999, all that RFC 3339 can print
_EWKB_SRID = 0x20000000


@dataclass(frozen=True, slots=True)
class Copied:
    """What went into the database: the number of rows and the root over their leaf hashes."""

    rows: int
    root: bytes


def copy_rows(
    connection: psycopg.Connection[TupleRow],
    column: str,
    collection: str,
    shard_id: int,
    batches: Iterable[RowBatch],
) -> Copied:
    """COPY all `batches` of one shard into `eocat.chip`; nothing is committed.

    column: `half` or `single`. Raises InputError for a row whose time has no date.
    """
    head = (collection.encode(), struct.pack(">q", shard_id))
    leaves: list[bytes] = []
    with connection.cursor() as cursor, cursor.copy(COPY_CHIPS.format(column=column).encode()) as copy:
        copy.write(_HEADER)
        for batch in batches:
            hashes, data = _format_batch(head, batch)
            copy.write(data)
            leaves += hashes
        copy.write(_TRAILER)
    return Copied(len(leaves), tree_of(build_tiles(b"".join(leaves)), len(leaves)).root())


def _format_batch(head: tuple[bytes, bytes], batch: RowBatch) -> tuple[list[bytes], bytes]:
    """The leaf hashes of a batch, and its tuples."""
    big_endian = batch.vectors.astype(batch.vectors.dtype.newbyteorder(">"))
    vector_head = struct.pack(">HH", big_endian.shape[1], 0)  # dimension, and a field pgvector keeps at 0
    others = (batch.table[name].to_pylist() for name in ("grid_cell", "source", "window"))
    hashes, tuples = [], []
    for index, (row, cell, source, window, vector) in enumerate(
        zip(batch.rows(), *others, big_endian, strict=True)
    ):
        hashes.append(leaf_hash(encode_row(row)))
        tuples.append(
            _format_tuple((
                *head,
                struct.pack(">i", batch.first + index),
                row.id.encode(),
                _format_ewkb(row.geometry),
                _format_time(row, row.start),
                _format_time(row, row.end),
                None if cell is None else cell.encode(),
                source.encode(),
                _format_integers((window["x"], window["y"], window["width"], window["height"])),
                row.input_digest,
                hashes[-1],
                vector_head + vector.tobytes(),
            ))
        )  # fmt: skip
    return hashes, b"".join(tuples)


def _format_tuple(fields: Sequence[bytes | None]) -> bytes:
    parts = [struct.pack(">h", len(fields))]
    for field in fields:
        parts.append(struct.pack(">i", -1 if field is None else len(field)))
        if field is not None:
            parts.append(field)
    return b"".join(parts)


def _format_ewkb(wkb: bytes) -> bytes:
    """The leaf's WKB with PostGIS's SRID field set: the coordinates' bytes stay as they are."""
    (kind,) = struct.unpack_from("<I", wkb, 1)
    return struct.pack("<BII", 1, kind | _EWKB_SRID, 4326) + wkb[5:]


def _format_time(row: Row, since_1970_us: int) -> bytes:
    if not _YEARS_US[0] <= since_1970_us <= _YEARS_US[1]:
        raise InputError(f"row {row.id}: time {since_1970_us} µs is outside the years 1 to 9999")
    return struct.pack(">q", since_1970_us - _EPOCH_US)


def _format_integers(values: Sequence[int]) -> bytes:
    head = struct.pack(
        ">iiIii", 1, 0, _INT4, len(values), 1
    )  # dimensions, nulls, element, length, lower bound
    return head + b"".join(struct.pack(">ii", 4, value) for value in values)
