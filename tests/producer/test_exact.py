"""The exact encoder: the same integers and the same bytes by every path, and close to float MOSAIKS."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from encoder_contract import EncoderContract, draw_pixels
from numpy.typing import NDArray

from eocat.producer.encoders import Encoder, load_encoder
from eocat.producer.encoders import bank as banks
from eocat.producer.encoders.bank import BAND_SETS, BANKS, Bank, format_bank, parse_bank, read_bank
from eocat.producer.encoders.exact import ExactEncoder, normalise
from eocat.producer.encoders.fit_bank import Fit, build_bank, fit, shift_pixels
from eocat.verify.digest import digest_bytes
from eocat.verify.errors import ConfigError, InputError, Malformed, UsageError

FACTS = {"version": "0", "licence": "CC0-1.0", "depth": 16}


def tiny_fit(seed: int = 0, *, size: int = 2, count: int = 8) -> Fit:
    """Extreme filters on the 10 m bands: weights of ±63 and band shifts both ways."""
    rng = np.random.default_rng(seed)
    filters = rng.choice(np.array([-63, -1, 0, 2, 63], np.int8), (size, size, 4, count))
    offsets = np.array([900, 0, 1200, 2500], np.int32)
    return Fit(filters, offsets, np.array([3, 0, -1, -2], np.int8), filters.astype(np.float64))


def to_bank(fitted: Fit) -> Bank:
    data = build_bank("exact-s2-10m", fitted, FACTS)
    return parse_bank(data, sha256=digest_bytes(data).sha256)


def slow_vector(chip: NDArray[np.uint16], bank: Bank, offset: int) -> list[float]:
    """The definition in Python integers, with roots by exact rational comparison."""
    size, _, channels, count = bank.filters.shape
    _, height, width = chip.shape

    def pixel(c: int, row: int, column: int) -> int:
        x = max(int(chip[c, row, column]) - offset, 0) - int(bank.offsets[c])
        shift = int(bank.shifts[c])
        x = x << shift if shift >= 0 else x >> -shift
        return min(max(x, -16384), 16383)

    sums = [0] * (2 * count)
    for row in range(height - size + 1):
        for column in range(width - size + 1):
            for f in range(count):
                y = sum(
                    int(bank.filters[dy, dx, c, f]) * pixel(c, row + dy, column + dx)
                    for dy in range(size)
                    for dx in range(size)
                    for c in range(channels)
                )
                sums[f if y > 0 else count + f] += abs(y)
    return [nearest_half(Fraction(s, sum(sums))) for s in sums]


def nearest_half(square: Fraction) -> float:
    """The float16 nearest to the root of `square`, among all of 0..1, by comparing squares exactly."""
    near = np.float16(math.sqrt(square))
    candidates = [np.nextafter(near, np.float16(0)), near, np.nextafter(near, np.float16(2))]
    for below, above in pairwise(candidates):
        middle = (Fraction(float(below)) + Fraction(float(above))) / 2
        if square < middle * middle:
            return float(below)
    return float(candidates[-1])


@pytest.mark.parametrize("kernel", ["int8", "float64"])
@pytest.mark.parametrize("offset", [0, 1000])
def test_vectors_are_those_of_the_definition_in_python_integers(kernel: str, offset: int) -> None:
    bank = to_bank(tiny_fit())
    chips = np.random.default_rng(1).integers(0, 9000, (2, 4, 7, 6)).astype(np.uint16)
    chips[1] = np.where(chips[1] > 4500, 65535, 0)  # both ends of the 15 bits
    found = ExactEncoder(bank, device="cpu", kernel=kernel).encode(chips, offset=offset)  # type: ignore[arg-type]
    assert found.tolist() == [slow_vector(chip, bank, offset) for chip in chips]


class TestContractL1C(EncoderContract):
    @pytest.fixture
    def encoder(self) -> Encoder:
        return load_encoder("exact", BAND_SETS["exact-s2-l1c"], device="cpu")


class TestContractRGB(EncoderContract):
    @pytest.fixture
    def encoder(self) -> Encoder:
        return load_encoder("exact", BAND_SETS["exact-rgb"], device="cpu")


class TestContractS1(EncoderContract):
    @pytest.fixture
    def encoder(self) -> Encoder:
        return load_encoder("exact", BAND_SETS["exact-s1"], device="cpu")


def test_decibels_below_zero_count_and_have_no_offset() -> None:
    encoder = load_encoder("exact-s1", BAND_SETS["exact-s1"], device="cpu")
    dark = draw_pixels(encoder, 1, 24)
    brighter = (dark // 2).astype(np.int16)
    assert dark.max() < 0
    assert not np.array_equal(encoder.encode(dark, offset=0), encoder.encode(brighter, offset=0))
    with pytest.raises(InputError, match="be 0 for decibels"):
        encoder.encode(dark, offset=1000)


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8 | np.uint16]:
    return draw_pixels(load_encoder("exact-s2-l2a", BAND_SETS["exact-s2-l2a"], device="cpu"), 3, 70)


@pytest.fixture(scope="module")
def expected(pixels: NDArray[np.uint16]) -> bytes:
    return ExactEncoder(read_bank("exact-s2-l2a"), device="cpu").encode(pixels, offset=0).tobytes()


@pytest.mark.parametrize("kernel", ["int8", "float64"])
@pytest.mark.parametrize("block_rows", [1, 100, 1 << 16])
def test_kernel_and_block_size_do_not_change_a_bit(
    kernel: str, block_rows: int, pixels: NDArray[np.uint16], expected: bytes
) -> None:
    bank = read_bank("exact-s2-l2a")
    encoder = ExactEncoder(bank, device="cpu", kernel=kernel, block_rows=block_rows)  # type: ignore[arg-type]
    assert encoder.encode(pixels, offset=0).tobytes() == expected


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_do_not_change_a_bit(threads: int, pixels: NDArray[np.uint16], expected: bytes) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        encoder = ExactEncoder(read_bank("exact-s2-l2a"), device="cpu")
        assert encoder.encode(pixels, offset=0).tobytes() == expected
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="NOT RUN: torch sees no CUDA device")
@pytest.mark.parametrize("kernel", ["int8", "float64"])
def test_cuda_gives_the_bits_of_the_cpu(kernel: str, pixels: NDArray[np.uint16], expected: bytes) -> None:
    encoder = ExactEncoder(read_bank("exact-s2-l2a"), device="cuda", kernel=kernel)  # type: ignore[arg-type]
    assert encoder.encode(pixels, offset=0).tobytes() == expected


def test_strides_and_integer_types_of_the_pixels_do_not_change_a_bit(
    pixels: NDArray[np.uint16], expected: bytes
) -> None:
    encoder = ExactEncoder(read_bank("exact-s2-l2a"), device="cpu")
    for same in (np.asfortranarray(pixels), pixels.astype(">u2"), pixels.astype(np.int16)):
        assert encoder.encode(same, offset=0).tobytes() == expected


def test_a_baseline_offset_of_1000_is_taken_off_and_clamped(
    pixels: NDArray[np.uint16], expected: bytes
) -> None:
    encoder = ExactEncoder(read_bank("exact-s2-l2a"), device="cpu")
    assert encoder.encode(pixels + np.uint16(1000), offset=1000).tobytes() == expected
    below = np.full_like(pixels[:1], 400)
    assert np.array_equal(encoder.encode(below, offset=1000), encoder.encode(below * 0, offset=0))


def synthetic_image(bands: int, size: int, seed: int) -> NDArray[np.int32]:
    """A correlated random field (C, size, size) with DN like Sentinel-2's: 1/f noise, bands that follow."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size))) + 1 / size
    fields = [np.fft.ifft2(np.fft.fft2(rng.normal(size=(size, size))) / frequency).real for _ in range(3)]
    mixed = np.tensordot(rng.uniform(0.2, 1, (bands, 3)), np.stack([f / f.std() for f in fields]), 1)
    return (1800 + 500 * mixed + rng.normal(0, 20, mixed.shape)).clip(0, 10000).astype(np.int32)


