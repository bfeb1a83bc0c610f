"""Tables of vectors in Parquet: the layouts of Major TOM, Clay and Earth Index, and any other by a mapping.

FORMATS.md, 4.2 and 4.5. Read in slabs of rows; of a row only the columns that are used.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from eocat.verify.errors import InputError, UsageError
from eocat.verify.leaves import numbers

from .asked import Options
from .majortom import Fragments
from .places import Geometries, crs_of, footprints, read_geometries, read_points
from .slab import Facts, Slab, rows_of_slab, unknown_windows

LAYOUTS: Final[dict[str, dict[str, str]]] = {
    "majortom": {
        "id": "unique_id", "embedding": "embedding", "geometry": "geometry", "start": "timestamp",
        "source": "product_id", "cell": "grid_cell",
    },
    "clay": {"embedding": "embeddings", "geometry": "geometry", "start": "date", "source": "source_url"},
    "earth-index": {"id": "id", "embedding": "embedding", "geometry": "geometry"},
    "parquet": {},
}  # fmt: skip
_BATCH: Final = 4096
_BUFFER_BYTES: Final = 1 << 20  # of a column at a time: Arrow would hold all of the file that it has read


@dataclass(frozen=True, slots=True)
class Table:
    """An opened Parquet file. columns: eocat's names → the file's."""

    facts: Facts
    layout: str
    file: pq.ParquetFile
    columns: Mapping[str, str]
    options: Options

    def slabs(self) -> Iterator[Slab]:
        """The file's rows; raises InputError naming the row where one cannot be used."""
        fragments = Fragments(self.facts.path.name, swap=self.options.transpose)
        crs: str | None = None
        for first, part in _slices(self.file, self._wanted(), self.facts.rows):
            slab, crs = self._slab(part, first, crs)
            if self.layout == "majortom":
                slab = fragments.placed(slab, part)
            del part  # or its vectors would be held twice
            yield slab

    def _wanted(self) -> list[str]:
        extra = ("pixel_bbox", "utm_footprint", "utm_crs") if self.layout == "majortom" else ()
        return [*self.columns.values(), *(name for name in extra if name in self.file.schema_arrow.names)]

    def _slab(self, part: pa.Table, first: int, crs: str | None) -> tuple[Slab, str]:
        label = self.facts.path.name
        ids = self._texts(part, "id") or [f"{self.facts.path.stem}/{first + i}" for i in range(len(part))]
        geometries = self._geometries(part, first)
        crs = crs or crs_of(
            _declared_crs(self.file, self.columns), self.options.crs, geometries.points, label
        )
        made = footprints(geometries, crs, ids, square_metres=self.options.footprint_metres)
        starts, ends, assumed = self._times(part, first)
        cells = self._texts(part, "cell")
        return Slab(
            ids=ids,
            footprints=made,
            starts=starts,
            ends=ends,
            sources=self._texts(part, "source") or [self.facts.path.stem] * len(part),
            cells=cells or [None] * len(part),
            windows=unknown_windows(len(part)),
            vectors=self._vectors(part, first),
            assumptions=(*assumed, *self._said()),
        ), crs

    def _said(self) -> tuple[str, ...]:
        said = []
        if self.options.crs:
            said.append(f"reference system: {self.options.crs}, said by the publisher")
        if self.options.footprint_metres:
            said.append(f"footprints: squares of {self.options.footprint_metres} m around points")
        return tuple(said)

    def _vectors(self, part: pa.Table, first: int) -> NDArray[np.floating]:
        """A row without a vector is a row of NaN: `Judge` finds it."""
        dimension = self.facts.dimension
        vectors = np.full((len(part), dimension), np.nan, self.facts.dtype)
        done = 0
        for column in part[self.columns["embedding"]].chunks:
            lengths = numbers(column.value_lengths().fill_null(-1).cast(pa.int32()), "<i4")
            if bad := np.flatnonzero((lengths != dimension) & (lengths >= 0)).tolist():
                raise InputError(
                    f"row {first + done + bad[0]} of {self.facts.path.name} has a vector of "
                    f"{lengths[bad[0]]} values, others have {dimension}",
                    hint="one file holds one space: vectors of other lengths belong in another collection",
                )
            values = np.asarray(column.flatten().to_numpy(zero_copy_only=False))
            vectors[done : done + len(column)][lengths == dimension] = values.reshape(-1, dimension)
            done += len(column)
        return vectors

    def _texts(self, part: pa.Table, name: str) -> list[str] | None:
        if name not in self.columns:
            return None
        texts = part[self.columns[name]].to_pylist()
        if None in texts:
            raise InputError(
                f"{self.facts.path.name} has a row without {self.columns[name]}", hint="fill the column in"
            )
        return [str(text) for text in texts]

    def _geometries(self, part: pa.Table, first: int) -> Geometries:
        if "geometry" in self.columns:
            cells = part[self.columns["geometry"]].to_pylist()
            return read_geometries(cells, first, self.facts.path.name)
        return read_points(*(part[self.columns[name]].to_pylist() for name in ("lon", "lat")))

    def _times(
        self, part: pa.Table, first: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
        if "start" not in self.columns:
            start, end = self._interval()
            return np.full(len(part), micros(start)), np.full(len(part), micros(end)), ()
        begins, label = part[self.columns["start"]], self.facts.path.name
        ends = part[self.columns["end"]] if "end" in self.columns else begins
        starts = times(begins, first, f"{label}: {self.columns['start']}")
        finishes = times(ends, first, f"{label}: {self.columns.get('end', self.columns['start'])}", last=True)
        return starts, finishes, ("times: UTC, where they name no zone",)

    def _interval(self) -> tuple[datetime, datetime]:
        if self.options.interval:
            return self.options.interval
        if "start_datetime" in self.facts.emb and "end_datetime" in self.facts.emb:
            label = f"{self.facts.path.name}: emb"
            return tuple(moment(self.facts.emb[key], label) for key in ("start_datetime", "end_datetime"))  # type: ignore[return-value]
        raise InputError(
            f"{self.facts.path.name} does not say when its rows are of",
            hint="add --datetime, such as 2023-01-01/2023-12-31, or --columns start=COLUMN",
        )


def open_table(path: Path, layout: str, options: Options) -> Table:
    """The table in the layout; raises InputError for a column that it lacks and for a file without rows."""
    try:
        file = pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"{path.name} is no readable Parquet file: {str(error)[:120]}", hint="fetch it again"
        ) from None
    schema = file.schema_arrow
    columns = LAYOUTS[layout] | options.columns
    if missing := [column for column in columns.values() if column not in schema.names]:
        raise InputError(
            f"{path.name} has no column {missing[0]}, its columns are {', '.join(schema.names)[:300]}",
            hint="name the columns: --columns embedding=…,geometry=…,id=…,start=…",
        )
    if "embedding" not in columns or not ("geometry" in columns or {"lon", "lat"} <= columns.keys()):
        raise UsageError(
            "a table needs at least the columns embedding and geometry (or lon and lat)",
            hint="name them: --columns embedding=…,geometry=…",
        )
    if file.metadata.num_rows == 0:
        raise InputError(
            f"{path.name} has no rows", hint="a sample that shows a schema alone imports nothing"
        )
    dimension = _dimension(file, columns["embedding"], path)
    original = str(schema.field(columns["embedding"]).type.value_type)
    dtype = "float16" if original == "halffloat" else "float32"
    rows = rows_of_slab(dimension, np.dtype(dtype).itemsize)
    facts = Facts(path, dimension, dtype, original, rows, file.metadata.num_rows, _footer(file, b"emb"))
    return Table(facts, layout, file, columns, options)


