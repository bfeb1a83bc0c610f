"""What `eocat import` costs: rate and memory over whole files, beside reading and writing them again.

    python tests/benchmarks/importing.py [--rows 100000 400000] [--dimension 768] [--layouts majortom …]
        [--folder DIR]

Makes files in the layouts in which embeddings are published, vectors drawn, and imports each with the true
command, as a process of its own. The rival reads the same file with pyarrow (or NumPy), writes it as Parquet,
and hashes both with SHA-256: no judgement of rows, no order, no leaf hashes, no signature. `beyond`: the most
memory, less that of an import of 1,000 rows; pages of mapped arrays count, though the kernel may drop them.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from math import isqrt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import rasterio
from affine import Affine
from pyproj import Transformer

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "producer"))

from make_embeddings import OFFSETS, geo, square
from process_cost import Cost, run

from eocat.producer.grid import Cell
from eocat.producer.signer import new_key
from eocat.verify.geometry import format_wkb

FEW = 1_000
AT_ONCE = 8_192  # rows that a maker holds
INTERVAL = "2023-01-01/2023-12-31"
DIMENSION_OF_PIXELS = 128  # as TESSERA's

AGAIN = """
import hashlib, sys
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.csv, pyarrow.parquet as pq
target, path, *beside = map(Path, sys.argv[1:])
if path.suffix == ".parquet":
    table = pq.read_table(path)
else:
    vectors = np.load(path)
    if vectors.ndim == 3:
        vectors = (vectors.astype(np.float32) * np.load(beside[0])[..., None]).reshape(-1, vectors.shape[2])
        table = pa.table({"place": np.arange(len(vectors))})
    else:
        table = pa.csv.read_csv(beside[0])
    kind = pa.list_(pa.from_numpy_dtype(vectors.dtype), vectors.shape[1])
    table = table.append_column("v", pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=kind))
pq.write_table(table, target)
for file in (path, *beside, target):
    with open(file, "rb") as stream:
        hashlib.file_digest(stream, "sha256").hexdigest()
"""


@dataclass(frozen=True)
class Made:
    """A set to import. files: the vectors' first; options: of `eocat import`."""

    layout: str
    files: list[Path]
    options: list[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 400_000])
    parser.add_argument("--dimension", type=int, default=768)
    parser.add_argument("--layouts", nargs="+", default=list(MAKERS), choices=list(MAKERS))
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="eocat-importing-", dir=chosen.folder) as made:
        folder = Path(made)
        os.environ["EOCAT_HOME"] = str(folder / "home")
        new_key("bench", None)
        print(
            f"{'':<10} {'rows':>8} {'MB':>6} {'wall s':>7} {'CPU s':>7} {'rows/s':>7} {'MB/s':>5} "
            f"{'rows/CPU s':>10} {'beyond MiB':>10} {'again: wall s':>13} {'CPU s':>6} "
            f"{'ratio: wall':>11} {'CPU':>5}"
        )
        for layout in chosen.layouts:
            for line in costs(layout, chosen.rows, chosen.dimension, folder):
                print(line, flush=True)


def costs(layout: str, counts: list[int], dimension: int, folder: Path) -> Iterator[str]:
    few = imported(make(layout, FEW, dimension, folder), folder, rows_of(layout, FEW))
    for count in counts:
        made = make(layout, count, dimension, folder)
        rows = rows_of(layout, count)
        megabytes = sum(file.stat().st_size for file in made.files) / 1e6
        ours, again = imported(made, folder, rows), written_again(made, folder)
        yield (
            f"{layout:<10} {rows:>8} {megabytes:>6.0f} {ours.wall_s:>7.1f} {ours.cpu_s:>7.1f} "
            f"{rows / ours.wall_s:>7.0f} {megabytes / ours.wall_s:>5.0f} {rows / ours.cpu_s:>10.0f} "
            f"{ours.peak_mib - few.peak_mib:>10.0f} {again.wall_s:>13.1f} {again.cpu_s:>6.1f} "
            f"{ours.wall_s / again.wall_s:>11.1f} {ours.cpu_s / again.cpu_s:>5.1f}"
        )


def rows_of(layout: str, count: int) -> int:
    """A tile is square."""
    return isqrt(count) ** 2 if layout == "tessera" else count


def imported(made: Made, folder: Path, rows: int) -> Cost:
    """The true command; RuntimeError unless every row has become one."""
    out = folder / "out"
    command = [
        Path(sys.executable).with_name("eocat"), "import", made.layout, made.files[0], *made.options,
        "--collection", "c", "--out", out, "--key", "bench", "--encoder", "drawn", "--json",
    ]  # fmt: skip
    cost = run(command)
    shutil.rmtree(out)
    if (found := sum(shard["rows"] for shard in json.loads(cost.said))) != rows:
        raise RuntimeError(f"{found} of {rows} rows were imported")
    return cost


def written_again(made: Made, folder: Path) -> Cost:
    return run([sys.executable, "-c", AGAIN, folder / "again.parquet", *made.files])


# --- the sets


def make(layout: str, count: int, dimension: int, folder: Path) -> Made:
    """The set, made by a process of its own, as what needs memory here would count as the command's."""
    target = folder / layout
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(MAKERS[layout], (target, count, dimension))


