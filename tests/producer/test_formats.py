"""All sources but rasters and SAFE: the contract for each, what is read, and what each refusal says."""

import json
import shutil
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
from make_sources import (
    LEFT,
    SIDE,
    TOP,
    TRANSFORM,
    core_s1,
    core_s2,
    geotiff,
    numbers,
    ssl4eo,
    terramesh,
    write_core,
    write_netcdf,
    write_polarisations,
    write_zarr_zip,
)
from source_contract import SourceContract

from eocat.producer.sources import Scene, Told, find_scenes
from eocat.verify.errors import InputError, UsageError

NAMES = ("B02", "B03", "B04", "B08")
PATCH = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57"
PATCH_S1 = "S1A_IW_GRDH_1SDV_20170613T165043_33UUP_26_57"
PRODUCT_S1 = "S1A_IW_GRDH_1SDV_20141012T233201_20141012T233226_002803_003287_1E3D"


def first(path: Path, told: Told | None = None) -> Scene:
    return find_scenes([path], told)[0]


def refusal(path: Path, told: Told | None = None) -> InputError:
    with pytest.raises(InputError) as caught:
        find_scenes([path], told)
    assert caught.value.hint
    return caught.value


def bands(count: int = 4) -> dict[str, np.ndarray]:
    return {name: numbers(i).astype(np.int16) for i, name in enumerate(NAMES[:count])}


class TestNetcdf(SourceContract):
    @pytest.fixture
    def scene(self, tmp_path: Path) -> Scene:
        return first(write_netcdf(tmp_path / "s2.nc", bands()))


class TestNetcdfSeries(SourceContract):
    @pytest.fixture
    def scene(self, tmp_path: Path) -> Scene:
        steps = {name: np.stack([values, values + 1]) for name, values in bands().items()}
        return find_scenes([write_netcdf(tmp_path / "s2.nc", steps, days=[0, 31.5])])[1]


class TestNetcdfFolder(SourceContract):
    @pytest.fixture
    def scene(self, tmp_path: Path) -> Scene:
        for name, values in bands().items():
            write_netcdf(tmp_path / f"{name}.nc", {"values": values.astype(np.float32)})
        return first(tmp_path, Told(values="dn"))


class TestCore(SourceContract):
    @pytest.fixture
    def scene(self, tmp_path: Path) -> Scene:
        return first(core_s2(tmp_path / "part_00001.parquet"))


class TestCoreRadar(SourceContract):
    @pytest.fixture
    def scene(self, tmp_path: Path) -> Scene:
        return first(core_s1(tmp_path / "part_00001.parquet"))


class TestSsl4eo(SourceContract):
    @pytest.fixture
    def scene(self, tmp_path: Path) -> Scene:
        return first(ssl4eo(tmp_path / "ssl4eos12_val_seasonal_data_000001.zarr.zip"))


class TestSsl4eoRadar(SourceContract):
    @pytest.fixture
    def scene(self, tmp_path: Path) -> Scene:
        return first(ssl4eo(tmp_path / "ssl4eos12_val_seasonal_data_000001.zarr.zip", radar=True))


class TestTerramesh(SourceContract):
    @pytest.fixture
    def scene(self, tmp_path: Path) -> Scene:
        return first(terramesh(tmp_path / "majortom_val_00001.tar"))


class TestRadarFolder(SourceContract):
    @pytest.fixture
    def scene(self, tmp_path: Path) -> Scene:
        return first(write_polarisations(tmp_path / "rtc", f"{PRODUCT_S1}_gamma0_db"))


class TestBigEarthNet(SourceContract):
    @pytest.fixture
    def scene(self, tmp_path: Path) -> Scene:
        folder = tmp_path / PATCH
        folder.mkdir()
        for number, (band, side) in enumerate((("B02", 48), ("B8A", 24), ("B01", 8), ("B12", 24))):
            (folder / f"{PATCH}_{band}.tif").write_bytes(geotiff(numbers(number, side).astype(np.uint16)))
        return first(tmp_path)

    def test_the_patch_tells_its_time(self, scene: Scene) -> None:
        assert (scene.id, scene.start) == (PATCH, datetime(2017, 6, 13, 10, 10, 31, tzinfo=UTC))
        assert "offset: 0; the files state none (products of baseline 04.00 and later hold 1000)" in (
            scene.assumptions
        )


