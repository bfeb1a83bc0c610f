"""Nearest neighbours: the planner and its SQL (docs/similarity.md; design, section 4).

    1 scope       the collections asked; all of one embedding space
    2 vector      of the row, the point's chip, or the caller's own, in the collections' dtype
    3 survivors   rows that pass the filters, counted up to a bound
    4 exact       few survive: their distances, all of them. Else the HNSW index, iterating past the
                  filter; where it finds fewer than k, all survivors are searched exactly instead

Cosine distance, in pgvector's arithmetic, both ways: the index only chooses candidates. Everything runs in
one read-only snapshot, so that the count and the answer are of the same rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import orjson
from asyncpg import Connection, Record
from numpy.typing import NDArray

from eocat.verify.errors import Malformed

from .partitions import EXACT_ROWS, Partition
from .query import LikePoint, LikeRow, LikeVector, SimilarRequest
from .queryables import check_properties

SELECTIVITY = 20  # 1 in 20: a filter that leaves less makes the index walk more rows than a scan reads
EF_SEARCH = 200
MAX_SCANNED = 200_000  # rows the index may walk before it gives up
INDEX_SETTINGS = {
    "hnsw.iterative_scan": "relaxed_order",
    "hnsw.max_scan_tuples": str(MAX_SCANNED),
    "enable_sort": "off",
}


class NotFound(Exception):
    """The catalogue has no such collection, item or row (404)."""


class Gone(Exception):
    """The catalogue had it, and it has been withdrawn (410)."""


class TwoSpaces(Exception):
    """The collections asked, or the row given, are of different embedding spaces (409)."""


@dataclass(frozen=True, slots=True)
class Space:
    """What is compared: partitions of one embedding space, and the number of rows each holds."""

    digest: bytes
    dtype: str
    dimension: int
    rows: dict[Partition, int]

    @property
    def collections(self) -> list[str]:
        return [partition.collection for partition in self.rows]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One row of an answer. distance: cosine, None where a zero vector has none."""

    collection: str
    shard_id: int
    row: int
    distance: float | None


@dataclass(frozen=True, slots=True)
class Answer:
    """neighbours: nearest first. candidates: how many rows were compared to find them."""

    space: Space
    method: Literal["exact", "index"]
    candidates: int
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True, slots=True)
class Filter:
    """SQL that chips must satisfy, with its arguments: $2 and up, $1 is the vector."""

    condition: str
    arguments: tuple[Any, ...]


