"""canonical.py: one spelling out, and nothing in that two parsers could read differently."""

import contextlib
import json
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eocat.verify.canonical import MAX_BYTES, MAX_DEPTH, MAX_INTEGER, encode, parse, parse_canonical
from eocat.verify.errors import Malformed


def refuses(data: bytes, match: str = ".") -> None:
    with pytest.raises(Malformed, match=match):
        parse(data)


def test_rfc8785_inputs_have_their_only_outputs(shared_data: Path) -> None:
    folder = shared_data / "json_canonical"
    for source in sorted((folder / "input").iterdir()):
        text = source.read_bytes()
        expected = bytes.fromhex((folder / "outhex" / source.with_suffix(".txt").name).read_text())
        assert encode(json.loads(text.decode())) == expected, source.name


def test_json_suite_is_read_as_strict_json(shared_data: Path) -> None:
    """Every n_* is refused; a y_* is refused only for one of our own, stricter, rules."""
    stricter = {
        "y_object_duplicated_key.json": "twice",
        "y_object_duplicated_key_and_value.json": "twice",
        "y_object_escaped_null_in_key.json": "NUL",
        "y_string_null_escape.json": "NUL",
        "y_number_double_close_to_zero.json": "longer than 64",
    }
    for file in sorted((shared_data / "json_parsing" / "test_parsing").iterdir()):
        data = file.read_bytes()
        if file.name.startswith("n_"):
            refuses(data)
        elif file.name in stricter:
            refuses(data, stricter[file.name])
        elif file.name.startswith("y_"):
            assert parse(data) == json.loads(data.decode()), file.name


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b'{"a": 1, "a": 1}', "twice"),
        (b'{"a": {"b": 1, "b": 2}}', "twice"),
        (b'{"a": 1, "\\u0061": 2}', "twice"),
        (b"NaN", "not a JSON number"),
        (b"[-Infinity]", "not a JSON number"),
        (b"1e999", "double"),
        (b"[-1e400]", "double"),
        (b"9007199254740992", "2\\^53"),
        (b"-9007199254740992", "2\\^53"),
        (b"1" * 5000, "2\\^53"),
        (b"0." + b"1" * 5000, "double"),
        (b"01", "strict"),
        (b"+1", "strict"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b'"\\u0000"', "NUL"),
        (b'"\xed\xa0\x80"', "UTF-8"),
        (b'"\xc0\x80"', "UTF-8"),
        (b"\xef\xbb\xbf{}", "strict"),
        ("{}".encode("utf-16"), "UTF-8"),
        ("[1]".encode("utf-16-le"), "strict"),
        ('"e\u0301"'.encode(), "NFC"),
        (b'{"\\u0065\\u0301": 1}', "NFC"),
        ("\u00a0[]".encode(), "strict"),
        (b"[1] [2]", "strict"),
        (b"", "strict"),
    ],
)
def test_text_that_two_parsers_could_read_differently_is_refused(text: bytes, match: str) -> None:
    refuses(text, match)


def test_the_largest_integers_are_read() -> None:
    assert parse(b"[9007199254740991,-9007199254740991]") == [MAX_INTEGER, -MAX_INTEGER]


def test_depth_is_counted_outside_strings_only() -> None:
    def nested(depth: int, inside: bytes = b"") -> bytes:
        return b"[" * depth + inside + b"]" * depth

    assert parse(nested(MAX_DEPTH)) is not None
    assert parse(b'["' + b"[" * 1000 + b'"]') == ["[" * 1000]
    refuses(nested(MAX_DEPTH + 1), "deeper")
    refuses(nested(100_000), "deeper")
    refuses(b'{"a":' * 100_000, "deeper")


@pytest.mark.parametrize("opening", [b'["\\\\", ', b'["\\"", ', b'["a\\\\\\"b", "\\\\\\\\", ', b'["\\"[", '])
def test_no_escape_hides_depth_from_the_count(opening: bytes) -> None:
    """A pattern that lost count of backslashes let 500 levels through to the recursive walk."""
    refuses(opening + b"[" * 500 + b'"x"' + b"]" * 501, "deeper")
    assert parse(opening + b"0]") is not None


def test_size_has_a_limit() -> None:
    assert len(parse(b'"' + b"a" * (MAX_BYTES - 2) + b'"')) == MAX_BYTES - 2
    refuses(b'"' + b"a" * (MAX_BYTES - 1) + b'"', "bytes long")


@pytest.mark.parametrize(
    "text",
    [
        b'["' + b'\\"' * 500_000,
        b'"' * 1_000_000,
        b"[" + b"[]," * 340_000 + b"[]]",
        ('["b' + "\u0301" * 500_000 + '"]').encode(),
        b"{" + b",".join(b'"%d":0' % number for number in range(90_000)) + b"}",
    ],
    ids=["escapes", "quotes", "lists", "marks", "keys"],
)
def test_a_mebibyte_of_anything_takes_little_time(text: bytes) -> None:
    began = time.process_time()
    with contextlib.suppress(Malformed):
        parse(text)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "text", [b'{"b":1,"a":2}', b"[1, 2]", b"[1.0]", b"[1e2]", b"[-0]", b'"\\u0061"', b"[1]\n"]
)
def test_a_second_spelling_is_not_canonical(text: bytes) -> None:
    parse(text)
    with pytest.raises(Malformed, match="canonical"):
        parse_canonical(text, what="text")


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), 1 << 53, "\ud800", {"\udc00": 1}, {1: 2}, object()]
)
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(Malformed):
        encode(value)


def test_keys_are_ordered_by_utf_16_units() -> None:
    assert encode({"\ufb33": 1, "\U0001f600": 2}) == '{"\U0001f600":2,"\ufb33":1}'.encode()


texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8).map(
    lambda text: unicodedata.normalize("NFC", text)
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | texts
    | st.floats(-1e15, 1e15, allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(values)
def test_what_is_encoded_is_read_back_in_its_one_spelling(value: object) -> None:
    data = encode(value)
    assert parse_canonical(data, what="value") == value
    assert encode(parse(data)) == data


@given(st.binary(max_size=64))
def test_bytes_are_read_or_refused_and_nothing_else(data: bytes) -> None:
    try:
        value = parse(data)
    except Malformed:
        return
    assert value == json.loads(data)


@pytest.mark.parametrize("number", [2.0**53, -(2.0**53), 1e16, 123456789012345680000.0])
def test_a_whole_double_that_would_be_read_as_too_large_an_integer_is_not_printed(number: float) -> None:
    with pytest.raises(Malformed, match="beyond 2\\^53"):
        encode({"a": [number]})
    assert parse(encode([1e21, 2.0**53 - 1, 0.5])) == [1e21, 2.0**53 - 1, 0.5]
