"""row.py: the leaf, held to an encoder written by hand from docs/format.md, section 2."""

import hashlib
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_shard import make_row, square

from eocat.verify.errors import Malformed
from eocat.verify.geometry import format_wkb
from eocat.verify.row import MAX_DIMENSION, UNKNOWN_INPUT, Row, encode_row, pixels_digest

WKB = format_wkb(square(0))


def by_hand(
    row_id: str, wkb: bytes, start: int, end: int, digest: bytes, code: int, vector: bytes, d: int
) -> bytes:
    """The leaf from the specification's table, with int.to_bytes only."""
    leaf = b"eocat-row/v1" + b"\x0a"
    leaf += len(row_id.encode()).to_bytes(2, "little") + row_id.encode()
    leaf += len(wkb).to_bytes(4, "little") + wkb
    leaf += start.to_bytes(8, "little", signed=True) + end.to_bytes(8, "little", signed=True)
    return leaf + digest + bytes([code]) + d.to_bytes(4, "little") + vector


def halves(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}e", *values)


def row(**members: Any) -> Row:
    good = Row("scene/0_0", WKB, 5, 6, bytes(range(32)), "float16", halves(1, -2, 0.5))
    return replace(good, **members)


def test_the_leaf_is_what_the_specification_says() -> None:
    assert encode_row(row()) == by_hand("scene/0_0", WKB, 5, 6, bytes(range(32)), 1, halves(1, -2, 0.5), 3)
    singles = struct.pack("<2f", 1.25, -7)
    assert encode_row(row(id="ü", start=-9, dtype="float32", vector=singles)) == by_hand(
        "ü", WKB, -9, 6, bytes(range(32)), 2, singles, 2
    )


@given(
    st.text(st.characters(codec="ascii", exclude_characters="\x00"), min_size=1, max_size=40),
    st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1)).map(sorted),
    st.binary(min_size=32, max_size=32),
    st.lists(st.floats(width=16, allow_nan=False, allow_infinity=False), min_size=1, max_size=20),
)
def test_any_row_is_encoded_as_by_hand(
    row_id: str, times: list[int], digest: bytes, values: list[float]
) -> None:
    made = Row(row_id, WKB, times[0], times[1], digest, "float16", halves(*values))
    assert encode_row(made) == by_hand(row_id, WKB, *times, digest, 1, halves(*values), len(values))


@pytest.mark.parametrize(
    "change",
    [
        {"id": "scene/0_1"}, {"geometry": format_wkb(square(1))}, {"start": 4}, {"end": 7},
        {"input_digest": UNKNOWN_INPUT}, {"vector": halves(1, -2, 0.5005)}, {"vector": halves(1, -2)},
        {"dtype": "float32", "vector": struct.pack("<3f", 1, -2, 0.5)},
    ],
)  # fmt: skip
def test_attack_10_every_member_is_in_the_leaf(change: dict[str, Any]) -> None:
    assert encode_row(row(**change)) != encode_row(row())


def test_attack_11_bits_that_are_equal_as_numbers_are_different_rows() -> None:
    assert encode_row(row(vector=halves(0.0))) != encode_row(row(vector=halves(-0.0)))
    smallest = 2.0**-24  # a denormal half
    assert encode_row(row(vector=halves(smallest))) != encode_row(row(vector=halves(0.0)))
    same_bytes = halves(1, 2, 3, 4)
    assert encode_row(row(vector=same_bytes)) != encode_row(row(vector=same_bytes, dtype="float32"))
    swapped = np.frombuffer(halves(1, 2), "<f2").byteswap().tobytes()
    assert encode_row(row(vector=halves(1, 2))) != encode_row(row(vector=swapped))


@pytest.mark.parametrize("bits", [0x7E00, 0x7C01, 0xFE00, 0x7C00, 0xFC00])
def test_attack_11_nan_and_infinity_are_refused(bits: int) -> None:
    with pytest.raises(Malformed, match="NaN or an infinite"):
        row(vector=struct.pack("<H", bits))


