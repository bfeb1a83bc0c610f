"""What a similarity search asks: `POST /search/similar` and its GET spelling (docs/similarity.md).

A value of `SimilarRequest` is within its limits; whatever is not is Malformed, one sentence that names the
member. Nothing here touches the database.
"""

from datetime import datetime
from typing import Annotated, Any, Self

from geojson_pydantic.geometries import Geometry
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from stac_fastapi.types.rfc3339 import rfc3339_str_to_datetime

from eocat.verify import canonical
from eocat.verify.errors import Malformed
from eocat.verify.row import MAX_DIMENSION
from eocat.verify.statement import Count, Identifier, validated

from .cql2 import MAX_VERTICES, count_vertices, parse_filter

MAX_BODY_BYTES = 1 << 20
MAX_LIMIT = 1_000
DEFAULT_LIMIT = 10
MAX_EXAMPLES = 50

_GEOMETRY: TypeAdapter[Geometry] = TypeAdapter(Geometry)
Longitude = Annotated[float, Field(ge=-180, le=180)]
Latitude = Annotated[float, Field(ge=-90, le=90)]
Interval = tuple[datetime | None, datetime | None]


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class LikeRow(Strict):
    """Like a row that the catalogue holds."""

    collection: Identifier
    item: Identifier
    row: Count


class LikeVector(Strict):
    """Like a vector of the caller's own, in the collections' embedding space."""

    vector: Annotated[list[float], Field(min_length=1, max_length=MAX_DIMENSION)]


class LikePoint(Strict):
    """Like the chip that covers a point, or lies nearest to it: longitude, latitude."""

    point: tuple[Longitude, Latitude]


class LikeImage(Strict):
    """Like a picture, which the collection's encoder encodes. image: base64 of a PNG, JPEG or GeoTIFF."""

    image: Annotated[str, Field(min_length=1)]
    offset: Annotated[int, Field(ge=-32_768, le=65_535)] = 0


class LikeText(Strict):
    """Like what a text says, in a space that has an encoder of texts."""

    text: Annotated[str, Field(min_length=1, max_length=1_000)]


class LikeExamples(Strict):
    """Like the positive examples and unlike the negative ones; each a row, a vector or a point."""

    positive: Annotated[list[LikeRow | LikeVector | LikePoint], Field(min_length=1, max_length=MAX_EXAMPLES)]
    negative: Annotated[list[LikeRow | LikeVector | LikePoint], Field(max_length=MAX_EXAMPLES)] = []

    @field_validator("positive", "negative", mode="before")
    @classmethod
    def _of_one_kind(cls, value: Any) -> Any:
        return [_choose(one, EXAMPLES) for one in value] if isinstance(value, list) else value


Like = LikeRow | LikeVector | LikePoint | LikeImage | LikeText | LikeExamples
EXAMPLES: dict[str, type[Strict]] = {"vector": LikeVector, "point": LikePoint, "row": LikeRow}
KINDS: dict[str, type[Strict]] = {
    **EXAMPLES, "image": LikeImage, "text": LikeText, "positive": LikeExamples
}  # fmt: skip


def _choose(value: Any, kinds: dict[str, type[Strict]]) -> Strict:
    """Choose the kind by its member, so that an error names a member and not a union."""
    kind = next((kinds[name] for name in kinds if isinstance(value, dict) and name in value), None)
    if kind is None:
        raise ValueError(f"is not an object with {', '.join(kinds)} as its kind")
    if kind is LikePoint and isinstance(value["point"], list):
        value = {**value, "point": tuple(value["point"])}
    return kind.model_validate(value)


class SimilarRequest(Strict):
    """`exact`: true scans, false takes the index where there is one, absent lets the catalogue choose."""

    like: Like
    collections: Annotated[list[Identifier], Field(min_length=1, max_length=64)] | None = None
    bbox: Annotated[list[float], Field(min_length=4, max_length=6)] | None = None
    intersects: dict[str, Any] | None = None
    datetime: str | None = None
    filter: dict[str, Any] | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT
    exact: bool | None = None
    include_vector: bool = False
    include_proof: bool = False

    @field_validator("like", mode="before")
    @classmethod
    def _one_kind(cls, value: Any) -> Any:
        return _choose(value, KINDS)

    @model_validator(mode="after")
    def _check_filters(self) -> Self:
        if self.bbox is not None and self.intersects is not None:
            raise ValueError("bbox and intersects exclude each other")
        if self.bbox is not None:
            split_bbox(self.bbox)
        if self.intersects is not None:
            check_geometry(self.intersects)
        if self.datetime is not None:
            parse_interval(self.datetime)
        return self

    @property
    def like_rows(self) -> list[LikeRow]:
        """The rows that `like` names: their collections must be of the space asked."""
        like = self.like
        named = [*like.positive, *like.negative] if isinstance(like, LikeExamples) else [like]
        return [one for one in named if isinstance(one, LikeRow)]

    @property
    def boxes(self) -> list[tuple[float, float, float, float]]:
        return [] if self.bbox is None else split_bbox(self.bbox)

    @property
    def interval(self) -> Interval:
        return (None, None) if self.datetime is None else parse_interval(self.datetime)


