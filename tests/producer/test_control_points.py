"""Sentinel-1 as ESA delivers it, tied to the ground by points: the refusals' hints, followed to a shard."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.control import GroundControlPoint
from rasterio.shutil import copy
from rasterio.vrt import WarpedVRT
from typer.testing import CliRunner

from eocat.producer.cli import app
from eocat.producer.signer import new_key
from eocat.producer.sources import Told, find_scenes
from eocat.verify.errors import InputError

PRODUCT = "S1A_IW_GRDH_1SDV_20150203T043109_20150203T043134_004454_00574F_6D00"
SIDE = 160
LUT = 500.0  # a calibration vector's sigmaNought: backscatter is (count / LUT)²


def ground(line: float, pixel: float) -> tuple[float, float]:
    """Longitude and latitude of a place in an image: about 10 m a pixel, turned by 11° as the orbit is."""
    east, north = 0.98 * pixel - 0.19 * line, -0.98 * line - 0.19 * pixel
    return 15 + 1.3e-4 * east, 46 + 0.9e-4 * north


def deliver(path: Path, values: NDArray[np.generic]) -> Path:
    """A measurement file as in a GRD product: no grid, ground control points on WGS 84."""
    points = [
        GroundControlPoint(line, pixel, *ground(line, pixel), 100.0)
        for line in np.linspace(0, SIDE, 5)
        for pixel in np.linspace(0, SIDE, 5)
    ]
    path.parent.mkdir(exist_ok=True)
    profile = {"driver": "GTiff", "width": SIDE, "height": SIDE, "count": 1, "dtype": values.dtype}
    with rasterio.open(path, "w", gcps=points, crs="EPSG:4326", **profile) as dataset:
        dataset.write(values, 1)
    return path


def gdalwarp(source: Path, target: Path) -> None:
    """As `gdalwarp -t_srs EPSG:32633 -r near -dstnodata 0 SOURCE TARGET` does."""
    target.parent.mkdir(exist_ok=True)
    with rasterio.open(source) as dataset, WarpedVRT(dataset, crs="EPSG:32633", nodata=0) as warped:
        copy(warped, target, driver="GTiff")


def counts() -> NDArray[np.uint16]:
    rng = np.random.default_rng(1)
    values = rng.integers(40, 90, (SIDE, SIDE)).astype(np.uint16)
    values[100:104, 50:54] = 500  # a ship: 0 dB, all else below -14 dB
    return values


def refusal(path: Path, told: Told | None = None) -> InputError:
    with pytest.raises(InputError) as caught:
        find_scenes([path], told)
    return caught.value


def test_control_points_calibration_and_then_a_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    delivered = tmp_path / "delivered"
    for name in ("vv", "vh"):
        deliver(delivered / f"s1a-iw-grd-{name}-20150203t043109.tiff", counts())
    error = refusal(delivered)
    assert "25 ground control points and no grid" in str(error)
    assert "gdalwarp -tps -t_srs EPSG:… -r near -dstnodata 0 IN OUT" in (error.hint or "")
    assert "calibrate it first" in (error.hint or ""), "a grid alone leads to the next refusal: say so"

    for name in ("vv", "vh"):  # the warning ignored: counts on a grid
        gdalwarp(delivered / f"s1a-iw-grd-{name}-20150203t043109.tiff", tmp_path / "grid" / f"{name}.tif")
    error = refusal(tmp_path / "grid")
    assert "holds uint16 radar values without a unit" in str(error)
    assert "--values power" in (error.hint or "")
    assert str(refusal(tmp_path / "grid", Told(values="power"))) == str(error), "counts are never power"

    for name in ("vv", "vh"):  # the hint followed: calibrated, on a grid, told
        power = (counts().astype(np.float32) / LUT) ** 2
        source = deliver(tmp_path / "calibrated" / f"{name}.tif", power)
        gdalwarp(source, tmp_path / PRODUCT / f"{name.upper()}.tif")
    assert "nothing says whether they are decibels or linear power" in str(refusal(tmp_path / PRODUCT))
    monkeypatch.setenv("EOCAT_HOME", str(tmp_path / "home"))
    new_key("k", None)
    out = ["--collection", "c", "--out", str(tmp_path / "out"), "--key", "k", "--json"]
    command = ["produce", str(tmp_path / PRODUCT), *out, "--values", "power", "--size", "64"]
    ran = CliRunner().invoke(app, command)
    assert ran.exit_code == 0, ran.stderr
    (shard,) = json.loads(ran.stdout)["shards"]
    assert (shard["item"], shard["rows"] > 0) == (PRODUCT, True)


def test_the_grid_is_where_the_control_points_say(tmp_path: Path) -> None:
    for name in ("VV", "VH"):
        power = (counts().astype(np.float32) / LUT) ** 2
        gdalwarp(deliver(tmp_path / "in" / f"{name}.tif", power), tmp_path / PRODUCT / f"{name}.tif")
    (scene,) = find_scenes([tmp_path / PRODUCT], Told(values="power"))
    assert (scene.product, scene.crs) == ("sentinel-1", "EPSG:32633")
    (pixels,) = scene.read(["VV"])
    lines, columns = np.nonzero(pixels == 0)  # 0 dB
    grid = scene.transform
    centre = grid.c + grid.a * (columns.mean() + 0.5), grid.f + grid.e * (lines.mean() + 0.5)
    expected = Transformer.from_crs("EPSG:4326", "EPSG:32633", always_xy=True).transform(*ground(102, 52))
    assert np.hypot(*np.subtract(centre, expected)) < 10, "within a pixel"
    assert (pixels[0, 0], scene.nodata) == (-32768, -32768), "outside the image there is no data"


def test_a_product_as_downloaded_is_led_to_calibration(tmp_path: Path) -> None:
    (tmp_path / f"{PRODUCT}.SAFE").mkdir()
    error = refusal(tmp_path / f"{PRODUCT}.SAFE")
    assert "is a Sentinel-1 product" in str(error)
    assert all(word in (error.hint or "") for word in ("Calibration", "Terrain-Correction", "--values power"))
