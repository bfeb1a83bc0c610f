"""Makes small files in the true layouts of NetCDF, Major TOM Core, SSL4EO-S12, TerraMesh and Sentinel-1.

Pixels tell band, row and column apart. To look at them: `python tests/producer/make_sources.py FOLDER`.
"""

import io
import json
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
from affine import Affine
from numcodecs import Blosc
from numpy.typing import NDArray
from scipy.io import netcdf_file

LEFT, TOP, SIDE, EPSG = 400_000, 5_000_000, 48, 32633
TRANSFORM = Affine(10, 0, LEFT, 0, -10, TOP)
L2A = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
WKT = rasterio.CRS.from_epsg(EPSG).to_wkt()


def numbers(band: int, side: int = SIDE) -> NDArray[np.int64]:
    rows, columns = np.indices((side, side))
    return (1000 + band * 100 + rows * 3 + columns) % 30_000


def write_netcdf(
    path: Path,
    variables: dict[str, NDArray[Any]],
    *,
    days: list[float] | None = None,
    grid_mapping: bool = True,
    attributes: dict[str, Any] | None = None,
) -> Path:
    """NetCDF-3 with CF axes; variables (y, x), or (time, y, x) with `days` since 2020-01-01. The attribute
    `provider` is Latin-1, which is no UTF-8."""
    with netcdf_file(path, "w") as file:
        height, width = next(iter(variables.values())).shape[-2:]
        for axis, size, first, step in (("y", height, TOP - 5, -10), ("x", width, LEFT + 5, 10)):
            file.createDimension(axis, size)
            coordinate = file.createVariable(axis, "d", (axis,))
            coordinate[:] = first + step * np.arange(size)
            coordinate.standard_name = f"projection_{axis}_coordinate"
            coordinate.units = "m"
        if days is not None:
            file.createDimension("t", len(days))
            axis = file.createVariable("t", "d", ("t",))
            axis[:] = days
            axis.units, axis.standard_name = "days since 2020-01-01", "time"
        if grid_mapping:
            mapping = file.createVariable("crs", "i", ())
            mapping.crs_wkt = mapping.spatial_ref = WKT
            mapping.grid_mapping_name = "transverse_mercator"
        for name, values in variables.items():
            dimensions = ("t", "y", "x")[-values.ndim :]
            variable = file.createVariable(name, values.dtype.char, dimensions)
            variable[:] = values
            variable.provider = "Universität".encode("latin-1")
            if grid_mapping:
                variable.grid_mapping = "crs"
            for key, value in (attributes or {}).items():
                setattr(variable, key, value)
    return path


def geotiff(values: NDArray[Any], **profile: Any) -> bytes:
    """The bytes of a GeoTIFF (y, x) on the grid of all fixtures, its pixels as coarse as they are few."""
    pixel = 10 * SIDE / values.shape[-1]
    with rasterio.MemoryFile() as memory:
        with memory.open(
            driver="GTiff", count=1, height=values.shape[0], width=values.shape[1], dtype=values.dtype,
            crs=f"EPSG:{EPSG}", transform=Affine(pixel, 0, LEFT, 0, -pixel, TOP), **profile,
        ) as dataset:  # fmt: skip
            dataset.write(values, 1)
        return bytes(memory.read())


def write_core(path: Path, columns: dict[str, list[bytes]], *, product: str, group_rows: int = 1) -> Path:
    """A Parquet file as Major TOM Core has them: one row to a row group, bands as GeoTIFF."""
    count = len(next(iter(columns.values())))
    table = pa.table(
        {
            "product_id": [product] * count,
            "grid_cell": [f"{500 + i}U_100R" for i in range(count)],
            "timestamp": ["20220706T085611"] * count,
            **{name: pa.array(cells, pa.binary()) for name, cells in columns.items()},
            "thumbnail": pa.array([b"\x89PNG"] * count, pa.binary()),
        }
    )
    pq.write_table(table, path, row_group_size=group_rows)
    return path


