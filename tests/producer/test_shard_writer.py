"""Shards of several row groups and of wide vectors: written so that the verifier's limits let them in."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from eocat.producer.chips import Chip
from eocat.producer.shard_writer import ChipRows, bounds, write_shard
from eocat.verify.shard import Shard, rows_per_group
from eocat.verify.statement import Rows


def chips(count: int) -> list[Chip]:
    ring = [[10.0, 45.0], [10.1, 45.0], [10.1, 45.1], [10.0, 45.1], [10.0, 45.0]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return [Chip(f"scene/{i}", i, 0, 1, geometry, (10.05, 45.05), None) for i in range(count)]


@pytest.mark.parametrize(
    ("count", "dimension", "dtype"), [(16_385, 8, "float16"), (3_000, 4096, "float32"), (1, 2048, "float16")]
)
def test_every_vector_is_read_back_from_its_stride(
    tmp_path: Path, count: int, dimension: int, dtype: str
) -> None:
    vectors = np.random.default_rng(1).normal(size=(count, dimension)).astype(dtype)
    rows = ChipRows(chips(count), "scene", 0, 1, [bytes(32)] * count, vectors)
    root = write_shard(rows, tmp_path / "s.parquet", tmp_path / "s.bin", about={})
    metadata, data = pq.read_metadata(tmp_path / "s.parquet"), (tmp_path / "s.parquet").read_bytes()
    first, row_bytes = 0, dimension * np.dtype(dtype).itemsize
    for group in range(metadata.num_row_groups):
        held = metadata.row_group(group).num_rows
        assert held <= rows_per_group(dtype, dimension)
        column = metadata.row_group(group).column(metadata.num_columns - 1)
        start = column.data_page_offset + column.total_compressed_size - held * row_bytes
        assert data[start : start + held * row_bytes] == vectors[first : first + held].tobytes()
        first += held
    assert first == count
    claim = Rows(
        count=count, root=root, leaf="eocat-row/v1", dtype=dtype, dimension=dimension, crs="OGC:CRS84",
        inputDigests=False,
    )  # fmt: skip
    batches = list(Shard.open(tmp_path / "s.parquet", claim).batches())
    assert sum(len(batch) for batch in batches) == count
    np.testing.assert_array_equal(np.concatenate([batch.vectors for batch in batches]), vectors)


def test_bounds_across_the_antimeridian_run_from_east_to_west() -> None:
    left = [[179.0, -1.0], [180.0, -1.0], [180.0, 1.0], [179.0, 1.0], [179.0, -1.0]]
    right = [[-180.0, -1.0], [-179.5, -1.0], [-179.5, 1.0], [-180.0, 1.0], [-180.0, -1.0]]
    assert bounds({"type": "MultiPolygon", "coordinates": [[left], [right]]}) == (179.0, -1.0, -179.5, 1.0)
    assert bounds({"type": "Polygon", "coordinates": [left]}) == (179.0, -1.0, 180.0, 1.0)
