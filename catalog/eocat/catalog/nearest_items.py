"""`similar(LIKE, ROWS)` in the filter of a STAC search: Items by their nearest row (docs/similarity.md).

It is a CQL2 function, so that a client which knows STAC alone can ask it. It stands alone or under the
outermost AND; the other conditions of the search, and its times and places, filter the rows.
"""

from typing import Any

import orjson
from asyncpg import Connection
from stac_fastapi.pgstac.types.search import PgstacSearch

from eocat.verify.errors import Malformed

from .cql2 import SIMILAR
from .query import MAX_LIMIT, parse_body, parse_like
from .similar import find

ROWS = 100  # nearest rows whose Items are the answer

Row = tuple[float | None, int]  # its distance, and its number
Ranked = dict[tuple[str, str], Row]  # (collection, item) → the nearest of its rows


ITEMS = """
SELECT s.shard_id, s.item_id FROM eocat.shard s WHERE s.shard_id = ANY ($1::bigint[])
"""


def split_similar(root: dict[str, Any]) -> tuple[list[Any] | None, dict[str, Any] | None]:
    """The arguments of `similar`, if the filter has one, and the filter without it."""
    if root.get("op") == SIMILAR:
        return _arguments(root), None
    if root.get("op") != "and" or not isinstance(root.get("args"), list):
        return None, root
    parts = root["args"]
    own = [part for part in parts if isinstance(part, dict) and part.get("op") == SIMILAR]
    if len(own) != 1:  # two are refused with the rest, where it is no operator
        return None, root
    rest = [part for part in parts if part is not own[0]]
    return _arguments(own[0]), rest[0] if len(rest) == 1 else {"op": "and", "args": rest}


async def rank_items(
    connection: Connection, arguments: list[Any], search: PgstacSearch, rest: dict[str, Any] | None
) -> Ranked:
    """The Items of the rows nearest to `arguments[0]`, nearest first.

    connection: in a read-only snapshot. Raises what `similar.find` raises, and Malformed.
    """
    if search.sortby or search.token:
        raise Malformed("filter: similar orders the Items, and gives one page: without sortby and token")
    like, *more = arguments
    request: dict[str, Any] = {"like": parse_like(like) if isinstance(like, str) else {"vector": like}}
    asked = search.model_dump(mode="json", by_alias=True, exclude_none=True)
    kept = ("collections", "bbox", "intersects", "datetime")
    request |= {name: asked[name] for name in kept if name in asked}
    if rest is not None:
        request["filter"] = rest
    answer = await find(connection, parse_body(orjson.dumps({**request, "limit": more[0] if more else ROWS})))
    shards = [one.shard_id for one in answer.neighbours]
    items = {record["shard_id"]: record["item_id"] for record in await connection.fetch(ITEMS, shards)}
    ranked: Ranked = {}
    for one in answer.neighbours:
        item = one.collection, items[one.shard_id]
        if search.ids is None or item[1] in search.ids:
            ranked.setdefault(item, (one.distance, one.row))
    return ranked


def restrict(search: PgstacSearch, ranked: Ranked) -> None:
    """Make of a search one for these Items alone, whatever else it asked: their rows have passed that."""
    search.collections = sorted({collection for collection, _ in ranked})
    search.ids = [item for _, item in ranked]
    search.bbox = search.intersects = search.datetime = search.filter_expr = None
    search.limit = min(MAX_LIMIT, len(search.ids) * len(search.collections))


def in_order(features: list[dict[str, Any]], ranked: Ranked, limit: int) -> list[dict[str, Any]]:
    """The Items in the order of their nearest rows, each with that row's number and distance."""
    by_name = {(item["collection"], item["id"]): item for item in features}
    found = []
    for name, (distance, row) in ranked.items():
        if name in by_name:
            item = by_name[name]
            item.setdefault("properties", {}).update({"eocat:distance": distance, "eocat:row": row})
            found.append(item)
    return found[:limit]


def _arguments(function: dict[str, Any]) -> list[Any]:
    arguments = function.get("args")
    if not isinstance(arguments, list) or not 1 <= len(arguments) <= 2:
        raise Malformed("filter: similar takes LIKE, and perhaps a number of rows")
    like = arguments[0]
    numbers = isinstance(like, list) and all(isinstance(one, int | float) for one in like)
    if not (isinstance(like, str) or numbers):
        raise Malformed("filter: similar takes 'COLLECTION/ITEM/ROW', 'LON,LAT' or a list of numbers")
    if len(arguments) == 2 and isinstance(arguments[1], float) and arguments[1].is_integer():
        return [like, int(arguments[1])]  # CQL2 text has no whole numbers
    return arguments
