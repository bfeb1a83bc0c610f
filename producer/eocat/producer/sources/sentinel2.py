"""Sentinel-2 names and numbers that every reader shares: band order, spelling of bands, the DN offset.

Orders checked on real stacks by their pixel replication (60, 10, 10, 10, 20, 20, 20, 10, 20, 60 m …): B8A
stands between B08 and B09. The offset: FORMATS.md 4.6; products of baseline 04.00 (25 January 2022) and
later hold DN = 10000 · reflectance + 1000.
"""

import re
from typing import Final

L1C_BANDS: Final = (
    *("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A"),
    *("B09", "B10", "B11", "B12"),
)
L2A_BANDS: Final = tuple(band for band in L1C_BANDS if band != "B10")
RGB_BANDS: Final = ("red", "green", "blue")

OFFSET_SINCE_BASELINE: Final = (4, 0)
OFFSET: Final = 1000

_SPELLING = re.compile(r"(?<![A-Za-z0-9])B(8A|0?[1-9]|1[0-2])(?![A-Za-z0-9])", re.IGNORECASE)
_BASELINE = re.compile(r"([0-9]{2})\.([0-9]{2})")


def band_in(text: str) -> str | None:
    """The one band that a file name or description names ("…_B2_10m" → "B02"); None for none or several."""
    numbers = {match.upper().zfill(2) for match in _SPELLING.findall(text)}
    return f"B{numbers.pop()}" if len(numbers) == 1 else None


def product_of(bands: tuple[str, ...], dtype: str) -> str:
    """The product type that a stack's bands tell: only a whole set counts, and never 8-bit values."""
    if dtype != "uint8" and set(bands) == set(L1C_BANDS):
        return "sentinel-2-l1c"
    if dtype != "uint8" and set(bands) == set(L2A_BANDS):
        return "sentinel-2-l2a"
    return "raster"


def has_offset(baseline: str) -> bool | None:
    """Whether products of this processing baseline ("05.09") carry the offset; None if it is no baseline."""
    match = _BASELINE.fullmatch(baseline)
    return None if match is None else (int(match[1]), int(match[2])) >= OFFSET_SINCE_BASELINE
