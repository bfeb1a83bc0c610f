"""stride.py: vectors are read from where they lie only if Arrow would read the same ones from there."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from make_shard import make_rows, table_of
from numpy.typing import NDArray

from eocat.verify.errors import Malformed
from eocat.verify.layout import read_row_groups
from eocat.verify.shard import BATCH_ROWS, Shard
from eocat.verify.statement import Rows
from eocat.verify.stride import first_value

ROWS = 40
PLAIN: dict[str, Any] = {"compression": "none", "use_dictionary": False}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "embeddings.parquet"


def signed(dimension: int, dtype: str = "float16", count: int = ROWS) -> Rows:
    return Rows.model_validate({
        "count": count, "root": "00" * 32, "leaf": "eocat-row/v1", "dtype": dtype, "dimension": dimension,
        "crs": "OGC:CRS84", "inputDigests": True,
    })  # fmt: skip


def place(path: Path, dimension: int, dtype: str = "float16") -> int | None:
    """Where the vectors of the first row group are, if they lie there as they are."""
    with path.open("rb") as stream:
        group = read_row_groups(stream)[0]
        size = np.dtype(dtype).itemsize
        column = group.columns[-1]
        return first_value(stream, column, group.rows, dimension, size)


def vectors(path: Path, rows: Rows) -> NDArray[np.floating]:
    batches = list(Shard.open(path, rows).batches())
    assert [batch.first for batch in batches] == np.cumsum([0, *map(len, batches[:-1])]).tolist()
    return np.concatenate([batch.vectors for batch in batches])


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("dimension", [16, 20, 72, 512, 2048])
def test_a_plain_page_is_read_from_its_place(path: Path, dimension: int, dtype: str) -> None:
    rows = make_rows(ROWS, dimension=dimension, dtype=dtype)
    pq.write_table(table_of(rows), path, **PLAIN)
    start = place(path, dimension, dtype)
    assert start is not None
    expected = b"".join(row.vector for row in rows)
    assert path.read_bytes()[start : start + len(expected)] == expected
    assert vectors(path, signed(dimension, dtype)).tobytes() == expected


def test_a_row_group_comes_a_few_rows_at_a_time(path: Path) -> None:
    count = 2 * BATCH_ROWS + 3
    table = pa.concat_tables([table_of(make_rows(1, dimension=16))] * count).combine_chunks()
    pq.write_table(table, path, **PLAIN)
    lengths = [len(batch) for batch in Shard.open(path, signed(16, count=count)).batches()]
    assert lengths == [BATCH_ROWS, BATCH_ROWS, 3]


@pytest.mark.parametrize(
    ("dimension", "options"),
    [
        (4, {}), (8, {}),  # lists whose levels are packed in another way
        (16, {"compression": "zstd"}), (16, {"compression": "snappy"}), (16, {"use_dictionary": True}),
        (16, {"data_page_version": "2.0"}), (16, {"data_page_size": 64, "write_batch_size": 1}),
        (16, {"column_encoding": {"embedding.list.element": "BYTE_STREAM_SPLIT"}}),
    ],
    ids=str,
)  # fmt: skip
def test_any_other_page_is_left_to_arrow(path: Path, dimension: int, options: dict[str, Any]) -> None:
    rows = make_rows(ROWS, dimension=dimension)
    pq.write_table(table_of(rows), path, **(PLAIN | options))
    assert place(path, dimension) is None
    assert vectors(path, signed(dimension)).tobytes() == b"".join(row.vector for row in rows)


def test_attack_63_lists_that_begin_elsewhere(path: Path) -> None:
    """The values stand in their places, but levels say that the second list is longer than the others."""
    pq.write_table(table_of(make_rows(ROWS, dimension=16)), path, **PLAIN)
    levels, data = b"\x03\xfe\x10\x01" * ROWS, path.read_bytes()
    assert data.count(levels) == 1
    path.write_bytes(data.replace(levels, levels[:9] + b"\xff" + levels[10:]))
    assert place(path, 16) is None
    with pytest.raises(Malformed, match="^shard"):
        vectors(path, signed(16))


def test_attack_63_lists_that_are_all_empty(path: Path) -> None:
    """The same levels, in a column that may hold nulls, mean that there is no value at all."""
    table = table_of(make_rows(ROWS, dimension=16))
    column = table.schema.get_field_index("embedding")
    nullable = table.schema.field("embedding").with_nullable(True)
    pq.write_table(table.cast(table.schema.set(column, nullable)), path, **PLAIN)
    present, empty, data = b"\x80\x0a\x02", b"\x80\x0a\x01", path.read_bytes()  # 640 levels, each 2 or 1
    assert data.count(b"\x03\x00\x00\x00" + present) == 1
    path.write_bytes(data.replace(b"\x03\x00\x00\x00" + present, b"\x03\x00\x00\x00" + empty))
    assert place(path, 16) is not None, "so the schema must be looked at, too"
    with pytest.raises(Malformed, match="^shard"):
        vectors(path, signed(16))
