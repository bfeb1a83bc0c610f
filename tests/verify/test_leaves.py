"""Leaves of whole columns are those of single rows, and a row is refused by both ways or by neither."""

import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_shard import leaves_of, make_rows

from eocat.verify.errors import Malformed
from eocat.verify.geometry import format_wkb
from eocat.verify.leaves import unusual_rows
from eocat.verify.merkle import leaf_hash
from eocat.verify.row import Row, encode_row
from eocat.verify.shard import RowBatch, shard_schema

SQUARE = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]
POLYGON = format_wkb({"type": "Polygon", "coordinates": [SQUARE]})
TRIANGLE = format_wkb({"type": "Polygon", "coordinates": [SQUARE[:3] + SQUARE[:1]]})
TWO = format_wkb({"type": "MultiPolygon", "coordinates": [[SQUARE], [SQUARE]]})


def batch_of(rows: list[dict[str, Any]], *, dtype: str = "float16", dimension: int = 4) -> RowBatch:
    """A batch of rows that nothing has judged yet."""
    schema = shard_schema(dtype, dimension)
    vectors = np.array([row["vector"] for row in rows], dtype)
    place = {"xmin": 0.0, "ymin": 0.0, "xmax": 1.0, "ymax": 1.0}
    columns = [
        pa.array([row["id"] for row in rows], pa.string()),
        pa.array([row["geometry"] for row in rows], pa.binary()),
        pa.array([row["start"] for row in rows], pa.int64()).cast(schema.field("start_datetime").type),
        pa.array([row["end"] for row in rows], pa.int64()).cast(schema.field("end_datetime").type),
        pa.array([place] * len(rows), schema.field("bbox").type),
        pa.nulls(len(rows), pa.string()),
        pa.array(["scene"] * len(rows)),
        pa.array([{"x": 0, "y": 0, "width": 1, "height": 1}] * len(rows), schema.field("window").type),
        pa.array([row["digest"] for row in rows], pa.binary(32)),
        pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=schema.field("embedding").type),
    ]  # fmt: skip
    return RowBatch(0, dtype, pa.Table.from_arrays(columns, schema=schema), vectors)


def row(**members: Any) -> dict[str, Any]:
    usual = {
        "id": "a",
        "geometry": POLYGON,
        "start": 1,
        "end": 2,
        "digest": bytes(32),
        "vector": [1, 2, 3, 4],
    }
    return usual | members


def bent(offset: int, value: bytes) -> bytes:
    return POLYGON[:offset] + value + POLYGON[offset + len(value) :]


REFUSED = {
    "empty id": row(id=""),
    "NUL in the id": row(id="a\0"),
    "long id": row(id="a" * 65_536),
    "id that is not NFC": row(id="e\u0301"),
    "ends before it starts": row(start=3),
    "big-endian": row(geometry=bent(0, b"\0")),
    "another type": row(geometry=bent(1, b"\2")),
    "open ring": row(geometry=bent(len(POLYGON) - 8, struct.pack("<d", 0.5))),
    "infinite": row(geometry=bent(13, struct.pack("<d", np.inf))),
    "not a number": row(geometry=bent(13 + 16, struct.pack("<d", np.nan))),
    "negative zero": row(geometry=bent(13 + 16 + 8, struct.pack("<d", -0.0))),
    "bytes left over": row(geometry=TRIANGLE + bytes(16)),
    "no geometry": row(geometry=b""),
    "infinite vector": row(vector=[1, 2, 3, np.inf]),
    "vector of NaN": row(vector=[1, 2, np.nan, 4]),
}
ACCEPTED = {
    "usual": row(),
    "id in another script": row(id="Wälder/森"),
    "longest id": row(id="a" * 65_535),
    "triangle": row(geometry=TRIANGLE),
    "two polygons": row(geometry=TWO),
    "before 1970": row(start=-5, end=-5),
    "negative zero and subnormals in the vector": row(vector=[-0.0, 6e-8, 1, 2]),
}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("name", REFUSED)
def test_a_row_that_is_no_row_is_refused_among_usual_ones(name: str, dtype: str) -> None:
    with pytest.raises(Malformed):
        batch_of([row(), REFUSED[name], row()], dtype=dtype).leaf_hashes()
    with pytest.raises(Malformed):
        list(batch_of([REFUSED[name]], dtype=dtype).rows())


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_leaves_of_columns_are_those_of_rows(dtype: str) -> None:
    batch = batch_of([*ACCEPTED.values()], dtype=dtype)
    assert batch.leaf_hashes() == b"".join(leaf_hash(encode_row(one)) for one in batch.rows())


def test_usual_rows_are_judged_without_an_object_for_each() -> None:
    """Else a shard of ordinary chips would take eight times as long."""
    rows = [row(id=f"{number}") for number in range(50)] + [ACCEPTED["triangle"]]
    assert unusual_rows(batch_of(rows).table).tolist() == [50]


def test_a_batch_that_is_a_slice_of_a_table() -> None:
    """Arrow's slices keep the whole buffers: the leaves are still those of their own rows."""
    batch = batch_of([row(id=f"{number}", digest=bytes([number] * 32)) for number in range(10)])
    part = batch.slice(3, 4)
    assert part.leaf_hashes() == batch.leaf_hashes()[3 * 32 : 7 * 32]


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"]), min_size=0, max_size=5),
            st.sampled_from([POLYGON, TRIANGLE, TWO, bent(13, struct.pack("<d", -0.0)), b"x"]),
            st.integers(-5, 5),
            st.integers(-5, 5),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_both_ways_agree(drawn: list[tuple[str, bytes, int, int]]) -> None:
    batch = batch_of([row(id=i, geometry=g, start=s, end=e) for i, g, s, e in drawn])
    try:
        expected: list[Row] | None = list(batch.rows())
    except Malformed:
        expected = None
    if expected is None:
        with pytest.raises(Malformed):
            batch.leaf_hashes()
    else:
        assert batch.leaf_hashes() == leaves_of(expected)


def test_leaves_of_the_makers_rows() -> None:
    rows = make_rows(20)
    drawn = [
        row(id=one.id, geometry=one.geometry, start=one.start, end=one.end, digest=one.input_digest,
            vector=one.values()) for one in rows
    ]  # fmt: skip
    assert batch_of(drawn).leaf_hashes() == leaves_of(rows)
