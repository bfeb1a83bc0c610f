"""Sentinel-2 names and numbers that every reader shares: band order, spelling of bands, the DN offset.

Orders checked on real stacks by their pixel replication (60, 10, 10, 10, 20, 20, 20, 10, 20, 60 m …): B8A
stands between B08 and B09. The offset: FORMATS.md 4.6; products of baseline 04.00 (25 January 2022) and
later hold DN = 10000 · reflectance + 1000.
"""

import re
from datetime import UTC, datetime
from typing import Final

L1C_BANDS: Final = (
    *("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A"),
    *("B09", "B10", "B11", "B12"),
)
L2A_BANDS: Final = tuple(band for band in L1C_BANDS if band != "B10")
RGB_BANDS: Final = ("red", "green", "blue")

OFFSET_SINCE_BASELINE: Final = (4, 0)
OFFSET: Final = 1000

SCL_CLOUDY: Final = (3, 8, 9, 10)  # level 2A: shadow, cloud of medium and high probability, cirrus
CLASSI_BANDS: Final = ("opaque cloud", "cirrus", "snow and ice")  # of MSK_CLASSI; 1 where there is some
CLASSI_CLOUDY: Final = ("opaque cloud", "cirrus")

_SPELLING = re.compile(r"(?<![A-Za-z0-9])B(8A|0?[1-9]|1[0-2])(?![A-Za-z0-9])", re.IGNORECASE)
_PRODUCT = re.compile(r"S2[A-D]_MSIL(?:1C|2A)_(\d{8}T\d{6})_N\d{4}_R\d{3}_T\d\d[A-Z]{3}")
_IN_NAME = re.compile(r"_N(\d\d)(\d\d)_")
_BASELINE = re.compile(r"([0-9]{2})\.([0-9]{2})")


def band_in(text: str) -> str | None:
    """The one band that a file name or description names ("…_B2_10m" → "B02"); None for none or several."""
    numbers = {match.upper().zfill(2) for match in _SPELLING.findall(text)}
    return f"B{numbers.pop()}" if len(numbers) == 1 else None


def has_offset(baseline: str) -> bool | None:
    """Whether products of this processing baseline ("05.09") carry the offset; None if it is no baseline."""
    match = _BASELINE.fullmatch(baseline)
    return None if match is None else (int(match[1]), int(match[2])) >= OFFSET_SINCE_BASELINE


def baseline_in(name: str) -> str | None:
    """The processing baseline ("05.09") in a product's name; None for none, and for N9999, a user's own."""
    match = _IN_NAME.search(name)
    return f"{match[1]}.{match[2]}" if match and match[0] != "_N9999_" else None


def time_in(name: str) -> datetime | None:
    """The datatake's begin in the name of a product or of a BigEarthNet patch; None where it has none."""
    match = _PRODUCT.search(name)
    return None if match is None else datetime.strptime(match[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
