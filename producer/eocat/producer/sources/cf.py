"""Times as the CF conventions (1.11, section 4.4) write them: numbers of a unit since a moment."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from eocat.verify.errors import InputError

_SINCE: Final = re.compile(
    r"(nanosecond|microsecond|millisecond|second|sec|s|minute|min|hour|hr|h|day|d)s? since "
    r"(\d{4}-\d{1,2}-\d{1,2})(?:[T ](\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?))?\s*(?:Z|UTC|\+00:?00)?",
    re.IGNORECASE,
)
_MICROSECONDS: Final = {
    "nanosecond": 1e-3, "microsecond": 1, "millisecond": 1e3, "second": 1e6, "sec": 1e6, "s": 1e6,
    "minute": 60e6, "min": 60e6, "hour": 3600e6, "hr": 3600e6, "h": 3600e6, "day": 86400e6, "d": 86400e6,
}  # fmt: skip
_CALENDARS: Final = ("standard", "gregorian", "proleptic_gregorian")
_HINT: Final = "write them as CF does, such as 'days since 1990-01-01', in the standard calendar"


def is_time_unit(units: str) -> bool:
    return _SINCE.fullmatch(units.strip()) is not None


def times(numbers: Sequence[float], units: str, name: str, *, calendar: str = "standard") -> list[datetime]:
    """The UTC times of a time axis, to the microsecond; raises InputError naming the axis `name`."""
    match = _SINCE.fullmatch(units.strip())
    if match is None or calendar.lower() not in _CALENDARS:
        raise InputError(f"{name} has times in {units[:60]!r}, calendar {calendar[:30]!r}", hint=_HINT)
    try:
        year, month, day = (int(part) for part in match[2].split("-"))
        clock = [float(part) for part in (match[3] or "0:0").split(":")]
        epoch = datetime(year, month, day, tzinfo=UTC)
        epoch += timedelta(hours=clock[0], minutes=clock[1], seconds=clock[2] if len(clock) > 2 else 0)
        unit = _MICROSECONDS[match[1].lower()]
        return [epoch + timedelta(microseconds=round(number * unit)) for number in numbers]
    except (ValueError, OverflowError) as error:
        raise InputError(f"{name} has a time that does not exist: {error}", hint=_HINT) from None