async def find(connection: Connection, request: SimilarRequest) -> Answer:
    """The rows nearest to `request.like`; raises NotFound, TwoSpaces, or Malformed for an unfit vector.

    The caller has opened the snapshot: a read-only transaction, `repeatable_read`.
    """
    space = await _scope(connection, request)
    vector = await _vector(connection, request.like, space)
    chosen = await _filter(connection, request, space)
    total = sum(space.rows.values())
    bound = max(EXACT_ROWS, total // SELECTIVITY)
    survivors = await _count(connection, chosen, space, bound) if chosen.arguments else total
    if request.exact is False or (request.exact is None and survivors > bound):
        near = await _by_index(connection, vector, chosen, space, request.limit)
        if len(near.neighbours) == request.limit:
            return near
    if chosen.arguments and survivors > bound:  # the count stopped there
        survivors = await _count(connection, chosen, space)
    found = await _exactly(connection, vector, chosen, space, request.limit)
    return Answer(space, "exact", survivors, found)


async def _scope(connection: Connection, request: SimilarRequest) -> Space:
    """Step 1. Without `collections`: those of the row's space, or all of the catalogue."""
    records = await connection.fetch(
        """SELECT c.id, c.space, c.dtype, c.dimension, coalesce(sum(s.row_count), 0)::bigint AS rows
             FROM eocat.collection c
             LEFT JOIN eocat.shard s ON s.collection = c.id AND s.status <> 'withdrawn'
            GROUP BY c.id ORDER BY c.id"""
    )
    known = {record["id"]: record for record in records}
    named = request.collections
    if isinstance(request.like, LikeRow):
        like = _known(known, request.like.collection)
        named = named or [id_ for id_, record in known.items() if record["space"] == like["space"]]
        asked = [like, *(_known(known, id_) for id_ in named)]
    else:
        asked = [_known(known, id_) for id_ in (named or known)]
    if not asked:
        raise NotFound("the catalogue holds no embeddings yet")
    spaces = sorted({record["space"].hex() for record in asked})
    if len(spaces) > 1:
        raise TwoSpaces(f"rows of different embedding spaces cannot be compared: {' and '.join(spaces)}")
    first = asked[0]
    scoped = {
        Partition(id_, first["dtype"], first["dimension"]): known[id_]["rows"]
        for id_ in sorted(set(named or known))
    }
    return Space(first["space"], first["dtype"], first["dimension"], scoped)


def _known(known: dict[str, Record], collection: str) -> Record:
    if collection not in known:
        raise NotFound(f"the catalogue holds no embeddings of a collection {collection}")
    return known[collection]


async def _vector(connection: Connection, like: LikeRow | LikeVector | LikePoint, space: Space) -> str:
    """Step 2: the query vector as pgvector reads it; its shortest decimals stand for the very same values."""
    if isinstance(like, LikeVector):
        values = _fit(like.vector, space)
    else:
        column = next(iter(space.rows)).column
        send = f"{next(iter(space.rows)).vector_type}_send"
        if isinstance(like, LikeRow):
            data = await connection.fetchval(
                f"""SELECT {send}(c.{column}) FROM eocat.shard s
                     JOIN eocat.chip c ON c.collection = s.collection AND c.shard_id = s.shard_id
                    WHERE s.collection = $1 AND s.item_id = $2 AND c.collection = $1 AND c.row = $3""",  # noqa: S608  # names of ours
                like.collection,
                like.item,
                min(like.row, 2**31 - 1),
            )
            what = f"row {like.row} of {like.collection}/{like.item}"
        else:
            data = await connection.fetchval(
                f"""SELECT {send}({column}) FROM eocat.chip, (SELECT ST_Point($2, $3, 4326) AS at) p
                    WHERE collection = ANY ($1)
                    ORDER BY geometry <-> at, ST_Distance(ST_Centroid(geometry), at), end_time DESC,
                             shard_id, row
                    LIMIT 1""",  # noqa: S608
                space.collections,
                *like.point,
            )
            what = f"chip near {like.point[0]:g}, {like.point[1]:g}"
        if data is None:
            raise NotFound(f"the catalogue holds no {what}")
        values = read_vector(data, space.dtype)
    if not values.any():
        raise Malformed("the vector to compare with is zero, and has no direction")
    return "[" + ",".join(map(repr, values.astype(np.float64).tolist())) + "]"


def read_vector(sent: bytes, dtype: str) -> NDArray[np.floating]:
    """The values of what pgvector's send function gives: dimension, zero, big-endian numbers."""
    return np.frombuffer(sent, np.dtype(dtype).newbyteorder(">"), offset=4)


def _fit(vector: Sequence[float], space: Space) -> NDArray[np.floating]:
    if len(vector) != space.dimension:
        raise Malformed(f"the vector has {len(vector)} numbers, this embedding space has {space.dimension}")
    with np.errstate(over="ignore"):
        values = np.asarray(vector, np.float64).astype(space.dtype)
    if not np.isfinite(values).all():
        raise Malformed(f"the vector holds a number that {space.dtype} cannot")
    return values


async def _filter(connection: Connection, request: SimilarRequest, space: Space) -> Filter:
    """The filters as SQL. CQL2 is about items: it becomes the shards of those that match."""
    conditions: list[str] = []
    arguments: list[Any] = []

    def argument(value: Any) -> str:
        arguments.append(value)
        return f"${len(arguments) + 2}"  # $1 vector, $2 collections

    if request.boxes:
        envelopes = (f"ST_MakeEnvelope({', '.join(map(argument, box))}, 4326)" for box in request.boxes)
        conditions.append(
            f"({' OR '.join(f'ST_Intersects(geometry, {envelope})' for envelope in envelopes)})"
        )
    if request.intersects is not None:
        geometry = argument(orjson.dumps(request.intersects).decode())
        conditions.append(f"ST_Intersects(geometry, ST_SetSRID(ST_GeomFromGeoJSON({geometry}::text), 4326))")
    start, end = request.interval
    if end is not None:
        conditions.append(f"start_time <= {argument(end)}")
    if start is not None:
        conditions.append(f"end_time >= {argument(start)}")
    if request.filter is not None:
        await check_properties(connection, request.filter, space.collections)
        search = {"collections": space.collections, "filter": request.filter, "filter-lang": "cql2-json"}
        shards = await connection.fetch(
            """SELECT s.shard_id FROM eocat.items_matching($1::text::jsonb) i
                 JOIN eocat.shard s ON s.collection = i.collection AND s.item_id = i.item_id""",
            orjson.dumps(search).decode(),
        )
        conditions.append(f"shard_id = ANY ({argument([shard['shard_id'] for shard in shards])}::bigint[])")
    return Filter("".join(f" AND {condition}" for condition in conditions), tuple(arguments))


async def _count(connection: Connection, chosen: Filter, space: Space, bound: int | None = None) -> int:
    """Step 3: rows that survive the filters, at most bound + 1."""
    stop = "" if bound is None else f" LIMIT {bound + 1}"
    count = await connection.fetchval(
        f"""SELECT count(*) FROM (SELECT FROM eocat.chip
             WHERE $1::text IS NULL AND collection = ANY ($2){chosen.condition}{stop}) survivors""",  # noqa: S608
        None,
        space.collections,
        *chosen.arguments,
    )
    return int(count)


async def _exactly(
    connection: Connection, vector: str, chosen: Filter, space: Space, limit: int
) -> tuple[Neighbour, ...]:
    """Step 4: without the dimension in the cast no index fits, and PostgreSQL computes every distance."""
    partition = next(iter(space.rows))
    records = await connection.fetch(
        f"""SELECT collection, shard_id, row,
                   {partition.column} <=> $1::text::{partition.vector_type} AS distance
              FROM eocat.chip WHERE collection = ANY ($2){chosen.condition}
             ORDER BY distance, collection, shard_id, row LIMIT {limit}""",  # noqa: S608  # names and numbers of ours
        vector,
        space.collections,
        *chosen.arguments,
    )
    return tuple(map(_neighbour, records))


async def _by_index(connection: Connection, vector: str, chosen: Filter, space: Space, limit: int) -> Answer:
    """Step 4 through the index: up to twice the limit from each partition, in relaxed order, sorted again.

    No neighbours if a partition has no index.
    """
    for partition in space.rows:
        index = f"eocat.{partition.name}_hnsw"
        if not await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", index):
            return Answer(space, "index", 0, ())
    settings = {**INDEX_SETTINGS, "hnsw.ef_search": str(min(1000, max(EF_SEARCH, 2 * limit)))}
    for name, value in settings.items():
        await connection.execute("SELECT set_config($1, $2, true)", name, value)
    found: list[Neighbour] = []
    for partition in space.rows:
        cast = f"{partition.vector_type}({partition.dimension})"
        distance = f"{partition.column}::{cast} <=> $1::text::{cast}"
        records = await connection.fetch(
            f"""SELECT collection, shard_id, row, {distance} AS distance
                  FROM eocat.chip WHERE collection = ANY ($2){chosen.condition}
                 ORDER BY {distance} LIMIT {2 * limit}""",  # noqa: S608  # names and numbers of ours
            vector,
            [partition.collection],
            *chosen.arguments,
        )
        found += map(_neighbour, records)
    await connection.execute("SELECT set_config('enable_sort', 'on', true)")
    found.sort(key=lambda one: (one.distance or 0.0, one.collection, one.shard_id, one.row))
    return Answer(space, "index", len(found), tuple(found[:limit]))


def _neighbour(record: Record) -> Neighbour:
    distance = record["distance"]
    known = None if np.isnan(distance) else float(distance)
    return Neighbour(record["collection"], record["shard_id"], record["row"], known)
