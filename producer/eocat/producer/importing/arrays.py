"""Vectors in NumPy arrays: TESSERA's tiles, cells in one flat file as MMEarth has them, and any with a table.

TESSERA: grid_LON_LAT.npy int8 (H, W, D), beside it _scales.npy (H, W) or (H, W, D), and the tile's landmask,
a GeoTIFF that alone says where the pixels lie; a vector is q × scale. Arrays are mapped, not read.
FORMATS.md, 4.5.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer

from eocat.verify.digest import digest_file
from eocat.verify.errors import InputError, UsageError

from ..chips import CELL_MARGIN_METRES, CELL_PIXEL_METRES, CELL_PIXELS
from ..grid import cell_named
from ..sources.gdal import Grid, decode, local_path, probe
from .asked import Options
from .footprints import quadrangles
from .parquet import micros, moment, times
from .places import LONLAT, Geometries, crs_of, footprints, read_geometries, read_points
from .slab import Facts, Slab, rows_of_slab, unknown_windows

MAX_REGISTRY_BYTES: Final = 64 << 20
_TILE: Final = re.compile(r"grid_-?\d+\.\d+_-?\d+\.\d+")
_YEAR: Final = re.compile(r"(19|20)\d\d")
_EVENLY: Final = "footprints: the cell's picture of 10 680 m divided evenly"


@dataclass(frozen=True, slots=True)
class Tessera:
    """One tile. land: 0 where there is none, which makes no row."""

    facts: Facts
    quantised: NDArray[np.int8]
    scales: NDArray[np.floating]
    grid: Grid
    land: NDArray[np.integer]
    interval: tuple[datetime, datetime]
    every: int

    def slabs(self) -> Iterator[Slab]:
        lines, columns = np.arange(0, self.grid.height, self.every), np.arange(0, self.grid.width, self.every)
        place = _Places(self.grid, self.facts.path.stem)
        count = max(1, self.facts.rows // len(columns))
        for first in range(0, len(lines), count):
            ys, xs = _pairs(lines[first : first + count], columns)
            land = self.land[ys, xs] > 0
            ys, xs, missing = ys[land], xs[land], int((~land).sum())
            scales = np.asarray(self.scales[ys, xs], np.float32)
            vectors = self.quantised[ys, xs].astype(np.float32) * scales.reshape(len(ys), -1)
            yield place.slab(xs, ys, vectors, self.interval, (("nodata", missing),) if missing else ())


@dataclass(frozen=True, slots=True)
class Cells:
    """Dense cells of the Major TOM grid in flat files: a table with file_name, file_index and grid_cell."""

    facts: Facts
    table: pa.Table
    shape: tuple[int, int, int]
    options: Options

    def slabs(self) -> Iterator[Slab]:
        """One cell each."""
        height, width, dimension = self.shape
        ys, xs = _pairs(np.arange(0, height, self.options.every), np.arange(0, width, self.options.every))
        for row in self.table.to_pylist():
            vectors = np.array(self._data(row).reshape(height, width, dimension)[ys, xs])
            cell = str(row["grid_cell"])
            name = f"{row.get('product_id') or self.facts.path.stem}/{cell}"
            place = _Places(_cell_grid(cell, height, width), name, cell)
            yield place.slab(xs, ys, vectors, self._interval(row), (), (_EVENLY,))

    def _data(self, row: Mapping[str, Any]) -> NDArray[np.float32]:
        size, index = math.prod(self.shape), int(row["file_index"])
        path = self.facts.path.parent / Path(str(row["file_name"])).name
        if not path.is_file() or path.stat().st_size < (index + 1) * size * 4 or index < 0:
            raise InputError(
                f"{path.name} does not hold cell {row['grid_cell']} at {index}",
                hint="put the data files beside the table; is --shape right?",
            )
        return np.memmap(path, np.float32, "r", index * size * 4, (size,))

    def _interval(self, row: Mapping[str, Any]) -> tuple[datetime, datetime]:
        if row.get("timestamp") is None:
            return _told_interval(self.options, self.facts.path)
        time = moment(row["timestamp"], f"{self.facts.path.name}: timestamp")
        return time, time


@dataclass(frozen=True, slots=True)
class Rows:
    """An array (N, D) and a table with its rows' places."""

    facts: Facts
    array: NDArray[np.floating]
    table: pa.Table
    options: Options

    def slabs(self) -> Iterator[Slab]:
        path, rows = self.facts.path, self.facts.rows
        for first in range(0, len(self.array), rows):
            part = self.table.slice(first, rows)
            vectors = np.array(self.array[first : first + rows], self.facts.dtype)
            columns = {name: part[column] for name, column in self.options.columns.items()}
            texts = {name: columns[name].to_pylist() for name in ("id", "source", "cell") if name in columns}
            count = len(vectors)
            ids = [str(v) for v in texts.get("id") or [f"{path.stem}/{first + i}" for i in range(count)]]
            geometries = _geometries(columns, first, path.name)
            crs = crs_of(None, self.options.crs, geometries.points, path.name)
            starts, ends = self._times(columns, first, count)
            yield Slab(
                ids=ids,
                footprints=footprints(geometries, crs, ids, square_metres=self.options.footprint_metres),
                starts=starts,
                ends=ends,
                sources=[str(v) for v in texts.get("source") or [path.stem] * count],
                cells=[v and str(v) for v in texts.get("cell") or [None] * count],
                windows=unknown_windows(count),
                vectors=vectors,
            )

    def _times(
        self, columns: Mapping[str, pa.ChunkedArray], first: int, count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if "start" not in columns:
            begin, end = (micros(time) for time in _told_interval(self.options, self.facts.path))
            return np.full(count, begin), np.full(count, end)
        label, begins = self.facts.path.name, columns["start"]
        starts = times(begins, first, f"{label}: start")
        return starts, times(columns.get("end", begins), first, f"{label}: end", last=True)


def _geometries(columns: Mapping[str, pa.ChunkedArray], first: int, label: str) -> Geometries:
    if "geometry" in columns:
        return read_geometries(columns["geometry"].to_pylist(), first, label)
    return read_points(columns["lon"].to_pylist(), columns["lat"].to_pylist())


def _pairs(ys: NDArray[np.intp], xs: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(y, x) of every crossing, line by line."""
    grid = np.meshgrid(ys, xs, indexing="ij")
    return grid[0].ravel(), grid[1].ravel()


class _Places:
    """Footprints of single pixels of a grid."""

    def __init__(self, grid: Grid, name: str, cell: str | None = None) -> None:
        self._transform, self._name, self._cell = grid.transform, name, cell
        self._to_lonlat = Transformer.from_crs(grid.crs, LONLAT, always_xy=True)

    def slab(
        self,
        xs: NDArray[np.intp],
        ys: NDArray[np.intp],
        vectors: NDArray[np.float32],
        interval: tuple[datetime, datetime],
        left_out: tuple[tuple[str, int], ...],
        assumptions: tuple[str, ...] = (),
    ) -> Slab:
        corners = np.array([(0, 1), (1, 1), (1, 0), (0, 0)])  # lower left first, counter-clockwise
        across, down = xs[:, None] + corners[:, 0], ys[:, None] + corners[:, 1]
        t = self._transform
        lon, lat = self._to_lonlat.transform(t.c + t.a * across, t.f + t.e * down, errcheck=True)
        names = [f"{self._name}/{x}_{y}" for x, y in zip(xs.tolist(), ys.tolist(), strict=True)]
        count = len(names)
        return Slab(
            ids=names,
            footprints=quadrangles(np.stack([lon, lat], axis=-1), names),
            starts=np.full(count, micros(interval[0])),
            ends=np.full(count, micros(interval[1])),
            sources=[self._name] * count,
            cells=[self._cell] * count,
            windows=np.column_stack([xs, ys, np.ones(count, np.int64)]),
            vectors=vectors,
            assumptions=assumptions,
            left_out=left_out,
        )


def open_tessera(path: Path, options: Options) -> tuple[Tessera, list[Path]]:
    """The tile and all its files; raises InputError for a file that is missing, or is not the registry's."""
    if not _TILE.fullmatch(path.stem):
        raise InputError(f"{path.name} is not named as a TESSERA tile, such as grid_0.15_52.05.npy")
    scales_path = path.with_name(f"{path.stem}_scales.npy")
    quantised, scales = _array(path), _array(scales_path)
    shape = quantised.shape
    if quantised.dtype != np.int8 or len(shape) != 3 or scales.shape not in (shape, shape[:2]):
        raise InputError(
            f"{path.name} is {quantised.dtype} {shape} with scales {scales.shape}, "
            "int8 (H, W, D) and (H, W) or (H, W, D) are expected"
        )
    mask = options.grid or _landmask(path)
    raster = probe(local_path(mask), mask.name)
    if (raster.grid.height, raster.grid.width) != shape[:2]:
        raise InputError(
            f"{mask.name} is {raster.grid.width} × {raster.grid.height} pixels, {path.name} has "
            f"{shape[1]} × {shape[0]}",
            hint="give the landmask of the same tile: --grid FILE.tiff",
        )
    land = np.empty(shape[:2], raster.dtype)
    decode(local_path(mask), {1: land})
    if options.registry:
        _check_registry(options.registry, [path, scales_path])
    height, width = (-(-side // options.every) for side in shape[:2])
    rows = max(1, rows_of_slab(shape[2], 4) // width) * width
    facts = Facts(path, shape[2], "float32", "int8 × float scale", rows, height * width)
    tile = Tessera(facts, quantised, scales, raster.grid, land, _year(path, options), options.every)
    return tile, [path, scales_path, mask]


def open_cells(path: Path, options: Options) -> tuple[Cells, list[Path]]:
    """The cells that the table names and all files; raises InputError or UsageError."""
    if options.shape is None:
        raise UsageError("flat files of cells have no shape of their own", hint="say it: --shape 133,133,320")
    table = read_table(path)
    if missing := {"file_name", "file_index", "grid_cell"} - set(table.column_names):
        raise InputError(f"{path.name} has no column {', '.join(sorted(missing))}")
    names = sorted({Path(str(name)).name for name in table["file_name"].to_pylist()})
    files = [path, *(path.parent / name for name in names if (path.parent / name).is_file())]
    rows = math.prod(-(-side // options.every) for side in options.shape[:2])
    facts = Facts(path, options.shape[2], "float32", "float32", rows, rows * table.num_rows)
    return Cells(facts, table, options.shape, options), files


def open_rows(path: Path, options: Options) -> tuple[Rows, list[Path]]:
    """The array and its table; raises InputError or UsageError."""
    placed = "geometry" in options.columns or {"lon", "lat"} <= options.columns.keys()
    if options.table is None or not placed:
        raise UsageError(
            "an array needs a table with the places of its rows",
            hint="--table FILE.csv (or .parquet) --columns lon=…,lat=…,start=… --footprint METRES",
        )
    array = _array(path)
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"{path.name} is {array.dtype} {array.shape}, floating-point (N, D) is expected")
    table = read_table(options.table)
    if missing := set(options.columns.values()) - set(table.column_names):
        raise InputError(f"{options.table.name} has no column {min(missing)}")
    if table.num_rows != len(array):
        raise InputError(
            f"{options.table.name} has {table.num_rows} rows, {path.name} has {len(array)} vectors",
            hint="one line for each vector is expected, in the same order",
        )
    dtype = "float16" if array.dtype == np.float16 else "float32"
    rows = rows_of_slab(array.shape[1], np.dtype(dtype).itemsize)
    facts = Facts(path, array.shape[1], dtype, str(array.dtype), rows, len(array))
    return Rows(facts, array, table, options), [path, options.table]


def read_table(path: Path) -> pa.Table:
    """A CSV or Parquet file; raises InputError for another."""
    try:
        return pa.csv.read_csv(path) if path.suffix.lower() == ".csv" else pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path.name} cannot be read: {str(error)[:120]}", hint="CSV or Parquet") from None


def _array(path: Path) -> NDArray[Any]:
    """The .npy file, mapped; an array of Python objects is refused."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{path.name} is no readable .npy array: {str(error)[:120]}", hint="fetch it again"
        ) from None
    return array


def _landmask(path: Path) -> Path:
    """The tile's landmask, beside it or in a folder `landmasks` above it."""
    names = (f"{path.stem}.tiff", f"{path.stem}.tif")
    for folder in (path.parent, *(parent / "landmasks" for parent in path.parents)):
        for name in names:
            if (folder / name).is_file():
                return folder / name
    raise InputError(
        f"nothing says where the pixels of {path.name} lie: its landmask {names[0]} is not there",
        hint="fetch it from TESSERA's landmasks, or name it: --grid FILE.tiff",
    )


def _check_registry(registry: Path, files: list[Path]) -> None:
    """Hold the files against `path sha256` lines; InputError for a file that is not listed or is another."""
    if registry.stat().st_size > MAX_REGISTRY_BYTES:
        raise InputError(f"{registry.name} is larger than {MAX_REGISTRY_BYTES} bytes")
    lines = registry.read_text("utf-8").splitlines()
    listed = dict(line.split(" ") for line in lines if line.count(" ") == 1)
    for file in files:
        sums = {digest for name, digest in listed.items() if name.endswith("/".join(file.parts[-3:]))}
        if not sums:
            raise InputError(f"{'/'.join(file.parts[-3:])} is not in {registry.name}")
        if digest_file(file).sha256 not in sums:
            raise InputError(f"{file.name} is not the file that {registry.name} lists", hint="fetch it again")


def _year(path: Path, options: Options) -> tuple[datetime, datetime]:
    if options.interval:
        return options.interval
    years = [part for part in reversed(path.absolute().parts[:-1]) if _YEAR.fullmatch(part)]
    if not years:
        return _told_interval(options, path)
    year = int(years[0])
    return datetime(year, 1, 1, tzinfo=UTC), datetime(year, 12, 31, 23, 59, 59, 999_999, UTC)


def _told_interval(options: Options, path: Path) -> tuple[datetime, datetime]:
    if options.interval is None:
        raise InputError(
            f"{path.name} does not say when its rows are of",
            hint="add --datetime, such as 2023-01-01/2023-12-31",
        )
    return options.interval


def _cell_grid(name: str, height: int, width: int) -> Grid:
    """The cell's picture of 10 680 m in `height` × `width` parts."""
    cell = cell_named(name)
    crs = f"EPSG:{cell.epsg}"
    east, north = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(cell.west, cell.south)
    side = CELL_PIXELS * CELL_PIXEL_METRES
    left, top = east - CELL_MARGIN_METRES, north - CELL_MARGIN_METRES + side
    return Grid(crs, Affine(side / width, 0, left, 0, -side / height, top), height, width)