def test_attack_12_no_length_can_be_shifted_between_id_and_geometry() -> None:
    """Without the length fields these two would be one byte string."""
    encoded = encode_row(row(id="a"))
    at = len(b"eocat-row/v1\n")
    assert encoded[at : at + 3] == b"\x01\x00a"
    longer = encode_row(row(id="a" + "b" * 4))
    assert longer[at : at + 2] == b"\x05\x00"
    plain = [b"".join((r.id.encode(), r.geometry)) for r in (row(id="a"), row(id="ab"))]
    assert plain[0] != plain[1]
    with pytest.raises(Malformed):  # the bytes moved from the geometry's head to the id's tail
        row(id="a\x01", geometry=WKB[1:])


def test_the_printed_vector_hash_trap() -> None:
    """Regression: the largest published set hashes `str(vector)`, which elides all but six values.

    Zeroing 1,800 of 2,048 values leaves such a hash unchanged; a row leaf must change with each of them.
    """
    vector = np.linspace(0.001, 1, 2048, dtype=np.float32)
    zeroed = vector.copy()
    zeroed[100:1900] = 0
    assert str(vector) == str(zeroed)  # the trap
    good = encode_row(row(dtype="float32", vector=vector.tobytes()))
    assert encode_row(row(dtype="float32", vector=zeroed.tobytes())) != good
    for place in range(0, 2048, 97):
        one = vector.copy()
        one[place] = np.nextafter(one[place], np.float32(2))
        assert encode_row(row(dtype="float32", vector=one.tobytes())) != good


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""}, {"id": "e\u0301"}, {"id": "a\x00"}, {"id": "\ud800"}, {"id": "x" * 65536},
        {"geometry": b""}, {"geometry": WKB + b"\x00"},
        {"start": 7}, {"end": 1 << 63}, {"start": -(1 << 63) - 1},
        {"input_digest": bytes(31)}, {"input_digest": bytes(33)},
        {"dtype": "float64"}, {"dtype": "bfloat16"}, {"dtype": "Float16"},
        {"vector": b""}, {"vector": b"\x00"}, {"vector": halves(1, 2, 3), "dtype": "float32"},
        {"vector": bytes(2 * (MAX_DIMENSION + 1))},
    ],
)  # fmt: skip
def test_a_row_that_is_not_valid_does_not_exist(change: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        row(**change)


def test_pixels_digest_is_what_the_specification_says() -> None:
    pixels = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    head = b"eocat-pixels/v1\n" + bytes([2]) + b"".join(n.to_bytes(4, "little") for n in (2, 3, 4))
    values = b"".join(int(value).to_bytes(2, "little") for value in range(24))
    assert pixels_digest(pixels) == hashlib.sha256(head + values).digest()
    assert pixels_digest(pixels.astype(">u2")) == pixels_digest(pixels)
    assert pixels_digest(np.asfortranarray(pixels)) == pixels_digest(pixels)
    assert pixels_digest(pixels[:, ::-1][:, ::-1]) == pixels_digest(pixels)


def test_pixels_of_another_shape_or_dtype_have_another_digest() -> None:
    pixels = np.zeros((2, 3, 4), np.uint16)
    others = [
        pixels.reshape(2, 4, 3), pixels.reshape(1, 6, 4), pixels.astype(np.int16),
        np.zeros((2, 3, 8), np.uint8), pixels + np.uint16(1),
    ]  # fmt: skip
    assert len({pixels_digest(one) for one in [pixels, *others]}) == 6


@pytest.mark.parametrize(
    "pixels", [np.zeros((3, 4), np.uint8), np.zeros((1, 2, 2), np.float32), np.zeros((1, 2, 2), np.int64)]
)
def test_other_pixels_are_refused(pixels: np.ndarray[Any, Any]) -> None:
    with pytest.raises(Malformed, match=r"expected \(C, H, W\)"):
        pixels_digest(pixels)


def test_rows_of_the_maker_differ_from_each_other() -> None:
    assert len({encode_row(make_row(index)) for index in range(300)}) == 300