class TestNetcdfFiles:
    def test_a_time_axis_gives_a_scene_for_each_step(self, tmp_path: Path) -> None:
        steps = {name: np.stack([values, values + 500]) for name, values in bands().items()}
        scenes = find_scenes([write_netcdf(tmp_path / "s2.nc", steps, days=[0, 31.5])])
        assert [scene.id for scene in scenes] == ["s2_20200101T000000", "s2_20200201T120000"]
        assert scenes[1].start == datetime(2020, 2, 1, 12, tzinfo=UTC)
        assert np.array_equal(scenes[1].read(["B03"])[0], numbers(1) + 500)

    def test_the_grid_is_cfs(self, tmp_path: Path) -> None:
        scene = first(write_netcdf(tmp_path / "s2.nc", bands()))
        assert (scene.crs, scene.transform.c, scene.transform.f) == ("EPSG:32633", LEFT, TOP)

    def test_an_attribute_stands_in_for_a_grid_mapping(self, tmp_path: Path) -> None:
        path = write_netcdf(
            tmp_path / "s2.nc", bands(), grid_mapping=False, attributes={"crs": "+init=epsg:32719"}
        )
        assert first(path).crs == "EPSG:32719"

    def test_without_any_reference_system_it_is_refused(self, tmp_path: Path) -> None:
        path = write_netcdf(tmp_path / "s2.nc", bands(), grid_mapping=False)
        assert "has no georeference" in str(refusal(path))

    def test_scale_and_offset_give_the_dn_offset(self, tmp_path: Path) -> None:
        path = write_netcdf(
            tmp_path / "s2.nc", bands(), attributes={"scale_factor": 0.0001, "add_offset": -0.1}
        )
        assert first(path).offset == 1000

    def test_variables_without_a_name_are_named_by_the_publisher(self, tmp_path: Path) -> None:
        path = write_netcdf(tmp_path / "s2.nc", {"nir": numbers(1).astype(np.int16)})
        assert "none names a band" in str(refusal(path))
        scene = first(path, Told(bands=("nir=B08",)))
        assert (scene.bands, scene.assumptions[0]) == (("B08",), "bands: said by the publisher")

    def test_real_numbers_need_a_meaning(self, tmp_path: Path) -> None:
        path = write_netcdf(tmp_path / "s2.nc", {"B04": (numbers(1) / 10_000).astype(np.float32)})
        error = refusal(path)
        assert "nothing says whether they are DN or reflectance" in str(error)
        assert error.hint == "say it: --values dn, --values reflectance"
        scene = first(path, Told(values="reflectance"))
        assert np.array_equal(scene.read(["B04"])[0], numbers(1))
        assert "values: reflectance, said by the publisher; rounded to int16" in scene.assumptions

    def test_what_cannot_be_read_is_left_out_and_said(self, tmp_path: Path) -> None:
        path = write_netcdf(tmp_path / "s.nc", bands() | {"S1-SIGMA0-VV": numbers(3).astype(np.int16)})
        scene = first(path)
        assert scene.bands == NAMES
        assert any(
            "S1-SIGMA0-VV holds int16 radar values without a unit" in text for text in scene.assumptions
        )

    def test_the_real_series_of_twelve_months(self, shared_data: Path) -> None:
        scenes = find_scenes([shared_data / "worldcereal_s1s2_series"])
        assert [scene.start and scene.start.month for scene in scenes] == [11, 12, *range(1, 11)]
        assert {scene.crs for scene in scenes} == {"EPSG:32631"}
        assert scenes[0].bands == ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B11", "B12")

    def test_the_real_file_with_an_attribute_that_is_no_utf8(self, shared_data: Path, tmp_path: Path) -> None:
        for name in ("blue", "green", "red", "nir"):
            shutil.copy(shared_data / "s2_patagonia_nc" / f"{name}_band.nc", tmp_path)
        scene = first(tmp_path, Told(values="dn", bands=("nir_band=B08",)))
        assert (scene.crs, scene.transform.c, scene.bands) == ("EPSG:32719", 600000, NAMES)
        assert int(scene.read(["B02"]).min()) == 1001