def make_majortom(folder: Path, count: int, dimension: int) -> Made:
    """25 fragments to a cell, footprints transposed as the published ones are; float32."""
    cells = (Cell(row, column) for row in range(300, 900) for column in range(100))
    rows = (row for cell in cells for row in fragments(cell))

    def columns(first: int, size: int) -> dict[str, list[object]]:
        found = list(islice(rows, size))
        return {name: [row[name] for row in found] for name in found[0]}

    path = write(folder / "majortom.parquet", count, dimension, np.dtype(np.float32), columns)
    return Made("majortom", [path], ["--transpose"])


def fragments(cell: Cell) -> Iterator[dict[str, object]]:
    crs = f"EPSG:{cell.epsg}"
    to_lonlat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    west, south = to_lonlat.transform(cell.west, cell.south, direction="INVERSE")
    places = [(x, y) for x in OFFSETS for y in OFFSETS]  # transposed: the line's offset comes first
    lefts = np.array([west - 340 + 10 * x for x, _ in places])[:, None] + np.array([0, 2240, 2240, 0, 0])
    lows = np.array([south + 8100 - 10 * y for _, y in places])[:, None] + np.array([0, 0, 2240, 2240, 0])
    rings = np.stack(to_lonlat.transform(lefts, lows), axis=-1).tolist()
    for (x, y), ring, box in zip(places, rings, np.stack([lefts, lows], axis=-1).tolist(), strict=True):
        yield {
            "unique_id": f"{cell.name}-{x}-{y}",
            "timestamp": "20220706T085611",
            "product_id": f"S2B_MSIL2A_20220706T085611_N0400_R007_{cell.name}",
            "grid_cell": cell.name,
            "geometry": format_wkb({"type": "Polygon", "coordinates": [ring]}),
            "utm_footprint": "POLYGON ((" + ", ".join(f"{a} {b}" for a, b in box) + "))",
            "utm_crs": crs,
            "pixel_bbox": [x, y, x + 224, y + 224],
        }


def make_parquet(folder: Path, count: int, dimension: int) -> Made:
    """Squares with a vector of float16 each, in one row group, as pyarrow and geopandas write a table."""

    def columns(first: int, size: int) -> dict[str, list[object]]:
        return {"g": [square(*place) for place in places(first, size)]}

    path = write(folder / "table.parquet", count, dimension, np.dtype(np.float16), columns)
    return Made("parquet", [path], ["--columns", "embedding=embedding,geometry=g", "--datetime", INTERVAL])


def places(first: int, size: int) -> list[tuple[float, float]]:
    return [(-170 + row % 3000 / 10, -60 + row // 3000 / 10) for row in range(first, first + size)]


def write(
    path: Path,
    count: int,
    dimension: int,
    dtype: np.dtype,
    columns: Callable[[int, int], dict[str, list[object]]],
) -> Path:
    """A Parquet file of one row group."""
    random, batches = np.random.default_rng(1), []
    for first in range(0, count, AT_ONCE):
        size = min(AT_ONCE, count - first)
        vectors = random.standard_normal((size, dimension), np.float32).astype(dtype)
        values, offsets = pa.array(vectors.ravel()), np.arange(size + 1, dtype=np.int32) * dimension
        found = columns(first, size) | {"embedding": pa.ListArray.from_arrays(offsets, values)}
        batches.append(pa.record_batch(found))
    geometry = "g" if "g" in batches[0].schema.names else "geometry"
    table = pa.Table.from_batches(batches).replace_schema_metadata(geo(column=geometry))
    pq.write_table(table, path, row_group_size=count)
    return path


def make_npy(folder: Path, count: int, dimension: int) -> Made:
    """An array of float16, and a CSV with the places of its rows."""
    random, path = np.random.default_rng(1), folder / "vectors.npy"
    array = np.lib.format.open_memmap(path, "w+", np.float16, (count, dimension))
    for first in range(0, count, AT_ONCE):
        part = array[first : first + AT_ONCE]
        part[:] = random.standard_normal(part.shape, np.float32)
    array.flush()
    table = folder / "places.csv"
    lines = [f"p{row},{x},{y},2024-05-01\n" for row, (x, y) in enumerate(places(0, count))]
    table.write_text("name,x,y,day\n" + "".join(lines))
    options = ["--table", str(table), "--columns", "id=name,lon=x,lat=y,start=day", "--footprint", "1000"]
    return Made("npy", [path, table], options)


def make_tessera(folder: Path, count: int, dimension: int) -> Made:
    """A tile of land alone: int8 and a scale for each pixel."""
    name, side = "grid_0.15_52.05", isqrt(count)
    random, path = np.random.default_rng(1), folder / f"{name}.npy"
    np.save(path, random.integers(1, 127, (side, side, DIMENSION_OF_PIXELS), np.int8))
    scales = folder / f"{name}_scales.npy"
    np.save(scales, random.uniform(0.01, 0.1, (side, side)).astype(np.float32))
    mask = folder / f"{name}.tiff"
    with rasterio.open(
        mask, "w", driver="GTiff", count=1, height=side, width=side, dtype="uint8", crs="EPSG:32631",
        transform=Affine(10, 0, 303000, 0, -10, 5770000),
    ) as dataset:  # fmt: skip
        dataset.write(np.ones((side, side), np.uint8), 1)
    return Made("tessera", [path, scales], ["--grid", str(mask), "--datetime", INTERVAL])


MAKERS = {"majortom": make_majortom, "parquet": make_parquet, "npy": make_npy, "tessera": make_tessera}


if __name__ == "__main__":
    main()
