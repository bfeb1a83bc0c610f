"""Rasters and folders of bands as scenes: what is read, what is inferred, and what each refusal says."""

import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from source_contract import SourceContract

from eocat.producer.sources import Scene, find_scenes
from eocat.producer.sources.sentinel2 import L1C_BANDS, L2A_BANDS, band_in
from eocat.verify.errors import InputError

UTM = {"crs": "EPSG:32633", "transform": Affine(10, 0, 400000, 0, -10, 5000000)}


def write_tiff(
    path: Path,
    *,
    count: int = 12,
    side: int = 48,
    dtype: str = "uint16",
    descriptions: tuple[str, ...] | None = None,
    tags: dict[str, str] | None = None,
    scaling: tuple[float, float] | None = None,
    driver: str = "GTiff",
    **profile: Any,
) -> Path:
    """A small raster whose pixels tell band, row and column apart."""
    rows, columns = np.indices((side, side))
    options = UTM | profile
    with rasterio.open(
        path, "w", driver=driver, count=count, height=side, width=side, dtype=dtype, **options
    ) as dataset:
        for band in range(1, count + 1):
            dataset.write(((band * 10 + rows * 3 + columns) % 250 + 1).astype(dtype), band)
        if descriptions:
            dataset.descriptions = descriptions
        if scaling:
            dataset.scales, dataset.offsets = (scaling[0],) * count, (scaling[1],) * count
        dataset.update_tags(**(tags or {}))
    return path