def times(column: pa.ChunkedArray, first: int, label: str, *, last: bool = False) -> NDArray[np.int64]:
    """µs of a column's times, each value read once, as `moment`; the first of them is in row `first`."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    values = column.combine_chunks().dictionary_encode(null_encoding="encode")
    places = numbers(values.indices, "<i4")
    rows = first + np.unique(places, return_index=True)[1]
    known = [
        micros(moment(value, f"row {row} of {label}", last=last))
        for value, row in zip(values.dictionary.to_pylist(), rows.tolist(), strict=True)
    ]
    return np.array(known, np.int64).take(places)


def moment(value: object, label: str, *, last: bool = False) -> datetime:
    """UTC of a timestamp, a day (its end if `last`), ISO 8601 or 20220706T085611; InputError for others."""
    try:
        if isinstance(value, datetime):
            time = value
        elif isinstance(value, date):
            time = datetime(value.year, value.month, value.day, tzinfo=UTC)
            time += timedelta(days=1, microseconds=-1) if last else timedelta()
        elif hasattr(value, "to_pydatetime"):
            time = value.to_pydatetime()
        else:
            time = datetime.fromisoformat(str(value))
    except ValueError:
        raise InputError(
            f"{label} is {str(value)[:40]!r}, a time such as 2024-06-01T10:00:31Z is expected",
            hint="leave the column out and give --datetime",
        ) from None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def micros(time: datetime) -> int:
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _slices(file: pq.ParquetFile, columns: list[str], rows: int) -> Iterator[tuple[int, pa.Table]]:
    """(number of the first row, exactly `rows` rows or the rest), read batch by batch."""
    held: list[pa.RecordBatch] = []
    first, count = 0, 0
    for batch in file.iter_batches(batch_size=min(rows, _BATCH), columns=columns):
        held.append(batch)
        count += len(batch)
        while count >= rows:
            table = pa.Table.from_batches(held)
            yield first, table.slice(0, rows)
            held, count, first = table.slice(rows).to_batches(), count - rows, first + rows
    if count:
        yield first, pa.Table.from_batches(held)


def _dimension(file: pq.ParquetFile, column: str, path: Path) -> int:
    kind = file.schema_arrow.field(column).type
    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not listed or not pa.types.is_floating(kind.value_type):
        raise InputError(
            f"column {column} of {path.name} is {kind}, a list of floating-point numbers is expected",
            hint="quantised vectors: multiply them by their scales first, or --columns embedding=COLUMN",
        )
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size)
    for batch in file.iter_batches(batch_size=_BATCH, columns=[column]):
        if dimension := max(batch.column(0).value_lengths().fill_null(0).to_pylist(), default=0):
            return int(dimension)
    raise InputError(f"{path.name} has no vector in any row", hint="is it the right column of embeddings?")


def _footer(file: pq.ParquetFile, key: bytes) -> dict[str, Any]:
    """A JSON object of the file's own metadata, {} where there is none."""
    text = (file.schema_arrow.metadata or {}).get(key)
    try:
        members = json.loads(text) if text else {}
    except ValueError:
        members = None
    if not isinstance(members, dict):
        raise InputError(f"the footer's {key.decode()} is no JSON object", hint="fetch the file again")
    return members


def _declared_crs(file: pq.ParquetFile, columns: Mapping[str, str]) -> str | None:
    """The reference system of the geometry column by the GeoParquet metadata; None: OGC:CRS84."""
    if "geometry" not in columns:
        return None
    geo = _footer(file, b"geo")
    column = geo.get("columns", {}).get(columns["geometry"], {})
    crs = column.get("crs") if isinstance(column, dict) else None
    match crs:
        case {"id": {"authority": str() as authority, "code": str() | int() as code}}:
            return f"{authority}:{code}"
        case dict():
            return json.dumps(crs)
    return None
