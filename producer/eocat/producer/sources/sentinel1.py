"""Sentinel-1 names that every reader shares: polarisations, product names and the times in them.

Pixels are gamma0 or sigma0 backscatter in hundredths of a decibel (values.py), whatever the file holds.
"""

import re
from datetime import UTC, datetime
from typing import Final

POLARISATIONS: Final = ("VV", "VH", "HH", "HV")

_POLARISATION: Final = re.compile(r"(?<![A-Za-z0-9])(VV|VH|HH|HV)(?![A-Za-z0-9])", re.IGNORECASE)
_TIMES: Final = re.compile(r"S1[A-D]_\w{2}_\w{4}_\w{4}_(\d{8}T\d{6})(?:_(\d{8}T\d{6}))?(?![A-Za-z0-9])")
_PYROSAR: Final = re.compile(r"S1[A-D]__\w{2}_{3}[AD]_(\d{8}T\d{6})_")


def polarisation_in(text: str) -> str | None:
    """The one polarisation that a file name or description names ("…_VV_db" → "VV"), else None."""
    found = {match.upper() for match in _POLARISATION.findall(text)}
    return found.pop() if len(found) == 1 else None


def times_in(name: str) -> tuple[datetime, datetime] | None:
    """Begin and end of the acquisition in a product's name, ESA's or pyroSAR's; None where it has none."""
    if match := _TIMES.search(name):
        start = _time(match[1])
        return start, _time(match[2]) if match[2] else start
    if match := _PYROSAR.search(name):
        return _time(match[1]), _time(match[1])
    return None


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