def test_int7_filters_stay_within_a_thousandth_of_float64_mosaiks() -> None:
    fitted = fit([synthetic_image(4, 128, seed) for seed in range(3)], size=3, count=64, bias=0.1, seed=0)
    chip = synthetic_image(4, 64, 9)
    x = shift_pixels(chip, fitted.offsets, fitted.shifts).astype(np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2)).transpose(1, 2, 3, 4, 0)
    y = windows.reshape(-1, 36) @ fitted.exact_filters.reshape(36, -1)
    float_vector = np.sqrt(np.concatenate([np.maximum(y, 0).sum(0), np.maximum(-y, 0).sum(0)]))
    bank = to_bank(fitted)
    vector = ExactEncoder(bank, device="cpu").encode(chip[None], offset=0)[0].astype(np.float64)
    cosine = vector @ float_vector / np.linalg.norm(vector) / np.linalg.norm(float_vector)
    assert cosine > 0.999


def test_normalising_is_the_root_of_the_share_rounded_once() -> None:
    sums = np.array([1, 2**52, 3, 0, 10**15, 7], np.int64)
    total = Fraction(int(sums.sum()))
    assert normalise(sums).tolist() == [nearest_half(Fraction(int(s)) / total) for s in sums]


def test_float64_is_rounded_to_float16_once() -> None:
    """1 + 2^-11 + 2^-30 lies above a tie; through float32 it would fall on it and round down."""
    assert np.float64(1 + 2**-11 + 2**-30).astype(np.float16) == np.float16(1 + 2**-10)


