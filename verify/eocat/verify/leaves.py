"""The leaves of many rows at once: what row.encode_row gives for each, without an object for each.

A row whose id is ASCII and whose footprint is one ring of five points is judged here, on whole columns; any
other is judged as a `Row`, one by one. Both ways accept and refuse the same rows.
"""

import hashlib
import struct
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from .errors import Malformed
from .row import DTYPES, LEAF_FORMAT

_RING_OF_FIVE = np.frombuffer(struct.pack("<BIII", 1, 3, 1, 5), np.uint8)  # of a WKB Polygon
_RING_BYTES = _RING_OF_FIVE.size + 5 * 16
_EXPONENT = np.uint64(0x7FF0 << 48)  # all its bits are set in NaN and infinity alone
_NEGATIVE_ZERO = np.uint64(1 << 63)
_BEFORE_VECTOR = [("start", "<i8"), ("end", "<i8"), ("digest", "V32"), ("dtype", "u1"), ("dimension", "<u4")]


def unusual_rows(table: pa.Table) -> NDArray[np.intp]:
    """Indices of the rows that only `Row` can judge: all others are valid, but for their vectors."""
    ids, geometries = _flat(table["id"]), _flat(table["geometry"])
    plain = _mask(pc.and_(pc.string_is_ascii(ids), pc.greater(pc.binary_length(ids), 0)))
    plain &= _mask(pc.less(pc.binary_length(ids), 1 << 16)) & ~_mask(pc.match_substring(ids, "\x00"))
    start, end = times(table)
    plain &= start <= end
    rings = _mask(pc.equal(pc.binary_length(geometries), _RING_BYTES))
    right = np.zeros(len(plain), bool)
    wkb = geometries.filter(pa.array(rings)).cast(pa.binary(_RING_BYTES))
    right[rings] = _are_rings(np.frombuffer(wkb.buffers()[1], np.uint8).reshape(-1, _RING_BYTES))
    return np.flatnonzero(~(plain & right))


def hash_leaves(table: pa.Table, vectors: NDArray[np.floating]) -> bytes:
    """The leaf hashes of valid rows, 32 bytes each, in order. vectors: (N, D), of the table's rows."""
    count, dimension = vectors.shape
    ids, geometries = _flat(table["id"]).cast(pa.binary()), _flat(table["geometry"])
    whole = np.dtype(f"V{dimension * vectors.itemsize}")  # bytes: numpy would copy value by value
    tail = np.empty(count, [*_BEFORE_VECTOR, ("vector", whole)])
    tail["start"], tail["end"] = times(table)
    tail["digest"] = input_digests(table)
    tail["dtype"], tail["dimension"] = DTYPES[vectors.dtype.name], dimension
    little_endian = np.ascontiguousarray(vectors, vectors.dtype.newbyteorder("<"))
    tail["vector"] = little_endian.view(whole)[:, 0]
    prefix = pa.scalar(b"\x00" + LEAF_FORMAT.encode() + b"\n", pa.binary())
    lengths = [numbers(pc.binary_length(column), "<i4") for column in (ids, geometries)]
    leaves = join_columns(
        prefix, fixed(lengths[0].astype("<u2")), ids, fixed(lengths[1].astype("<u4")), geometries, fixed(tail)
    )
    data = memoryview(leaves.buffers()[2])
    ends = np.frombuffer(leaves.buffers()[1], np.int32)[: count + 1].tolist()
    sha256 = hashlib.sha256
    return b"".join([sha256(data[low:high]).digest() for low, high in pairwise(ends)])


def times(table: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Start and end of the rows, µs since 1970 UTC."""
    start, end = (_flat(table[name]).view(pa.int64()) for name in ("start_datetime", "end_datetime"))
    return numbers(start, "<i8"), numbers(end, "<i8")


def input_digests(table: pa.Table) -> NDArray[np.void]:
    """The input digests of the rows, 32 bytes each."""
    column = _flat(table["input_digest"])
    return np.frombuffer(column.buffers()[1], "V32")[column.offset : column.offset + len(column)]


def fixed(values: NDArray[Any]) -> pa.Array:
    """The bytes of each value of a one-dimensional array, as a column of binary."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(values))]
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(values.dtype.itemsize), len(values), buffers).cast(
        pa.binary()
    )


def join_columns(*columns: Any) -> pa.Array:
    """Row by row the bytes of the columns, one after the other; none of them is null."""
    return pc.binary_join_element_wise(*columns, pa.scalar(b"", pa.binary()))


def _are_rings(wkb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which of these are polygons of one closed ring of finite numbers without a negative zero."""
    points = np.ascontiguousarray(wkb[:, _RING_OF_FIVE.size :]).view("<u8")
    return np.asarray(
        (wkb[:, : _RING_OF_FIVE.size] == _RING_OF_FIVE).all(axis=1)
        & ((points & _EXPONENT != _EXPONENT) & (points != _NEGATIVE_ZERO)).all(axis=1)
        & (points[:, :2] == points[:, -2:]).all(axis=1)
    )


def _flat(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _mask(column: pa.Array) -> NDArray[np.bool_]:
    return numbers(column.fill_null(False).cast(pa.uint8()), "?").copy()


def numbers(array: pa.Array, dtype: str) -> NDArray[Any]:
    """The values of an array of numbers; Malformed for a null. (Arrow's `to_numpy` imports pandas first.)"""
    if array.null_count:
        raise Malformed("shard holds a null where a number belongs")
    kind = np.dtype(dtype)
    return np.frombuffer(array.buffers()[1], kind, len(array), array.offset * kind.itemsize)
