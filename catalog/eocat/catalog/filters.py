"""The filters of a similarity search as SQL on `eocat.chip` (docs/similarity.md, "Asking")."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from asyncpg import Connection

from .query import SimilarRequest
from .queryables import check_properties

if TYPE_CHECKING:
    from .space import Space

INSET = 1e-4  # degrees: PostGIS's bounds are float32, rounded outwards by at most 2e-5


@dataclass(frozen=True, slots=True)
class Filter:
    """SQL that chips must satisfy, with its arguments: $3 and up, $1 is the vector, $2 the collections.

    rough: the same by bounds alone, which PostgreSQL's planner can estimate; it names every argument too.
    """

    condition: str
    rough: str
    arguments: tuple[Any, ...]

    def __bool__(self) -> bool:
        return bool(self.condition)


EVERYTHING = Filter("", "", ())


async def read_filter(connection: Connection, request: SimilarRequest, space: "Space") -> Filter:
    """The filters of a request. CQL2 is about items: it becomes the shards of those that match."""
    conditions: list[str] = []
    bounds: dict[str, str] = {}  # of a condition
    arguments: list[Any] = []

    def argument(value: Any) -> str:
        arguments.append(value)
        return f"${len(arguments) + 2}"

    if request.boxes:
        boxes = [(box, [f"{argument(side)}::float8" for side in box]) for box in request.boxes]
        conditions.append(f"({' OR '.join(_touches(box, sides) for box, sides in boxes)})")
        near = " OR ".join(f"geometry && {_envelope(sides)}" for _, sides in boxes)
        bounds[conditions[0]] = f"({near})"
    if request.intersects is not None:
        geometry = argument(orjson.dumps(request.intersects).decode())
        conditions.append(f"ST_Intersects(geometry, ST_SetSRID(ST_GeomFromGeoJSON({geometry}::text), 4326))")
    start, end = request.interval
    if end is not None:
        conditions.append(f"start_time <= {argument(end)}")
    if start is not None:
        conditions.append(f"end_time >= {argument(start)}")
    if request.filter is not None:
        conditions.append(f"shard_id = ANY ({argument(await _shards(connection, request, space))}::bigint[])")
    condition = "".join(f" AND {one}" for one in conditions)
    rough = "".join(f" AND {bounds.get(one, one)}" for one in conditions)
    return Filter(condition, rough, tuple(arguments))


def _touches(box: tuple[float, float, float, float], sides: list[str]) -> str:
    """That a chip touches a box. GEOS looks closely (4 µs each) only at those not clearly within it."""
    touches = f"ST_Intersects(geometry, {_envelope(sides)})"
    if min(box[2] - box[0], box[3] - box[1]) < 4 * INSET:
        return touches
    west, south, east, north = sides
    within = _envelope([f"{west} + {INSET}", f"{south} + {INSET}", f"{east} - {INSET}", f"{north} - {INSET}"])
    return f"(geometry && {_envelope(sides)} AND (geometry @ {within} OR {touches}))"


def _envelope(sides: list[str]) -> str:
    return f"ST_MakeEnvelope({', '.join(sides)}, 4326)"


async def _shards(connection: Connection, request: SimilarRequest, space: "Space") -> list[int]:
    """The shards of the items that match the request's CQL2."""
    await check_properties(connection, request.filter, space.collections)
    search = {"collections": space.collections, "filter": request.filter, "filter-lang": "cql2-json"}
    records = await connection.fetch(
        """SELECT s.shard_id FROM eocat.items_matching($1::text::jsonb) i
             JOIN eocat.shard s ON s.collection = i.collection AND s.item_id = i.item_id""",
        orjson.dumps(search).decode(),
    )
    return [record["shard_id"] for record in records]