def write_bands(folder: Path, *, steps: dict[str, int]) -> Path:
    """A folder of one-band files of 48 × 48 pixels of 10 m, or of coarser pixels by `steps`."""
    folder.mkdir()
    for band, step in steps.items():
        transform = UTM["transform"] @ Affine.scale(step)
        write_tiff(folder / f"T33_{band}.tif", count=1, side=48 // step, transform=transform)
    return folder


def write_item(folder: Path, **properties: object) -> None:
    facts = {"datetime": "2024-06-01T10:00:31Z", "s2:product_type": "S2MSI2A"} | properties
    item = {"type": "Feature", "stac_version": "1.0.0", "id": "item-1", "properties": facts}
    (folder / "item.json").write_text(json.dumps(item))


def only(path: Path) -> Scene:
    (scene,) = find_scenes([path])
    return scene


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        find_scenes([path])
    assert caught.value.hint
    return str(caught.value)


class TestStack(SourceContract):
    @pytest.fixture
    def scene(self, tmp_path: Path) -> Scene:
        return only(write_tiff(tmp_path / "stack.tif"))


class TestPixelInterleavedStack(SourceContract):
    @pytest.fixture
    def scene(self, tmp_path: Path) -> Scene:
        path = tmp_path / "stack.tif"
        return only(write_tiff(path, side=600, interleave="pixel", tiled=True, blockxsize=64, blockysize=64))


class TestRgb(SourceContract):
    @pytest.fixture
    def scene(self, tmp_path: Path) -> Scene:
        return only(write_tiff(tmp_path / "rgb.tif", count=3, dtype="uint8", photometric="RGB"))


class TestBandFolder(SourceContract):
    @pytest.fixture
    def scene(self, tmp_path: Path) -> Scene:
        return only(write_bands(tmp_path / "scene", steps={"B02": 1, "B04": 1, "B8A": 2, "B01": 6}))


class TestRealStacks:
    @pytest.mark.parametrize(
        ("folder", "product", "bands", "count"),
        [
            ("terramesh_cells/S2L1C", "sentinel-2-l1c", L1C_BANDS, 3),
            ("terramesh_cells/S2L2A", "sentinel-2-l2a", L2A_BANDS, 3),
            ("satclip_s2_patches", "sentinel-2-l2a", L2A_BANDS, 12),
        ],
    )
    def test_band_order_is_borne_out_by_the_pixels(
        self, shared_data: Path, folder: str, product: str, bands: tuple[str, ...], count: int
    ) -> None:
        """20 m bands repeat half of their pixels, 60 m bands five of six; 10 m bands few."""
        scenes = find_scenes([shared_data / folder])
        assert len(scenes) == count
        repeats = {"B01": 5 / 6, "B09": 5 / 6, "B10": 5 / 6} | dict.fromkeys(
            ("B02", "B03", "B04", "B08"), 0.0
        )
        for scene in scenes:
            assert (scene.product, scene.bands, scene.offset, scene.start) == (product, bands, 0, None)
            pixels = scene.read(bands)
            equal = (pixels[:, :, 1:] == pixels[:, :, :-1]).mean(axis=(1, 2))
            assert equal == pytest.approx([repeats.get(band, 0.5) for band in bands], abs=0.1)
            assert any("by their number" in text for text in scene.assumptions)
            assert any("offset: 0" in text for text in scene.assumptions)

    def test_rgb_of_sixteen_bits(self, shared_data: Path) -> None:
        scene = only(shared_data / "s2_denmark_rgb")
        assert scene.bands == ("red", "green", "blue")
        assert (scene.height, scene.width, scene.dtype, scene.crs) == (413, 452, "uint16", "EPSG:32632")

    def test_a_series_takes_grid_from_files_and_time_from_items(self, shared_data: Path) -> None:
        scenes = find_scenes([shared_data / "s2_series_33TWL"])
        assert [scene.start and scene.start.day for scene in scenes] == [15, 18, 10, 13, 20]
        assert [scene.id for scene in scenes] == sorted(scene.id for scene in scenes)
        scene = scenes[0]
        assert scene.start == datetime(2023, 8, 15, 9, 58, 11, 662000, UTC)
        assert (scene.crs, scene.transform.a, scene.width) == ("EPSG:32633", 120, 915)  # the Item says 10 m
        assert scene.bands == ("B02", "B03", "B04", "B08")
        assert (scene.offset, scene.nodata) == (0, 0)  # earthsearch:boa_offset_applied
        assert scene.properties["eo:cloud_cover"] == 0.20399
        assert scene.properties["gsd"] == 120
        names = {file.name.split("/")[1] for file in scene.files}
        assert {"B02.tif", "B02.tif.aux.xml", f"{scene.id}.json"} <= names
        assert scene.read(["B02"]).mean() == pytest.approx(402, abs=5)  # its side-car's own statistics: 406.6

    def test_spaces_and_commas_in_names_and_degrees(self, shared_data: Path) -> None:
        scene = only(shared_data / "s2_cape_lookout_10m")
        assert scene.bands == ("B02", "B03", "B04", "B05", "B07", "B08")
        assert (scene.product, scene.crs, scene.dtype) == ("raster", "EPSG:4326", "uint8")
        assert any("8-bit" in text for text in scene.assumptions)
        assert scene.read(["B08"]).shape == (1, 2201, 2629)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("ukis_csmask_s2", "sentinel2.npz is a NumPy archive and has no georeference"),
            ("s2_patagonia_nc", "holds float64 values, and nothing says whether they are DN or reflectance"),
            ("eurosat_rgb/River", "has no georeference"),
            ("cropharvest_togo", "has band VV 12 times: one date is expected in a file"),
            ("terramesh_cells/DEM", "has one band, and nothing says which"),
            ("geoparquet_examples", "holds no scene"),
        ],
    )
    def test_what_cannot_be_a_scene_is_refused(self, shared_data: Path, name: str, message: str) -> None:
        assert message in refusal(shared_data / name)


class TestWhatAFileSays:
    def test_descriptions_name_the_bands_in_any_order(self, tmp_path: Path) -> None:
        scene = only(write_tiff(tmp_path / "a.tif", count=3, descriptions=("B8A", "B4 - red", "b2")))
        assert scene.bands == ("B8A", "B04", "B02")
        assert scene.product == "raster"
        assert not any("bands" in text for text in scene.assumptions)

    def test_scale_and_offset_give_the_dn_offset(self, tmp_path: Path) -> None:
        scene = only(write_tiff(tmp_path / "a.tif", scaling=(0.0001, -0.1), descriptions=L2A_BANDS))
        assert (scene.product, scene.offset, scene.assumptions) == ("sentinel-2-l2a", 1000, ())

    def test_the_acquisition_time_is_a_tag_of_its_own(self, tmp_path: Path) -> None:
        tags = {"ACQUISITIONDATETIME": "2024-06-01 10:00:31", "TIFFTAG_DATETIME": "2026:01:01 00:00:00"}
        assert only(write_tiff(tmp_path / "a.tif", tags=tags)).start == datetime(
            2024, 6, 1, 10, 0, 31, tzinfo=UTC
        )

    def test_a_synthetic_file_says_so(self, tmp_path: Path) -> None:
        scene = only(write_tiff(tmp_path / "a.tif", tags={"EOCAT_SYNTHETIC": "yes"}))
        assert scene.properties["eocat:synthetic"] is True
        assert "constellation" not in scene.properties

    def test_nodata_is_read(self, tmp_path: Path) -> None:
        assert only(write_tiff(tmp_path / "a.tif", nodata=0)).nodata == 0
        assert only(write_tiff(tmp_path / "b.tif")).nodata is None

    def test_an_unsafe_name_becomes_a_safe_id_and_that_is_recorded(self, tmp_path: Path) -> None:
        scene = only(write_tiff(tmp_path / "été à l'île.tif"))
        assert scene.id == "t-l-le"
        assert any(text.startswith("id: ") for text in scene.assumptions)