class TestCoreFiles:
    def test_each_row_is_a_scene_named_by_product_and_cell(self, tmp_path: Path) -> None:
        scenes = find_scenes([core_s2(tmp_path / "p.parquet", rows=3)])
        product = "S2B_MSIL2A_20220706T085611_N0400_R007_T38VLL"
        assert [scene.id for scene in scenes] == [f"{product}_{500 + i}U_100R" for i in range(3)]
        assert scenes[1].start == datetime(2022, 7, 6, 8, 56, 11, tzinfo=UTC)
        assert np.array_equal(scenes[1].read(["B04"])[0], numbers(3))

    def test_the_products_baseline_tells_the_offset(self, tmp_path: Path) -> None:
        scene = first(core_s2(tmp_path / "p.parquet"))
        assert scene.offset == 1000
        assert "offset: 1000, by the baseline 04.00 in the name" in scene.assumptions
        older = core_s2(tmp_path / "q.parquet", product="S2B_MSIL2A_20200706T085611_N0214_R007_T38VLL")
        assert first(older).offset == 0

    def test_coarse_bands_are_replicated(self, tmp_path: Path) -> None:
        pixels = first(core_s2(tmp_path / "p.parquet")).read(["B8A"])[0]
        assert np.array_equal(pixels, numbers(9, SIDE // 2).repeat(2, 0).repeat(2, 1))

    def test_its_mask_tells_the_cloud(self, tmp_path: Path) -> None:
        clouds = first(core_s2(tmp_path / "p.parquet")).clouds()
        assert clouds.share(0, 0, 24) == 1
        assert clouds.share(12, 0, 24) == 0.5

    def test_linear_power_becomes_hundredths_of_a_decibel(self, tmp_path: Path) -> None:
        scene = first(core_s1(tmp_path / "p.parquet"))
        power = numbers(1).astype(np.float32) / np.float32(10_000)
        expected = np.rint(1000 * np.log10(power.astype(np.float64))).astype(np.int16)
        expected[0, 0] = -32768
        assert (scene.product, scene.bands, scene.nodata) == ("sentinel-1", ("VV", "VH"), -32768)
        assert np.array_equal(scene.read(["VV"])[0], expected)
        assert any(text.startswith("values: power") for text in scene.assumptions)

    def test_more_rows_to_a_group_are_refused(self, tmp_path: Path) -> None:
        cells = [geotiff(numbers(1).astype(np.uint16))] * 2
        path = write_core(tmp_path / "p.parquet", {"B02": cells}, product="x", group_rows=2)
        assert "row group 0 of p.parquet has 2 rows" in str(refusal(path))

    @pytest.mark.parametrize("cell", [b"", b"no tiff", None])
    def test_a_damaged_band_is_named(self, tmp_path: Path, cell: bytes | None) -> None:
        path = write_core(tmp_path / "p.parquet", {"B02": [cell]}, product="x")  # type: ignore[list-item]
        assert "B02 in row 0 of p.parquet" in str(refusal(path))

    def test_another_parquet_file_is_refused_and_points_to_import(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"embedding": [[1.0]]}), tmp_path / "v.parquet")
        error = refusal(tmp_path / "v.parquet")
        assert "without images of Major TOM Core" in str(error)
        assert "eocat import" in (error.hint or "")

    def test_the_unpacked_tree_has_a_scene_for_each_cell(self, tmp_path: Path) -> None:
        product = "S2B_MSIL2A_20220706T085611_N0400_R007_T38VLL"
        for cell in ("500U_100R", "500U_101R"):
            folder = tmp_path / "500U" / cell / product
            folder.mkdir(parents=True)
            (folder / "B02.tif").write_bytes(geotiff(numbers(1).astype(np.uint16)))
            (folder / "cloud_mask.tif").write_bytes(geotiff(np.zeros((SIDE, SIDE), np.uint8)))
        scenes = find_scenes([tmp_path])
        assert [scene.id for scene in scenes] == [f"{product}_500U_100R", f"{product}_500U_101R"]
        assert {scene.offset for scene in scenes} == {1000}
        assert scenes[0].clouds().share(0, 0, SIDE) == 0