def core_s2(
    path: Path, *, rows: int = 2, product: str = "S2B_MSIL2A_20220706T085611_N0400_R007_T38VLL"
) -> Path:
    columns = {
        band: [geotiff(numbers(i + row).astype(np.uint16)) for row in range(rows)]
        for i, band in enumerate(("B02", "B03", "B04", "B08"))
    }
    columns["B8A"] = [geotiff(numbers(9, SIDE // 2).astype(np.uint16))] * rows
    clouds = np.zeros((SIDE, SIDE), np.uint8)
    clouds[:, : SIDE // 2] = 1
    return write_core(path, columns | {"cloud_mask": [geotiff(clouds)] * rows}, product=product)


def core_s1(path: Path) -> Path:
    power = (numbers(1) / 10_000).astype(np.float32)
    power[0, 0] = 0
    columns = {"vv": [geotiff(power)], "vh": [geotiff(power / 4)]}
    return write_core(path, columns, product="S1A_IW_GRDH_1SDV_20220706T085611_20220706T085636_043_052_rtc")


def write_zarr_zip(path: Path | io.BytesIO, arrays: dict[str, tuple[tuple[str, ...], NDArray[Any]]], *,
                   chunks: dict[str, tuple[int, ...]] | None = None) -> Path | io.BytesIO:  # fmt: skip
    """A group in Zarr version 2 as xarray writes it: Blosc, C order, axes in _ARRAY_DIMENSIONS."""
    codec = Blosc(cname="lz4")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(".zgroup", '{"zarr_format": 2}')
        for name, (dimensions, values) in arrays.items():
            chunk = (chunks or {}).get(name, values.shape)
            members = {
                "zarr_format": 2, "shape": values.shape, "chunks": chunk, "dtype": values.dtype.str,
                "compressor": codec.get_config(), "fill_value": None, "order": "C", "filters": None,
            }  # fmt: skip
            attributes = {"_ARRAY_DIMENSIONS": list(dimensions)}
            archive.writestr(f"{name}/.zarray", json.dumps(members))
            archive.writestr(f"{name}/.zattrs", json.dumps(attributes))
            for place in np.ndindex(*(-(-s // c) for s, c in zip(values.shape, chunk, strict=True))):
                window = tuple(slice(p * c, (p + 1) * c) for p, c in zip(place, chunk, strict=True))
                part = np.zeros(chunk, values.dtype)
                piece = values[window]
                part[tuple(slice(0, n) for n in piece.shape)] = piece
                archive.writestr(f"{name}/{'.'.join(map(str, place)) or '0'}", bytes(codec.encode(part)))
    return path


def ssl4eo(path: Path, *, samples: int = 2, radar: bool = False) -> Path:
    """As SSL4EO-S12 v1.1: many samples of four times (two here), one chunk for each."""
    names = np.array(
        ["vv", "vh"]
        if radar
        else [f"B{n:02d}" for n in (1, 2, 3, 4, 5, 6, 7, 8)] + ["B8A", "B09", "B11", "B12"]
    )
    grids = np.stack([numbers(band) for band in range(len(names))])
    values = np.stack([np.stack([grids + 7 * s + t for t in range(2)]) for s in range(samples)])
    values = (-values / 100).astype(np.float16) if radar else values.astype(np.int16)
    moments = np.array([["2020-11-16T02:30:01", "2021-02-03T02:30:01"]] * samples, "M8[ns]")
    arrays = {
        "bands": (("sample", "time", "band", "y", "x"), values),
        "band": (("band",), names),
        "crs": (("sample",), np.full(samples, EPSG)),
        "sample_id": (
            ("sample", "time"),
            np.array([[f"{s:07d}_{t}" for t in range(2)] for s in range(samples)]),
        ),
        "time_": (("sample", "time"), moments),
        "x": (("x",), np.arange(SIDE)),
        "y": (("y",), np.arange(SIDE)),
        "x_": (("sample", "x"), np.stack([LEFT + 5.0 + 10 * np.arange(SIDE)] * samples)),
        "y_": (("sample", "y"), np.stack([TOP - 5.0 - 10 * np.arange(SIDE)] * samples)),
    }
    if not radar:
        arrays["cloud_mask"] = (("sample", "time", "y", "x"), np.zeros((samples, 2, SIDE, SIDE), np.uint8))
    write_zarr_zip(path, arrays, chunks={"bands": (1, 1, *values.shape[2:])})
    return path


def terramesh(path: Path, *, names: tuple[str, ...] = ("38D_378R_2_3", "637U_59R_1_3")) -> Path:
    """As a shard of TerraMesh: a tar of zips, each a patch of one time."""
    with tarfile.open(path, "w") as archive:
        for number, name in enumerate(names):
            bands = np.stack([numbers(band + number) for band in range(12)]).astype(np.int16)[None]
            buffer = io.BytesIO()
            write_zarr_zip(
                buffer,
                {
                    "bands": (("time", "band", "y", "x"), bands),
                    "band": (("band",), np.array(L2A)),
                    "crs": ((), np.array(EPSG)),
                    "time": (("time",), np.array(["2023-06-10T07:46:21"], "M8[ns]").astype(np.int64)),
                    "x": (("x",), LEFT + 5.0 + 10 * np.arange(SIDE)),
                    "y": (("y",), TOP - 5.0 - 10 * np.arange(SIDE)),
                },
            )
            member = tarfile.TarInfo(f"{name}.zarr.zip")
            member.size = buffer.tell()
            buffer.seek(0)
            archive.addfile(member, buffer)
    return path


def write_polarisations(
    folder: Path, stem: str, *, factor: float = 1.0, bands: tuple[str, ...] = ("VV", "VH"), **profile: Any
) -> Path:
    """A folder with a file of real numbers for each polarisation, -factor × 0.1 … as decibels are."""
    folder.mkdir(parents=True)
    for number, band in enumerate(bands):
        values = (-factor * numbers(number) / 100).astype(np.float32)
        (folder / f"{stem}_{band}.tif").write_bytes(geotiff(values, **profile))
    return folder


if __name__ == "__main__":
    target = Path(sys.argv[1])
    print(write_netcdf(target / "s2.nc", {"B02": numbers(2).astype(np.int16)}))
    print(core_s2(target / "core.parquet"), ssl4eo(target / "s.zarr.zip"), terramesh(target / "t.tar"))