class TestBands:
    @pytest.mark.parametrize(
        ("text", "band"),
        [
            ("T33_B02_10m.jp2", "B02"),
            ("2018-10-13, Sentinel-2B L1C, B08.tiff", "B08"),
            ("B8A", "B8A"),
            ("b1", "B01"),
            ("AB02", None),
            ("B13", None),
            ("B020", None),
            ("B02-B03", None),
            ("SCL.tif", None),
        ],
    )
    def test_a_name_tells_its_band(self, text: str, band: str | None) -> None:
        assert band_in(text) == band

    def test_coarse_bands_are_replicated_exactly(self, tmp_path: Path) -> None:
        folder = write_bands(tmp_path / "scene", steps={"B02": 1, "B05": 2, "B01": 6})
        pixels = only(folder).read(["B02", "B05", "B01"])
        for band, step in enumerate((1, 2, 6)):
            with rasterio.open(folder / f"T33_{('B02', 'B05', 'B01')[band]}.tif") as dataset:
                own = dataset.read(1)
            assert np.array_equal(pixels[band], own[np.ix_(np.arange(48) // step, np.arange(48) // step)])

    @pytest.mark.parametrize(
        ("baseline", "applied", "offset"),
        [
            ("05.09", True, 0),
            ("05.09", False, 1000),
            ("05.09", None, 1000),
            ("03.01", None, 0),
            (None, None, 0),
        ],
    )
    def test_the_item_tells_the_offset(
        self, tmp_path: Path, baseline: str | None, applied: bool | None, offset: int
    ) -> None:
        folder = write_bands(tmp_path / "scene", steps={"B02": 1})
        facts = {"s2:processing_baseline": baseline, "earthsearch:boa_offset_applied": applied}
        write_item(folder, **{key: value for key, value in facts.items() if value is not None})
        scene = only(folder)
        assert (scene.id, scene.product, scene.offset) == ("item-1", "sentinel-2-l2a", offset)

    def test_a_folder_of_stacks_is_a_scene_each_in_the_order_of_ids(self, tmp_path: Path) -> None:
        for name in ("b", "a", "c"):
            write_tiff(tmp_path / f"{name}.tif")
        assert [scene.id for scene in find_scenes([tmp_path])] == ["a", "b", "c"]


class TestRefusals:
    def test_no_reference_system(self, tmp_path: Path) -> None:
        assert "has no georeference" in refusal(write_tiff(tmp_path / "a.tif", crs=None))

    def test_ground_control_points_only(self, tmp_path: Path) -> None:
        points = [GroundControlPoint(row, col, col, row) for row, col in ((0, 0), (0, 9), (9, 0), (9, 9))]
        path = write_tiff(tmp_path / "a.tif", crs="EPSG:4326", transform=None, gcps=points)
        assert "ground control points and no grid" in refusal(path)

    def test_a_rotated_grid(self, tmp_path: Path) -> None:
        assert "rotated" in refusal(write_tiff(tmp_path / "a.tif", transform=Affine(10, 2, 4e5, 2, -10, 5e6)))

    def test_reals(self, tmp_path: Path) -> None:
        assert "holds float32 values" in refusal(write_tiff(tmp_path / "a.tif", dtype="float32"))

    def test_an_unknown_number_of_bands(self, tmp_path: Path) -> None:
        assert "has 5 bands" in refusal(write_tiff(tmp_path / "a.tif", count=5))

    def test_a_single_band_file_of_a_scene(self, tmp_path: Path) -> None:
        assert "holds band B02 alone" in refusal(write_tiff(tmp_path / "x_B02.tif", count=1))

    def test_another_scale(self, tmp_path: Path) -> None:
        assert "scale 2.75e-05" in refusal(write_tiff(tmp_path / "a.tif", scaling=(2.75e-5, -0.2)))

    def test_a_broken_time(self, tmp_path: Path) -> None:
        assert "ACQUISITIONDATETIME" in refusal(
            write_tiff(tmp_path / "a.tif", tags={"ACQUISITIONDATETIME": "soon"})
        )

    def test_an_empty_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.tif").touch()
        assert "a.tif is empty (0 bytes)" in refusal(tmp_path / "a.tif")

    def test_a_cut_header(self, tmp_path: Path) -> None:
        path = write_tiff(tmp_path / "a.tif")
        path.write_bytes(path.read_bytes()[:60])
        assert "a.tif cannot be opened" in refusal(path)

    def test_cut_pixels(self, tmp_path: Path) -> None:
        scene = only(write_tiff(tmp_path / "a.tif", side=300))
        os.truncate(tmp_path / "a.tif", 500_000)
        with pytest.raises(
            InputError, match=r"a\.tif of scene a cannot be decoded: it is damaged or cut off"
        ):
            scene.read(scene.bands)

    def test_a_virtual_dataset_that_reaches_elsewhere(self, tmp_path: Path) -> None:
        """GDAL would follow a VRT under any suffix to files and hosts that nobody hashed."""
        (tmp_path / "a.tif").write_text('<VRTDataset rasterXSize="4" rasterYSize="4"></VRTDataset>')
        assert "cannot be opened as GTiff" in refusal(tmp_path / "a.tif")

    @pytest.mark.parametrize("name", ["notes.txt", "a.nc", "a.npz", "a"])
    def test_another_type_of_file(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("x")
        assert name in refusal(tmp_path / name)

    def test_nothing_there(self, tmp_path: Path) -> None:
        assert "does not exist" in refusal(tmp_path / "nowhere")
        assert "holds no scene" in refusal(tmp_path)

    def test_one_scene_twice(self, tmp_path: Path) -> None:
        path = write_tiff(tmp_path / "a.tif")
        with pytest.raises(InputError, match="scene a comes twice"):
            find_scenes([path, path])

    def test_two_files_for_one_band(self, tmp_path: Path) -> None:
        folder = write_bands(tmp_path / "scene", steps={"B02": 1})
        shutil.copy(folder / "T33_B02.tif", folder / "T33_B2_copy.tif")
        assert "has band B02 twice: T33_B02.tif and T33_B2_copy.tif" in refusal(folder)

    @pytest.mark.parametrize(
        ("defect", "other"),
        [
            ("another zone", {"crs": "EPSG:32634"}),
            ("another corner", {"transform": Affine(10, 0, 400010, 0, -10, 5000000)}),
            ("another extent", {"side": 47}),
            ("pixels that do not nest", {"transform": Affine(15, 0, 400000, 0, -15, 5000000), "side": 32}),
        ],
    )
    def test_bands_on_different_grids(self, tmp_path: Path, defect: str, other: dict[str, Any]) -> None:
        folder = write_bands(tmp_path / "scene", steps={"B02": 1})
        write_tiff(folder / "T33_B03.tif", count=1, **other)
        assert "does not lie on the grid of" in refusal(folder), defect

    def test_bands_of_different_types(self, tmp_path: Path) -> None:
        folder = write_bands(tmp_path / "scene", steps={"B02": 1})
        write_tiff(folder / "T33_B03.tif", count=1, dtype="int16")
        assert "holds int16 values, T33_B02.tif holds uint16" in refusal(folder)

    def test_two_items_beside_one_scene(self, tmp_path: Path) -> None:
        folder = write_bands(tmp_path / "scene", steps={"B02": 1})
        write_item(folder)
        shutil.copy(folder / "item.json", folder / "other.json")
        assert "holds 2 STAC Items" in refusal(folder)

    def test_an_item_that_is_no_json(self, tmp_path: Path) -> None:
        folder = write_bands(tmp_path / "scene", steps={"B02": 1})
        (folder / "item.json").write_text('{"type": "Feature", "type": "x"}')
        with pytest.raises(InputError, match=r"item\.json beside the bands cannot be read"):
            find_scenes([folder])

    @pytest.mark.parametrize("time", ["2024-06-01", "2024-06-01T10:00:31", "yesterday"])
    def test_an_item_time_without_its_zone(self, tmp_path: Path, time: str) -> None:
        folder = write_bands(tmp_path / "scene", steps={"B02": 1})
        write_item(folder, datetime=time)
        with pytest.raises(InputError, match="has the time"):
            find_scenes([folder])
