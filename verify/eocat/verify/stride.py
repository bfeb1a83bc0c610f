"""Where the vectors of a row group lie as they are, one after the other (docs/format.md, section 5).

Read from there only if nothing else can be meant: one plain, uncompressed page whose levels are, byte by
byte, those of lists of D values without a null. Arrow gives the same vectors, but decodes level by level.
"""

from typing import BinaryIO

from .layout import DATA, PLAIN, RLE, UNCOMPRESSED, Column, Page, read_pages


def first_value(stream: BinaryIO, column: Column, rows: int, dimension: int, value_bytes: int) -> int | None:
    """Offset in the file of the first of `rows` vectors, if only vectors follow in `column`; else None.

    The column's schema must be a required list of required values: levels 0 and 1, no third.
    """
    if dimension < 8:
        return None  # its lists are packed otherwise
    levels = _levels(rows, dimension)
    size = len(levels) + rows * dimension * value_bytes
    page = Page(DATA, size, size, rows * dimension, PLAIN, (RLE, RLE))
    if column.codec != UNCOMPRESSED or list(read_pages(stream, column)) != [page]:
        return None
    start = column.start + column.stored_bytes - size
    stream.seek(start)
    return start + len(levels) if stream.read(len(levels)) == levels else None


def _levels(rows: int, dimension: int) -> bytes:
    """Repetition levels, of each list eight packed ones (0, 1, 1…) and a run of 1; definition: a run of 1."""
    repetition = (b"\x03\xfe" + _varint((dimension - 8) << 1) + b"\x01") * rows
    definition = _varint((rows * dimension) << 1) + b"\x01"
    return b"".join(len(part).to_bytes(4, "little") + part for part in (repetition, definition))


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + _varint(number >> 7)
