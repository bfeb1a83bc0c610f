"""Row groups and pages of a Parquet file, read strictly before Arrow sees it (docs/format.md, section 5).

A footer can lie, and Arrow takes the memory that a page's header names: 507 bytes were seen to decode to
2 GB, and a codec that it does not know ends the process. So footer and page headers are read here first and
held against what the signed row count allows. What a run of dictionary indices decodes to stands in no
header: shard.py counts it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from . import thrift
from .errors import Malformed
from .thrift import BINARY, I32, I64, LIST, STRUCT, Struct

FOOTER_BYTES = 1 << 20  # a row group takes 2 KB; Arrow spends 250 bytes on one byte of a hostile footer
MAX_PAGES = 4096  # of one column in one row group
_HEADER_BYTES = 1 << 16

UNCOMPRESSED, PLAIN, RLE = 0, 0, 3
CODECS = {UNCOMPRESSED: "UNCOMPRESSED", 1: "SNAPPY", 6: "ZSTD"}
# DELTA_BYTE_ARRAY is not among them: it repeats a long prefix for a byte or two.
ENCODINGS = {
    PLAIN: "PLAIN",
    2: "PLAIN_DICTIONARY",
    RLE: "RLE",
    5: "DELTA_BINARY_PACKED",
    8: "RLE_DICTIONARY",
    9: "BYTE_STREAM_SPLIT",
}
DATA, DICTIONARY, DATA_V2 = 0, 2, 3
_OWN_HEADER = {DATA: 5, DICTIONARY: 7, DATA_V2: 8}  # field of PageHeader with what is the kind's own
_ENCODING = {DATA: 2, DICTIONARY: 2, DATA_V2: 4}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of one row group: where its pages are, and how many values it says it has."""

    name: str
    start: int
    stored_bytes: int
    values: int
    codec: int


@dataclass(frozen=True, slots=True)
class RowGroup:
    rows: int
    decoded_bytes: int
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """kind: DATA, DICTIONARY or DATA_V2; sizes in bytes, without the header; values: how many it says."""

    kind: int
    decoded_bytes: int
    stored_bytes: int
    values: int
    encoding: int
    level_encodings: tuple[int, int] | None  # definition's and repetition's, which only DATA names


def read_row_groups(stream: BinaryIO) -> tuple[RowGroup, ...]:
    """What the file's footer says; Malformed if it is longer than FOOTER_BYTES or not plain Parquet."""
    size = stream.seek(0, 2)
    stream.seek(max(size - 8, 0))
    tail = stream.read(8)
    if size < 12 or tail[4:] != b"PAR1":
        raise Malformed("shard does not end as an unencrypted Parquet file does")
    length = int.from_bytes(tail[:4], "little")
    if length > min(FOOTER_BYTES, size - 12):
        raise Malformed(f"shard says its footer has {length} bytes, at most {FOOTER_BYTES} are read")
    stream.seek(size - 8 - length)
    footer = thrift.Reader(stream.read(length), "shard footer").struct()
    try:
        return tuple(_row_group(group) for group in footer[4, LIST])
    except (KeyError, TypeError, ValueError):
        raise Malformed("shard has a footer without one of the fields that every Parquet file has") from None


def check_pages(stream: BinaryIO, column: Column, *, values: int, limit_bytes: int) -> int:
    """What a column's pages say they decode to, in bytes; Malformed if above `limit_bytes`.

    values: how many the column must have.
    """
    found = decoded_bytes = 0
    for page in read_pages(stream, column):
        decoded_bytes += page.decoded_bytes
        found += page.values if page.kind != DICTIONARY else 0
        if decoded_bytes > limit_bytes or page.values > values:
            raise Malformed(
                f"shard column {column.name} decodes to more than {limit_bytes} bytes or {values} values"
            )
    if not found == column.values == values:
        raise Malformed(f"shard column {column.name} has {found} values, expected {values}")
    return decoded_bytes


def read_pages(stream: BinaryIO, column: Column) -> Iterator[Page]:
    """The headers of all pages of `column`, which fill its bytes exactly."""
    start, end = column.start, column.start + column.stored_bytes
    if not 4 <= start <= end <= stream.seek(0, 2):
        raise Malformed(f"shard column {column.name} is at bytes {start} to {end}, outside the file")
    for _ in range(MAX_PAGES):
        if start == end:
            return
        stream.seek(start)
        reader = thrift.Reader(stream.read(min(_HEADER_BYTES, end - start)), "shard page header")
        page = _page(reader.struct(), column.name)
        start += reader.position + page.stored_bytes
        if start > end:
            raise Malformed(f"shard column {column.name} has a page that reaches beyond it")
        yield page
    raise Malformed(f"shard column {column.name} has more than {MAX_PAGES} pages")


def _row_group(group: Struct) -> RowGroup:
    return RowGroup(group[3, I64], group[2, I64], tuple(_column(chunk) for chunk in group[1, LIST]))


def _column(chunk: Struct) -> Column:
    about: Struct = chunk[3, STRUCT]
    name = b".".join(about[3, LIST]).decode()[:80]
    if (codec := about[4, I32]) not in CODECS:
        raise Malformed(
            f"shard column {name} has codec {codec}, expected one of {', '.join(CODECS.values())}"
        )
    if (1, BINARY) in chunk:
        raise Malformed(f"shard column {name} is in another file")
    start = about[9, I64]
    if 0 < (dictionary := about.get((11, I64), 0)) < start:  # as Arrow's ComputeColumnChunkRange does
        start = dictionary
    return Column(name, start, about[7, I64], about[5, I64], codec)


def _page(header: Struct, name: str) -> Page:
    try:
        kind = header[1, I32]
        own: Struct = header[_OWN_HEADER[kind], STRUCT]
        levels = (own[3, I32], own[4, I32]) if kind == DATA else None
        page = Page(kind, header[2, I32], header[3, I32], own[1, I32], own[_ENCODING[kind], I32], levels)
    except KeyError:
        raise Malformed(f"shard column {name} has a page header without a field that it needs") from None
    if min(page.decoded_bytes, page.stored_bytes, page.values) < 0:
        raise Malformed(f"shard column {name} has a page of negative size")
    if page.encoding not in ENCODINGS:
        expected = ", ".join(ENCODINGS.values())
        raise Malformed(f"shard column {name} has encoding {page.encoding}, expected one of {expected}")
    return page
