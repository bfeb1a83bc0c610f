"""What every encoder promises (DESIGN section 3): a subclass names the encoder and gets the tests.

A recomputation is compared under the encoder's own tolerance; `bits` means equal bytes.
"""

import numpy as np
import pytest
from numpy.typing import NDArray

from eocat.producer.encoders import Encoder
from eocat.producer.encoders.precision import tolerance_of
from eocat.verify.canonical import encode
from eocat.verify.errors import InputError


def draw_pixels(encoder: Encoder, count: int, size: int, *, seed: int = 0) -> NDArray[np.uint8 | np.uint16]:
    """Smooth seeded chips (N, C, size, size) in the range of the encoder's sensor."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(300, 4000, (count, len(encoder.bands), -(-size // 8), -(-size // 8)))
    pixels = np.kron(coarse, np.ones((8, 8), np.int64))[..., :size, :size] + rng.integers(
        0, 200, (count, len(encoder.bands), size, size)
    )
    eight_bits = encoder.preprocess["input"] == "uint8"
    return (pixels // 17).astype(np.uint8) if eight_bits else pixels.astype(np.uint16)


class EncoderContract:
    """Subclasses give the fixture `encoder`."""

    @pytest.fixture
    def pixels(self, encoder: Encoder) -> NDArray[np.uint8 | np.uint16]:
        return draw_pixels(encoder, 5, max(24, encoder.min_size))

    def assert_same(
        self, encoder: Encoder, found: NDArray[np.float16], expected: NDArray[np.float16]
    ) -> None:
        if encoder.tolerance["kind"] == "bits":
            assert found.tobytes() == expected.tobytes()
            return
        assert encoder.tolerance["kind"] == "cosine"
        a, b = found.astype(np.float64), expected.astype(np.float64)
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert (1 - cosine).max() * 1e9 <= encoder.tolerance["parts_per_billion"]

    def test_it_says_what_it_is(self, encoder: Encoder) -> None:
        assert encoder.name
        assert encoder.version
        assert encoder.licence
        assert len(set(encoder.bands)) == len(encoder.bands) > 0
        assert all(len(part.sha256) == len(part.blake3) == 64 and part.size > 0 for part in encoder.weights)

    def test_its_tolerance_is_that_of_its_precision(self, encoder: Encoder) -> None:
        assert encoder.tolerance == tolerance_of(encoder.precision)

    def test_config_and_preprocess_are_canonical_json_without_floats(self, encoder: Encoder) -> None:
        for value in (encoder.config, encoder.preprocess, encoder.tolerance):
            assert encode(value)
            assert "float" not in {type(leaf).__name__ for leaf in _leaves(value)}

    def test_one_finite_row_of_the_dimension_and_dtype_for_each_chip(
        self, encoder: Encoder, pixels: NDArray[np.uint16]
    ) -> None:
        vectors = encoder.encode(pixels, offset=0)
        assert vectors.shape == (len(pixels), encoder.dimension)
        assert vectors.dtype == np.dtype(encoder.dtype)
        assert np.isfinite(vectors).all()
        assert (np.linalg.norm(vectors.astype(np.float64), axis=1) > 0).all()
        assert len(np.unique(vectors, axis=0)) == len(pixels)

    def test_no_chips_give_no_rows(self, encoder: Encoder, pixels: NDArray[np.uint16]) -> None:
        assert encoder.encode(pixels[:0], offset=0).shape == (0, encoder.dimension)

    def test_a_second_run_gives_the_same_rows(self, encoder: Encoder, pixels: NDArray[np.uint16]) -> None:
        self.assert_same(encoder, encoder.encode(pixels, offset=0), encoder.encode(pixels, offset=0))

    def test_a_chip_has_the_same_row_in_any_batch(self, encoder: Encoder, pixels: NDArray[np.uint16]) -> None:
        alone = np.concatenate([encoder.encode(chip[None], offset=0) for chip in pixels])
        self.assert_same(encoder, encoder.encode(pixels, offset=0), alone)
        self.assert_same(encoder, encoder.encode(pixels[::-1], offset=0)[::-1], alone)

    def test_the_pixels_are_left_alone(self, encoder: Encoder, pixels: NDArray[np.uint16]) -> None:
        before = pixels.copy()
        encoder.encode(pixels, offset=0)
        assert np.array_equal(before, pixels)

    def test_pixels_with_a_band_too_few_are_refused(
        self, encoder: Encoder, pixels: NDArray[np.uint16]
    ) -> None:
        with pytest.raises(InputError, match="found"):
            encoder.encode(pixels[:, 1:], offset=0)

    def test_chips_below_the_smallest_size_are_refused(
        self, encoder: Encoder, pixels: NDArray[np.uint16]
    ) -> None:
        with pytest.raises(InputError, match="found"):
            encoder.encode(pixels[..., : encoder.min_size - 1, :], offset=0)


def _leaves(value: object) -> list[object]:
    if isinstance(value, dict):
        return [leaf for part in value.values() for leaf in _leaves(part)]
    if isinstance(value, list):
        return [leaf for part in value for leaf in _leaves(part)]
    return [value]
