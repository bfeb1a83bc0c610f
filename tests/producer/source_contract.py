"""What every source must promise, as one class of tests; a test module gives the fixture `scene`."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC

import numpy as np
import pytest

from eocat.producer.chips import tile_chips
from eocat.producer.decoders import Decoders
from eocat.producer.sources import Scene
from eocat.producer.sources.scene import PRODUCTS, SAFE_ID
from eocat.producer.windows import Windows
from eocat.verify.errors import InputError


class SourceContract:
    """Subclasses say where the scene comes from; nothing here knows its format."""

    @pytest.fixture
    def scene(self) -> Scene:
        raise NotImplementedError

    def test_its_identifier_and_product_are_plain(self, scene: Scene) -> None:
        assert SAFE_ID.fullmatch(scene.id)
        assert scene.product in PRODUCTS

    def test_its_files_are_there_and_have_portable_names(self, scene: Scene) -> None:
        names = [file.name for file in scene.files]
        assert names
        assert len(set(names)) == len(names)
        assert all(file.path.is_file() and file.path.name == file.name.split("/")[-1] for file in scene.files)
        assert not any(re.match(r"/|\.\.|[A-Za-z]:", name) or "\\" in name for name in names)

    def test_it_reads_every_band_on_the_reference_grid(self, scene: Scene) -> None:
        pixels = scene.read(scene.bands)
        assert pixels.shape == (len(scene.bands), scene.height, scene.width)
        assert pixels.dtype == np.dtype(scene.dtype)
        assert np.issubdtype(pixels.dtype, np.integer)
        assert all(band.min() < band.max() for band in pixels)

    def test_bands_come_in_the_order_asked_for(self, scene: Scene) -> None:
        backwards = scene.bands[::-1]
        assert np.array_equal(scene.read(backwards), scene.read(scene.bands)[::-1])

    def test_the_number_of_workers_changes_nothing(self, scene: Scene) -> None:
        assert np.array_equal(scene.read(scene.bands, workers=1), scene.read(scene.bands, workers=4))

    def test_its_windows_equal_what_is_read(self, scene: Scene) -> None:
        whole, size = scene.read(scene.bands), max(1, min(scene.height, scene.width) // 3)
        chips = tile_chips(scene, size=size, stride=max(1, size // 2 + 1))
        with Decoders(2) as decoders, ThreadPoolExecutor(2) as cutters:
            seen = 0
            for numbers, pixels in Windows(scene, scene.bands, chips, decoders).batches(3, cutters):
                for chip, window in zip((chips[number] for number in numbers), pixels, strict=True):
                    assert np.array_equal(window, whole[:, chip.y : chip.y + size, chip.x : chip.x + size])
                    seen += 1
        assert seen == len(chips)

    def test_a_missing_band_is_named_with_those_there_are(self, scene: Scene) -> None:
        with pytest.raises(InputError, match=rf"has no band B99, its bands are {scene.bands[0]}") as caught:
            scene.read([scene.bands[0], "B99"])
        assert caught.value.hint

    def test_times_are_utc_and_in_order_or_unknown(self, scene: Scene) -> None:
        assert (scene.start is None) == (scene.end is None)
        if scene.start and scene.end:
            assert scene.start.tzinfo is UTC
            assert scene.start <= scene.end

    def test_a_chip_of_it_lies_on_the_globe(self, scene: Scene) -> None:
        size = min(scene.height, scene.width)
        longitude, latitude = tile_chips(scene, size=size, stride=size)[0].centre
        assert -180 <= longitude <= 180
        assert -90 <= latitude <= 90
