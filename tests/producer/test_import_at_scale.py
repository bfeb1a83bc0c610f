"""`eocat import` over many slabs: memory that does not grow with the file, and rows as whole columns."""

import math
import re
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_embeddings import square, vectors

from eocat.producer.importing import slab
from eocat.producer.importing.asked import Options
from eocat.producer.importing.footprints import Footprints, quadrangles, rounded_degrees
from eocat.producer.importing.parquet import open_table
from eocat.producer.importing.slab import Judge, Seen
from eocat.producer.interval import parse_interval
from eocat.verify.errors import InputError

SLAB_ROWS, DIMENSION = 1000, 256


@dataclass(frozen=True)
class Peak:
    """The most bytes: of Python and NumPy, and of Arrow between two slabs."""

    python: int
    arrow: int


def peak_of(path: Path, slabs: int) -> Peak:
    """Of reading and judging a file of so many slabs in one row group."""
    count = slabs * SLAB_ROWS
    values = pa.FixedSizeListArray.from_arrays(pa.array(vectors(count, DIMENSION).ravel()), DIMENSION)
    geometries = [square(row % 300 / 10, row // 300 / 10) for row in range(count)]
    pq.write_table(pa.table({"v": values, "g": geometries}), path, row_group_size=count)
    del values, geometries
    columns = {"embedding": "v", "geometry": "g"}
    before, arrow, rows = pa.total_allocated_bytes(), 0, 0
    tracemalloc.start()
    judge = Judge(path.name, frozenset())
    opened = open_table(path, "parquet", Options(columns, interval=parse_interval("2023-01-01")))
    for read in opened.slabs():
        rows += len(judge.judged(read)[0])
        arrow = max(arrow, pa.total_allocated_bytes() - before)
    _, python = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows == count
    return Peak(python, arrow)


def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow's own reading ahead would hold the whole file."""
    monkeypatch.setattr(slab, "SLAB_ROWS", SLAB_ROWS)
    few, many = (peak_of(tmp_path / "t.parquet", slabs) for slabs in (10, 40))
    hashes = 2 * 8 * 40 * SLAB_ROWS
    assert many.python < 1.2 * few.python + 3 * hashes  # two runs of hashes and the one that they become
    assert many.arrow < 1.5 * few.arrow
    assert many.python + many.arrow < 20 * SLAB_ROWS * DIMENSION * 4, "half of the file"


class TestSeen:
    @given(st.lists(st.lists(st.integers(0, 40), max_size=20), max_size=12))
    def test_it_finds_what_came_before(self, slabs: list[list[int]]) -> None:
        seen, before = Seen(), set()
        for keys in slabs:
            again = seen.add(str(key) for key in keys)
            for key, found in zip(keys, again.tolist(), strict=True):
                assert found == (key in before)
                before.add(key)

    def test_many_slabs_are_no_quadratic_trap(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A hash is moved as often as the logarithm of the number of slabs says, not at each slab."""
        moved, merged = [0], slab._merged

        def count(run: np.ndarray, other: np.ndarray) -> np.ndarray:
            moved[0] += len(run) + len(other)
            return merged(run, other)

        monkeypatch.setattr(slab, "_merged", count)
        seen, slabs, rows = Seen(), 512, 10
        for first in range(0, slabs * rows, rows):
            assert not seen.add(map(str, range(first, first + rows))).any()
            assert len(seen._runs) <= math.log2(first / rows + 1) + 1
        assert moved[0] <= slabs * rows * (math.log2(slabs) + 1)


degrees = st.floats(-360, 360) | st.integers(-360_000, 360_000).map(lambda milli: milli / 1000)
halves = st.integers(-360 * 10**9, 360 * 10**9).map(lambda nano: (nano + 0.5) / 1e9)


@given(st.lists(degrees | halves | halves.map(lambda value: math.nextafter(value, 0))))
def test_columns_are_rounded_as_single_numbers_are(values: list[float]) -> None:
    expected = [round(value, 9) + 0.0 for value in values]
    found = rounded_degrees(np.array(values, np.float64)).tolist()
    assert [(x, math.copysign(1, x)) for x in found] == [(x, math.copysign(1, x)) for x in expected]


def boxes() -> st.SearchStrategy[list[tuple[float, float]]]:
    """Four corners around a place, either way round: some across the antimeridian, some without area."""

    def corners(lon: float, lat: float, wide: float, high: float, turned: bool) -> list[tuple[float, float]]:
        east = lon + wide - (360 if lon + wide > 180 else 0)
        ring = [(lon, lat), (east, lat), (east, lat + high), (lon, lat + high)]
        return ring[::-1] if turned else ring

    longitudes = st.floats(-180, 180) | st.sampled_from([-180.0, 179.5, 180.0, 0.0])
    sides = st.floats(0, 2) | st.sampled_from([0.0, 1e-10, 0.5])
    return st.builds(corners, longitudes, st.floats(-80, 80), sides, sides, st.booleans())


@given(st.lists(boxes(), min_size=1, max_size=5))
def test_footprints_of_a_column_are_those_of_single_rows(rows: list[list[tuple[float, float]]]) -> None:
    ids = [str(row) for row in range(len(rows))]
    single = Footprints.blank(len(rows))
    refused = []
    for row, ring in enumerate(rows):
        try:
            single.set_rings(row, [ring], ids[row])
        except InputError as error:
            refused.append(str(error))
    if refused:
        with pytest.raises(InputError, match=re.escape(refused[0])):
            quadrangles(np.array(rows), ids)
        return
    made = quadrangles(np.array(rows), ids)
    for name in ("wkb", "boxes", "centres"):
        assert getattr(made, name).tolist() == getattr(single, name).tolist(), name
