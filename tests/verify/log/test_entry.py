"""log/entry.py: an event's name in the log has one spelling."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eocat.verify.errors import Malformed
from eocat.verify.log.entry import MAX_SEQ, Entry, format_entry, parse_entry

DIGEST, OTHER = "0123456789abcdef" * 4, "f" * 64
GOOD = f"eocat-entry/v1\ndemo/s1\n7\nWITHDRAW\n{DIGEST}\n{OTHER}\n".encode()

ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", fullmatch=True)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
entries = st.builds(
    Entry,
    ids,
    ids,
    st.integers(0, MAX_SEQ),
    st.sampled_from(["CREATE", "REGISTER", "COPY"]),
    digests,
    digests,
)


def test_an_entry_names_item_event_and_both_digests() -> None:
    entry = parse_entry(GOOD)
    assert entry == Entry("demo", "s1", 7, "WITHDRAW", DIGEST, OTHER)
    assert entry.path == "demo/s1"
    assert format_entry(entry) == GOOD


@given(entries)
def test_what_is_formatted_is_parsed_again(entry: Entry) -> None:
    assert parse_entry(format_entry(entry)) == entry


@given(st.binary(max_size=200))
def test_other_bytes_are_refused_in_one_way(data: bytes) -> None:
    with pytest.raises(Malformed):
        parse_entry(data)


BAD = {
    "empty": b"",
    "no last newline": GOOD[:-1],
    "a line more": GOOD + b"x\n",
    "CRLF": GOOD.replace(b"\n", b"\r\n"),
    "another version": GOOD.replace(b"/v1", b"/v2"),
    "the item's path twice": GOOD.replace(b"demo/s1", b"demo/s1/s1"),
    "no collection": GOOD.replace(b"demo/s1", b"/s1"),
    "a path upwards": GOOD.replace(b"demo/s1", b"demo/../s1"),
    "leading zero": GOOD.replace(b"\n7\n", b"\n07\n"),
    "a sign": GOOD.replace(b"\n7\n", b"\n+7\n"),
    "an underscore": GOOD.replace(b"\n7\n", b"\n1_000\n"),
    "Unicode digits": GOOD.replace(b"\n7\n", "\n٣\n".encode()),
    "a huge seq": GOOD.replace(b"\n7\n", b"\n2147483649\n"),
    "lower-case event": GOOD.replace(b"WITHDRAW", b"withdraw"),
    "upper-case digest": GOOD.replace(DIGEST.encode(), DIGEST.upper().encode()),
    "short digest": GOOD.replace(b"ff\n", b"f\n"),
    "not ASCII": GOOD.replace(b"demo", "dem\u00f6".encode()),
    "too long": GOOD.replace(b"demo", b"d" * 600),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_a_second_spelling_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed, match="log entry"):
        parse_entry(data)


def test_what_would_not_be_read_is_not_written() -> None:
    with pytest.raises(Malformed):
        format_entry(Entry("demo", "a/b", 0, "CREATE", DIGEST, DIGEST))