def test_a_chip_without_any_response_is_refused_with_its_row() -> None:
    bank = to_bank(tiny_fit())
    chips = np.random.default_rng(2).integers(0, 5000, (3, 4, 8, 8)).astype(np.uint16)
    chips[1] = bank.offsets[:, None, None]
    with pytest.raises(InputError, match="row 1 has no vector"):
        ExactEncoder(bank, device="cpu").encode(chips, offset=0)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("exact-rgb", np.uint16), ("exact-s2-l2a", np.uint8), ("exact-s2-l2a", np.float32),
     ("exact-s2-l2a", np.int64)],
)  # fmt: skip
def test_pixels_of_another_depth_are_refused(name: str, dtype: type) -> None:
    encoder = load_encoder(name, BAND_SETS[name], device="cpu")
    with pytest.raises(InputError, match="must be uint"):
        encoder.encode(np.ones((1, len(encoder.bands), 16, 16), dtype), offset=0)


@pytest.mark.parametrize("name", sorted(BAND_SETS))
def test_exact_takes_the_bank_that_reads_all_bands_of_the_scene(name: str) -> None:
    encoder = load_encoder("exact", BAND_SETS[name], device="cpu")
    assert (encoder.name, encoder.bands, encoder.dimension) == (name, BAND_SETS[name], 512)
    assert encoder.weights[0].sha256 == BANKS[name]


def test_missing_bands_are_named() -> None:
    with pytest.raises(InputError, match="exact-s2-10m needs the band B08"):
        load_encoder("exact", ["B02", "B03", "B04"], device="cpu")
    with pytest.raises(InputError, match="exact-s2-l1c needs the band B10"):
        load_encoder("exact-s2-l1c", BAND_SETS["exact-s2-l2a"], device="cpu")
    with pytest.raises(UsageError, match="no encoder is named"):
        load_encoder("exact-s3", ["Oa01"], device="cpu")


def test_a_bank_with_one_flipped_bit_is_refused() -> None:
    bank = to_bank(tiny_fit())
    data = bytearray(build_bank("exact-s2-10m", tiny_fit(), FACTS))
    data[-1] ^= 1
    with pytest.raises(Malformed, match=f"expected {bank.file.sha256}"):
        parse_bank(bytes(data), sha256=bank.file.sha256)


def test_a_pinned_bank_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(banks.BANKS, "exact-rgb", "0" * 64)
    with pytest.raises(Malformed, match=r"exact-rgb-000000000000\.safetensors is not in this installation"):
        read_bank("exact-rgb")


def test_a_weight_that_could_saturate_is_refused() -> None:
    fitted = tiny_fit()
    fitted.filters[0, 0, 0, 0] = 64
    with pytest.raises(Malformed, match=r"must lie in -63\.\.63"):
        to_bank(fitted)


def test_a_wrong_known_answer_stops_the_load() -> None:
    fitted = tiny_fit()
    facts = {
        "name": "exact-s2-10m",
        "bands": list(BAND_SETS["exact-s2-10m"]),
        "known_answer": "0" * 64,
        **FACTS,
    }
    data = format_bank(fitted.filters, fitted.offsets, fitted.shifts, facts)
    with pytest.raises(
        ConfigError, match="exact arithmetic fails on cpu: (int8|float64) gives wrong sums; .* wrong"
    ):
        ExactEncoder(parse_bank(data, sha256=digest_bytes(data).sha256), device="cpu")


def test_a_bank_s_bytes_depend_on_values_alone() -> None:
    fitted = tiny_fit()
    turned = Fit(np.asfortranarray(fitted.filters), fitted.offsets, fitted.shifts, fitted.exact_filters)
    assert build_bank("exact-s2-10m", turned, FACTS) == build_bank("exact-s2-10m", fitted, FACTS)


@pytest.mark.parametrize("name", sorted(BANKS))
def test_a_shipped_bank_says_where_it_comes_from(name: str) -> None:
    bank = read_bank(name)
    assert bank.bands == BAND_SETS[name]
    assert bank.facts["licence"] in {"MIT", "CC-BY-SA-4.0"}
    assert "Copernicus Sentinel" in bank.facts["sources"]["description"]
    assert bank.facts["fit"]["seed"] >= 0
