"""Facts from the STAC Item beside the bands of a scene: time, platform, cloud cover, baseline, DN offset.

The Item's own word on the pixels' grid is not taken: Items outlive resampling (a real series says 10 m of
files of 120 m). Nor is `raster:bands[].offset`, which stands at -0.1 even where the pixels were corrected;
`earthsearch:boa_offset_applied` says which, and the processing baseline decides where that is absent.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pydantic import JsonValue

from eocat.verify.canonical import parse
from eocat.verify.errors import InputError, Malformed

from .scene import safe_id
from .sentinel2 import OFFSET, has_offset

_MEND: Final = "take the document from its publisher again, or leave it out and give --datetime"
_TEXTS: Final = ("platform", "constellation", "grid:code", "s2:processing_baseline", "s2:product_uri")
_PRODUCTS: Final = {"S2MSI1C": "sentinel-2-l1c", "S2MSI2A": "sentinel-2-l2a"}


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """What the Item states, in the words of a Scene."""

    id: str
    product: str | None
    start: datetime | None
    end: datetime | None
    offset: int
    properties: dict[str, JsonValue]
    assumptions: tuple[str, ...]


def read_item(path: Path) -> ItemFacts | None:
    """The facts of the STAC Item at `path`; None if the JSON is something else. Raises InputError."""
    try:
        item = parse(path.read_bytes(), what=path.name)
    except Malformed as error:
        raise InputError(
            f"{path.name} beside the bands cannot be read: {error}", hint=error.hint or _MEND
        ) from error
    if not isinstance(item, dict) or item.get("type") != "Feature" or "stac_version" not in item:
        return None
    properties, identifier = item.get("properties"), item.get("id")
    if not isinstance(properties, dict) or not isinstance(identifier, str):
        raise InputError(f"STAC Item {path.name} has no properties or no id", hint=_MEND)
    start, end = _interval(properties, path.name)
    offset, assumptions = _offset(properties)
    safe, renamed = safe_id(identifier)
    return ItemFacts(
        id=safe,
        product=_PRODUCTS.get(str(properties.get("s2:product_type"))),
        start=start,
        end=end,
        offset=offset,
        properties=_properties(properties),
        assumptions=renamed + assumptions,
    )


def _interval(properties: dict[str, Any], name: str) -> tuple[datetime | None, datetime | None]:
    if properties.get("start_datetime") and properties.get("end_datetime"):
        texts = properties["start_datetime"], properties["end_datetime"]
    else:
        texts = properties.get("datetime"), properties.get("datetime")
    start, end = (None if text is None else parse_time(text, name) for text in texts)
    return start, end


def parse_time(text: object, name: str) -> datetime:
    """The UTC time of an ISO 8601 text with a time zone; raises InputError naming its document."""
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise InputError(
            f"{name} has the time {str(text)[:40]!r}, one such as 2024-06-01T10:00:31Z is expected",
            hint=_MEND,
        )
    return time.astimezone(UTC)


def _offset(properties: dict[str, Any]) -> tuple[int, tuple[str, ...]]:
    baseline = str(properties.get("s2:processing_baseline"))
    carries = has_offset(baseline)
    if properties.get("earthsearch:boa_offset_applied") is True or carries is False:
        return 0, ()
    if carries is None:
        return 0, ("offset: 0; the STAC Item states no processing baseline",)
    return OFFSET, (f"offset: {OFFSET}, as in every product of baseline {baseline}",)


def _properties(properties: dict[str, Any]) -> dict[str, JsonValue]:
    """The properties that describe the acquisition, if they have the type that STAC gives them."""
    facts: dict[str, JsonValue] = {
        key: text for key in _TEXTS if isinstance(text := properties.get(key), str)
    }
    instruments = properties.get("instruments")
    if isinstance(instruments, list) and all(isinstance(name, str) for name in instruments):
        facts["instruments"] = list(instruments)
    cover = properties.get("eo:cloud_cover")
    if isinstance(cover, int | float) and not isinstance(cover, bool) and 0 <= cover <= 100:
        facts["eo:cloud_cover"] = cover
    return facts