def parse_body(body: bytes) -> SimilarRequest:
    """The request in a POST body: strict JSON (one spelling of every key, no NaN), at most 1 MiB."""
    value = canonical.parse(body, what="request", limit_bytes=MAX_BODY_BYTES)
    if not isinstance(value, dict):
        raise Malformed("request is not a JSON object")
    return _validated(value)


def parse_query(parameters: dict[str, str]) -> SimilarRequest:
    """The request in a GET query: like=COLLECTION/ITEM/ROW or LON,LAT, lists with commas, filter as text."""
    value: dict[str, Any] = dict(parameters)
    if "like" in value:
        value["like"] = parse_like(value["like"])
    if "collections" in value:
        value["collections"] = value["collections"].split(",")
    if "bbox" in value:
        value["bbox"] = [_number(part, "bbox") for part in value["bbox"].split(",")]
    if "intersects" in value:
        value["intersects"] = canonical.parse(value["intersects"].encode(), what="intersects")
    if "limit" in value:
        value["limit"] = _integer(value["limit"], "limit")
    for name in ("exact", "include_vector", "include_proof"):
        if name in value:
            value[name] = _boolean(value[name], name)
    return _validated(value)


def _validated(value: dict[str, Any]) -> SimilarRequest:
    """The filter is parsed first: as text or JSON it must be within limits before anything looks at it."""
    language = value.pop("filter-lang", None)
    if language not in (None, "cql2-text", "cql2-json"):
        raise Malformed(f"filter-lang {str(language)[:40]!r} is neither cql2-text nor cql2-json")
    if value.get("filter") is not None:
        value = {**value, "filter": parse_filter(value["filter"], language)}
    return validated(SimilarRequest, value, what="request")


def parse_interval(text: str) -> Interval:
    """(start, end) of an RFC 3339 instant or interval, None where it is open (`..` or nothing)."""
    parts = text.split("/")
    if len(parts) > 2:
        raise ValueError(f"datetime {text[:80]!r} has more than one '/'")
    try:
        start, end = (
            None if part in ("", "..") else rfc3339_str_to_datetime(part) for part in (parts[0], parts[-1])
        )
    except ValueError:
        raise ValueError(f"datetime {text[:80]!r} is not an RFC 3339 time or interval") from None
    if start is None and end is None:
        raise ValueError(f"datetime {text[:80]!r} is open at both ends")
    if start is not None and end is not None and start > end:
        raise ValueError(f"datetime {text[:80]!r} ends before it starts")
    return start, end


def split_bbox(bbox: list[float]) -> list[tuple[float, float, float, float]]:
    """The box as one (west, south, east, north), or as two where it crosses the antimeridian.

    Heights of a 6-number box are dropped: chips lie on the ground.
    """
    if len(bbox) not in (4, 6):
        raise ValueError(f"bbox has {len(bbox)} numbers, expected 4 or 6")
    west, south, east, north = (bbox[0], bbox[1], bbox[len(bbox) // 2], bbox[len(bbox) // 2 + 1])
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
        raise ValueError("bbox is not west, south, east, north in degrees with south ≤ north")
    if west <= east:
        return [(west, south, east, north)]
    return [(west, south, 180.0, north), (-180.0, south, east, north)]


def check_geometry(geometry: dict[str, Any]) -> None:
    """Raise ValueError unless this is a GeoJSON geometry of at most MAX_VERTICES vertices."""
    if count_vertices(geometry) > MAX_VERTICES:
        raise ValueError(f"intersects has more than {MAX_VERTICES} vertices")
    try:
        _GEOMETRY.validate_python(geometry)
    except ValidationError:
        raise ValueError("intersects is not a GeoJSON geometry") from None


def parse_like(text: str) -> dict[str, Any]:
    parts = text.split("/")
    if len(parts) == 3:
        return {"collection": parts[0], "item": parts[1], "row": _integer(parts[2], "like")}
    parts = text.split(",")
    if len(parts) == 2:
        return {"point": [_number(part, "like") for part in parts]}
    raise Malformed(f"like {text[:80]!r} is neither COLLECTION/ITEM/ROW nor LON,LAT")


def _number(text: str, name: str) -> float:
    value = canonical.parse(text.encode(), what=name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Malformed(f"{name}: {text[:40]!r} is not a number")
    return float(value)


def _integer(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise Malformed(f"{name}: {text[:40]!r} is not a whole number")
    return int(text)


def _boolean(text: str, name: str) -> bool:
    if text not in ("true", "false"):
        raise Malformed(f"{name}: {text[:40]!r} is neither true nor false")
    return text == "true"
