"""Makes small files of published embeddings in their true layouts (FORMATS.md, 4.2 and 4.5), vectors drawn.

Run it to look at them: `python tests/producer/make_embeddings.py FOLDER`.
"""

import json
import struct
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
from affine import Affine
from pyproj import CRS, Transformer

from eocat.producer.grid import cell_named
from eocat.verify.geometry import format_wkb

OFFSETS = (0, 211, 422, 633, 844)


def vectors(count: int, dimension: int = 8, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)


def square(lon: float, lat: float, side: float = 0.01) -> bytes:
    ring = [[lon, lat], [lon + side, lat], [lon + side, lat + side], [lon, lat + side], [lon, lat]]
    return format_wkb({"type": "Polygon", "coordinates": [ring]})


def point(lon: float, lat: float, order: str = "<") -> bytes:
    return struct.pack(f"{order}BIdd", 1 if order == "<" else 0, 1, lon, lat)


def geo(crs: str = "OGC:CRS84", column: str = "geometry") -> dict[bytes, bytes]:
    """GeoParquet metadata as geopandas writes it."""
    about = {"encoding": "WKB", "geometry_types": ["Polygon"], "crs": CRS.from_user_input(crs).to_json_dict()}
    return {
        b"geo": json.dumps(
            {"version": "1.0.0", "primary_column": column, "columns": {column: about}}
        ).encode()
    }


def write_majortom(
    path: Path,
    *,
    cells: Sequence[str] = ("637U_59R", "637U_60R"),
    transposed: bool = True,
    dimension: int = 8,
) -> Path:
    """As the published sets: 25 fragments of 224 pixels to a cell, line by line; transposed as they are."""
    rows = []
    for cell_name in cells:
        cell = cell_named(cell_name)
        crs = f"EPSG:{cell.epsg}"
        east, north = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(cell.west, cell.south)
        to_lonlat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
        for line in OFFSETS:
            for column in OFFSETS:
                x, y = (line, column) if transposed else (column, line)
                left, top = east - 340 + 10 * x, north - 340 + 10_680 - 10 * y
                right, bottom = left + 2240, top - 2240
                box = [(left, bottom), (right, bottom), (right, top), (left, top), (left, bottom)]
                ring = [list(to_lonlat.transform(*corner)) for corner in box]
                rows.append(
                    {
                        "unique_id": f"{cell_name}-{line}-{column}",
                        "timestamp": "20220706T085611",
                        "product_id": f"S2B_MSIL2A_20220706T085611_N0400_R007_T32VNH_{cell_name}",
                        "grid_cell": cell_name,
                        "grid_row_u": cell.row,
                        "grid_col_r": cell.column,
                        "geometry": format_wkb({"type": "Polygon", "coordinates": [ring]}),
                        "centre_lat": float(np.mean([p[1] for p in ring[:4]])),
                        "centre_lon": float(np.mean([p[0] for p in ring[:4]])),
                        "utm_footprint": "POLYGON ((" + ", ".join(f"{a} {b}" for a, b in box) + "))",
                        "utm_crs": crs,
                        "pixel_bbox": [x, y, x + 224, y + 224],
                    }
                )
    table = pa.Table.from_pylist(rows)
    return _write(path, table, vectors(len(rows), dimension), "embedding", geo())


def write_clay(path: Path, *, count: int = 6) -> Path:
    """As Clay v0: source_url, date, embeddings, geometry."""
    table = pa.table(
        {
            "source_url": [f"s3://clay/chip_{i}.tif" for i in range(count)],
            "date": pa.array([date(2022, 6, 10)] * count),
            "geometry": [square(-166 + i / 50, 65) for i in range(count)],
        }
    )
    return _write(path, table, vectors(count), "embeddings", geo())