class TestPatches:
    def test_each_sample_and_time_is_a_scene(self, tmp_path: Path) -> None:
        scenes = find_scenes([ssl4eo(tmp_path / "s_000001.zarr.zip")])
        assert [scene.id[-9:] for scene in scenes] == ["0000000_0", "0000000_1", "0000001_0", "0000001_1"]
        assert scenes[3].start == datetime(2021, 2, 3, 2, 30, 1, tzinfo=UTC)
        assert np.array_equal(scenes[3].read(["B03"])[0], numbers(2) + 8)
        assert (scenes[0].crs, scenes[0].transform.c, scenes[0].transform.f) == ("EPSG:32633", LEFT, TOP)

    def test_ssl4eo_holds_the_offset_and_terramesh_says_that_it_may(self, tmp_path: Path) -> None:
        assert first(ssl4eo(tmp_path / "s.zarr.zip")).offset == 1000
        scene = first(terramesh(tmp_path / "t.tar"))
        assert (scene.id, scene.offset) == ("38D_378R_2_3", 0)
        assert any("TerraMesh brought some" in text for text in scene.assumptions)
        assert first(tmp_path / "t.tar", Told(offset=1000)).offset == 1000

    def test_times_of_integers_are_nanoseconds(self, tmp_path: Path) -> None:
        assert first(terramesh(tmp_path / "t.tar")).start == datetime(2023, 6, 10, 7, 46, 21, tzinfo=UTC)

    def test_half_precision_decibels(self, tmp_path: Path) -> None:
        scene = first(ssl4eo(tmp_path / "s.zarr.zip", radar=True))
        expected = np.rint((-numbers(0) / 100).astype(np.float16).astype(np.float64) * 100)
        assert np.array_equal(scene.read(["VV"])[0], expected)

    def test_a_chunk_that_claims_more_than_its_size_is_refused(self, tmp_path: Path) -> None:
        arrays = {"bands": (("band", "y", "x"), np.zeros((1, 4, 4), np.int16)), "crs": ((), np.array(32633))}
        for axis in ("x", "y"):
            arrays[axis] = ((axis,), np.arange(4.0) * (10 if axis == "x" else -10))
        path = tmp_path / "a.zarr.zip"
        write_zarr_zip(path, arrays)
        scene = first(path, Told(bands=("B02",)))
        path.write_bytes(
            path.read_bytes().replace((32).to_bytes(4, "little"), (1 << 30).to_bytes(4, "little"))
        )
        with pytest.raises(InputError, match="claims another size|cannot be unpacked"):
            scene.read(["B02"])

    @pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04"])
    def test_a_broken_zip_is_refused(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.zarr.zip").write_bytes(content)
        assert "a.zarr.zip is" in str(refusal(tmp_path / "a.zarr.zip"))

    def test_filters_that_could_run_code_are_not_read(self, tmp_path: Path) -> None:
        path = ssl4eo(tmp_path / "s.zarr.zip")
        data = path.read_bytes()
        assert b'"filters": null' in data
        with zipfile.ZipFile(tmp_path / "evil.zarr.zip", "w") as out, zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                content = archive.read(name)
                if name == "bands/.zarray":
                    members = json.loads(content) | {"filters": [{"id": "pickle"}]}
                    content = json.dumps(members).encode()
                out.writestr(name, content)
        assert "bands/.zarray cannot be read" in str(refusal(tmp_path / "evil.zarr.zip"))

    def test_a_tar_without_patches_is_refused(self, tmp_path: Path) -> None:
        shutil.make_archive(str(tmp_path / "t"), "tar", tmp_path)
        assert "holds no .zarr.zip" in str(refusal(tmp_path / "t.tar"))


class TestRadar:
    def test_a_name_that_says_db(self, tmp_path: Path) -> None:
        scene = first(write_polarisations(tmp_path / "rtc", f"{PRODUCT_S1}_gamma0_db"))
        assert np.array_equal(
            scene.read(["VV"])[0], np.rint(-numbers(0).astype(np.float32).astype(np.float64))
        )
        assert scene.start == datetime(2014, 10, 12, 23, 32, 1, tzinfo=UTC)
        assert scene.end == datetime(2014, 10, 12, 23, 32, 26, tzinfo=UTC)
        assert "values: db, by the file's name; rounded to int16" in scene.assumptions

    def test_a_name_that_says_nothing_is_refused_until_the_publisher_does(self, tmp_path: Path) -> None:
        folder = write_polarisations(tmp_path / "rtc", "gamma0", factor=-0.01)
        error = refusal(folder)
        assert "nothing says whether they are decibels or linear power" in str(error)
        assert error.hint == "say it: --values db, --values power"
        assert first(folder, Told(values="power")).read(["VV"])[0, 0, 0] == 1000 * np.log10(0.1)

    def test_bigearthnets_are_decibels(self, tmp_path: Path) -> None:
        scene = first(write_polarisations(tmp_path / PATCH_S1, PATCH_S1))
        assert (scene.id, scene.bands) == (PATCH_S1, ("VV", "VH"))
        assert scene.start == datetime(2017, 6, 13, 16, 50, 43, tzinfo=UTC)
        assert any("as this kind of file holds" in text for text in scene.assumptions)

    def test_nodata_of_the_file_and_nan_have_no_decibels(self, tmp_path: Path) -> None:
        values = np.full((SIDE, SIDE), -12.34, np.float32)
        values[0, 0], values[0, 1] = -99, np.nan
        (tmp_path / "x_VV_db.tif").write_bytes(geotiff(values, nodata=-99))
        pixels = first(tmp_path / "x_VV_db.tif").read(["VV"])[0]
        assert pixels[0, :3].tolist() == [-32768, -32768, -1234]

    def test_counts_without_calibration_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "x_VV.tif").write_bytes(geotiff(numbers(1).astype(np.uint16)))
        error = refusal(tmp_path / "x_VV.tif")
        assert "uint16 radar values without a unit" in str(error)
        assert "calibrate" in (error.hint or "")

    def test_the_real_series_is_a_scene_for_each_product(self, shared_data: Path) -> None:
        scenes = find_scenes([shared_data / "s1_disturbance_series"])
        assert len(scenes) == 98
        assert scenes[0].id == PRODUCT_S1
        assert (scenes[0].bands, scenes[0].nodata) == (("VV", "VH"), -32768)
        assert scenes[0].read(["VV"]).min() == -1075

    def test_the_real_rtc_of_terramesh_with_what_its_files_lack(self, shared_data: Path) -> None:
        folder = shared_data / "terramesh_cells" / "S1RTC"
        scenes = find_scenes([folder], Told(values="db", bands=("VV", "VH")))
        assert [scene.start and scene.start.year for scene in scenes] == [2021, 2023, 2017]
        assert {scene.product for scene in scenes} == {"sentinel-1"}


