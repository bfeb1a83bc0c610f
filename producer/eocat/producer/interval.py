"""When a scene was taken, where its files do not say: `--datetime` as STAC spells it."""

import re
from datetime import UTC, datetime, timedelta

from eocat.verify.errors import UsageError

_DAY = re.compile(r"\d{4}-\d\d-\d\d")


def parse_interval(text: str) -> tuple[datetime, datetime]:
    """(start, end) in UTC of an RFC 3339 time, a day, or `start/end` of either; a day is taken whole."""
    first, slash, last = text.partition("/")
    start, end = _bound(first, text, last=False), _bound(last if slash else first, text, last=True)
    if start > end:
        raise UsageError(f"time {text[:60]!r} ends before it begins")
    return start, end


def _bound(part: str, text: str, *, last: bool) -> datetime:
    try:
        if _DAY.fullmatch(part):
            day = datetime.fromisoformat(part).replace(tzinfo=UTC)
            return day + timedelta(days=1, microseconds=-1) if last else day
        moment = datetime.fromisoformat(part)
        if moment.tzinfo is None:
            raise ValueError
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"time {text[:60]!r} is not understood",
            hint="write 2024-05-01, 2024-05-01T09:30:31Z, or two of these with '/' between them",
        ) from None