def write_earth_index(path: Path, *, count: int = 6, dimension: int = 384) -> Path:
    """As Earth Index: fixed-size lists, and the footer key `emb`."""
    emb = {
        "version": "0.0.1",
        "model": {"id": "dinov2_vits14_softcon", "version": "2.0.0"},
        "license": "CC-BY-4.0",
        "start_datetime": "2023-01-01T00:00:00Z",
        "end_datetime": "2024-01-01T00:00:00Z",
        "embedding": {"dim": dimension, "quantization": "None"},
    }
    table = pa.table(
        {
            "id": [f"21MNT_{i}" for i in range(count)],
            "geometry": [square(-59 + i / 50, -7) for i in range(count)],
        }
    )
    kind = pa.list_(pa.float32(), dimension)
    values = pa.FixedSizeListArray.from_arrays(pa.array(vectors(count, dimension).ravel()), type=kind)
    metadata = geo("EPSG:4326") | {b"emb": json.dumps(emb).encode()}
    pq.write_table(table.append_column("embedding", values).replace_schema_metadata(metadata), path)
    return path


def _write(path: Path, table: pa.Table, rows: np.ndarray, name: str, metadata: dict[bytes, bytes]) -> Path:
    table = table.append_column(name, pa.array(rows.tolist(), pa.list_(pa.float32())))
    pq.write_table(table.replace_schema_metadata(metadata), path)
    return path


def write_tessera(folder: Path, *, year: int = 2023, side: int = 12, dimension: int = 4) -> Path:
    """As TESSERA: year/tile/tile.npy and _scales.npy, landmasks/tile.tiff with water in its first line."""
    name = "grid_0.15_52.05"
    tile = folder / str(year) / name
    tile.mkdir(parents=True)
    rng = np.random.default_rng(3)
    np.save(tile / f"{name}.npy", rng.integers(1, 127, (side, side, dimension), np.int8))
    np.save(tile / f"{name}_scales.npy", rng.uniform(0.01, 0.1, (side, side)).astype(np.float32))
    (folder / "landmasks").mkdir()
    land = np.ones((side, side), np.uint8)
    land[0] = 0
    with rasterio.open(
        folder / "landmasks" / f"{name}.tiff", "w", driver="GTiff", count=1, height=side, width=side,
        dtype="uint8", crs="EPSG:32631", transform=Affine(10, 0, 303000, 0, -10, 5770000),
    ) as dataset:  # fmt: skip
        dataset.write(land, 1)
    return tile / f"{name}.npy"


def write_cells(folder: Path, *, cells: Sequence[str] = ("637U_59R", "637U_60R"), side: int = 5) -> Path:
    """As MMEarth's dense set: a flat float32 file and metadata.parquet that says which cell is where."""
    folder.mkdir(parents=True)
    values = np.random.default_rng(5).normal(size=(len(cells), side, side, 3)).astype(np.float32)
    values.tofile(folder / "part_0.dat")
    table = pa.table(
        {
            "file_name": ["part_0.dat"] * len(cells),
            "file_index": list(range(len(cells))),
            "grid_cell": list(cells),
            "product_id": [f"product_{i}" for i in range(len(cells))],
            "timestamp": ["20220706T085611"] * len(cells),
        }
    )
    pq.write_table(table, folder / "metadata.parquet")
    return folder / "metadata.parquet"


def write_array(folder: Path, *, count: int = 7) -> tuple[Path, Path]:
    """An array of vectors and a CSV with their places."""
    np.save(folder / "vectors.npy", vectors(count))
    lines = ["name,x,y,day"] + [f"p{i},{10 + i / 100},{45},2024-05-0{i + 1}" for i in range(count)]
    (folder / "places.csv").write_text("\n".join(lines) + "\n")
    return folder / "vectors.npy", folder / "places.csv"


if __name__ == "__main__":
    target = Path(sys.argv[1])
    print(write_majortom(target / "majortom.parquet"), write_clay(target / "clay.parquet"))
    print(write_earth_index(target / "earth_index.parquet"), write_tessera(target / "tessera"))
