"""The synthetic scene: it reads as a level-2A stack, says what it is, and has the statistics of land."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from source_contract import SourceContract

from eocat.producer.chips import majortom_chips
from eocat.producer.sources import Scene, find_scenes
from eocat.producer.sources.sentinel2 import L2A_BANDS
from eocat.producer.synthetic import CELL, write_scene
from eocat.verify.errors import UsageError


@pytest.fixture(scope="module")
def coast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("synthetic") / "coast.tif", seed=1, size=300)


class TestSynthetic(SourceContract):
    @pytest.fixture
    def scene(self, coast: Path) -> Scene:
        (scene,) = find_scenes([coast])
        return scene

    def test_it_says_what_it_is(self, scene: Scene) -> None:
        assert (scene.product, scene.bands, scene.offset, scene.nodata) == ("sentinel-2-l2a", L2A_BANDS, 0, 0)
        assert scene.start == datetime(2024, 6, 1, 10, 0, 31, tzinfo=UTC)
        assert dict(scene.properties) == {"gsd": 10, "eocat:synthetic": True}
        assert scene.assumptions == ()

    def test_it_has_water_crops_and_soil(self, scene: Scene) -> None:
        pixels = scene.read(scene.bands).astype(np.float64)
        green, red, nir = (pixels[L2A_BANDS.index(band)] for band in ("B03", "B04", "B08"))
        ndvi = (nir - red) / (nir + red)
        assert pixels.min() >= 1  # 0 is nodata
        assert 0.05 < (green > nir).mean() < 0.6  # water
        assert 0.15 < (ndvi > 0.6).mean() < 0.8  # green fields and woods
        assert 0.05 < ((ndvi > 0) & (ndvi < 0.3)).mean() < 0.6  # soil, stubble, town
        assert 0.002 < (pixels[1] > 3000).mean() < 0.05  # clouds

    def test_coarse_bands_are_coarse(self, scene: Scene) -> None:
        coarse = scene.read(["B01", "B05"])
        assert np.array_equal(coarse[0], coarse[0][::6, ::6].repeat(6, 0).repeat(6, 1))
        assert np.array_equal(coarse[1], coarse[1][::2, ::2].repeat(2, 0).repeat(2, 1))


def test_a_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    first, again, other = (
        write_scene(tmp_path / f"{name}.tif", seed=seed, size=128).read_bytes()
        for name, seed in (("a", 7), ("b", 7), ("c", 8))
    )
    assert first == again
    assert first != other
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "b.tif", "c.tif"]


def test_the_usual_size_holds_its_major_tom_cell(tmp_path: Path) -> None:
    (scene,) = find_scenes([write_scene(tmp_path / "coast.tif", seed=3)])
    chips = majortom_chips(scene, size=224)
    assert len(chips) == 25
    assert {chip.grid_cell for chip in chips} == {CELL}
    assert abs(chips[0].x - 26) <= 1


@pytest.mark.parametrize("size", [0, 63, 10_981])
def test_sizes_out_of_range_are_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(UsageError, match="64 to 10980 are expected"):
        write_scene(tmp_path / "a.tif", seed=1, size=size)