class TestEurosat:
    def test_its_multispectral_files_have_b8a_last(self, tmp_path: Path) -> None:
        folder = tmp_path / "River"
        folder.mkdir()
        with rasterio.open(
            folder / "River_7.tif", "w", driver="GTiff", count=13, height=64, width=64, dtype="uint16",
            crs="EPSG:32633", transform=TRANSFORM,
        ) as dataset:  # fmt: skip
            for band in range(1, 14):
                dataset.write(numbers(band, 64).astype(np.uint16), band)
        scene = first(tmp_path)
        assert scene.bands[-4:] == ("B10", "B11", "B12", "B8A")
        assert scene.product == "sentinel-2-l1c"
        assert np.array_equal(scene.read(["B8A"])[0], numbers(13, 64))
        assert "bands: EuroSAT's order, B8A last" in scene.assumptions


class TestTold:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"values": "volts"},
            {"offset": -1},
            {"offset": 10_001},
            {"bands": ("B13",)},
            {"bands": ("B02", "B02")},
            {"bands": ("B02", "x=B03")},
        ],
    )
    def test_what_makes_no_sense_is_refused(self, wrong: dict[str, object]) -> None:
        with pytest.raises(UsageError):
            Told(**wrong)  # type: ignore[arg-type]

    def test_an_offset_replaces_that_of_the_files_and_is_recorded(self, shared_data: Path) -> None:
        scenes = find_scenes([shared_data / "terramesh_cells" / "S2L1C"], Told(offset=1000))
        assert {scene.offset for scene in scenes} == {1000}
        assert "offset: 1000, said by the publisher; by the files it would be 0" in scenes[0].assumptions
