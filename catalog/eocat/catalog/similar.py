"""Nearest neighbours: the planner (docs/similarity.md; design, section 4).

    1 scope       the collections asked; all of one embedding space
    2 vector      what is looked for, in the collections' dtype (like.py)
    3 survivors   how many rows pass the filters, as PostgreSQL's planner estimates
    4 nearest     few: all of them are compared. Many: the index of each partition chooses candidates; where
                  it gives too few, or there is none, all rows of that partition are compared (nearest.py)

Everything runs in one read-only snapshot, so that all steps see the same rows.
"""

from dataclasses import dataclass
from typing import Literal

import orjson
from asyncpg import Connection, Record

from .filters import Filter, read_filter
from .like import query_vector
from .nearest import Found, Index, Neighbour, by_all, by_index, merged
from .partitions import Partition
from .query import SimilarRequest
from .space import NotFound, Recall, Space, TwoSpaces

MOST_EXACT = 50_000  # rows that pass a filter: they lie together on disk and are compared in some 30 ms


@dataclass(frozen=True, slots=True)
class Answer:
    """neighbours: nearest first. candidates: rows compared in full. recall: of the index, if measured."""

    space: Space
    method: Literal["exact", "index"]
    candidates: int
    neighbours: tuple[Neighbour, ...]
    recall: Recall | None = None


async def find(connection: Connection, request: SimilarRequest) -> Answer:
    """The rows nearest to `request.like`; raises NotFound, TwoSpaces, or Malformed for an unfit vector.

    The caller has opened the snapshot: a read-only transaction, `repeatable_read`.
    """
    space = await _scope(connection, request)
    vector = await query_vector(connection, request.like, space)
    chosen = await read_filter(connection, request, space)
    partitions = list(space.rows)
    indexed = request.exact is False or (request.exact is None and await _many(connection, chosen, space))
    parts: list[Found] = []
    asked: list[Partition] = []  # whose index gave the candidates
    for partition, index in (space.indexes if indexed else {}).items():
        found = await by_index(connection, vector, partition, index, chosen, request.limit)
        if found is not None:
            parts.append(found)
            asked.append(partition)
    if rest := [partition for partition in partitions if partition not in asked]:
        rows = sum(space.rows[partition] for partition in rest)
        parts.append(await by_all(connection, vector, rest, chosen, request.limit, rows=rows))
    near = merged(parts, request.limit)
    recalls = [space.recalls[partition] for partition in asked if partition in space.recalls]
    recall = min(recalls, key=lambda one: one.recall) if len(recalls) == len(asked) and asked else None
    return Answer(space, "index" if asked else "exact", near.candidates, near.neighbours, recall)


async def _many(connection: Connection, chosen: Filter, space: Space) -> bool:
    """Step 3: whether too many rows pass the filter to compare them all."""
    if not chosen or not space.indexes:
        return bool(space.indexes)
    plan = await connection.fetchval(
        f"""EXPLAIN (FORMAT JSON) SELECT FROM eocat.chip
             WHERE $1::text IS NULL AND collection = ANY ($2){chosen.rough}""",  # names of ours
        None,
        space.collections,
        *chosen.arguments,
    )
    estimate = (orjson.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]["Plan Rows"]
    return bool(estimate > MOST_EXACT)


SCOPE = """
SELECT c.id, c.space, c.dtype, c.dimension, c.encoder, s.rows, s.later, i.through, i.candidates, p.fitted_at,
       r.k, r.queries, r.recall, r.measured_at
  FROM eocat.collection c
  LEFT JOIN eocat.vector_index i ON i.collection = c.id
 CROSS JOIN LATERAL (
       SELECT coalesce(sum(row_count), 0)::bigint AS rows,
              coalesce(sum(row_count) FILTER (WHERE shard_id > i.through), 0)::bigint AS later
         FROM eocat.shard WHERE collection = c.id AND status <> 'withdrawn') s
  LEFT JOIN eocat.projection p ON p.collection = c.id
  LEFT JOIN LATERAL (SELECT * FROM eocat.recall r WHERE r.collection = c.id AND r.measured_at >= i.built_at
                      ORDER BY r.measured_at DESC LIMIT 1) r ON true
 ORDER BY c.id
"""


async def _scope(connection: Connection, request: SimilarRequest) -> Space:
    """Step 1. Without `collections`: those of the row's space, or all of the catalogue."""
    known = {record["id"]: record for record in await connection.fetch(SCOPE)}
    named = request.collections
    if rows := request.like_rows:
        like = [_known(known, row.collection) for row in rows]
        named = named or [id_ for id_, record in known.items() if record["space"] == like[0]["space"]]
        asked = [*like, *(_known(known, id_) for id_ in named)]
    else:
        asked = [_known(known, id_) for id_ in (named or known)]
    if not asked:
        raise NotFound("the catalogue holds no embeddings yet")
    spaces = sorted({record["space"].hex() for record in asked})
    if len(spaces) > 1:
        raise TwoSpaces(f"rows of different embedding spaces cannot be compared: {' and '.join(spaces)}")
    return _space([known[id_] for id_ in sorted(set(named or known))])


def _space(records: list[Record]) -> Space:
    first = records[0]
    partitions = [Partition(record["id"], first["dtype"], first["dimension"]) for record in records]
    pairs = list(zip(partitions, records, strict=True))
    return Space(
        first["space"], first["dtype"], first["dimension"],
        {partition: record["rows"] for partition, record in pairs},
        first["encoder"],
        {
            partition: Index(record["through"], record["later"], record["candidates"], record["fitted_at"])
            for partition, record in pairs if record["through"] is not None
        },
        {
            partition: Recall(record["k"], record["queries"], record["recall"], record["measured_at"])
            for partition, record in pairs if record["recall"] is not None
        },
    )  # fmt: skip


async def in_space(connection: Connection, collection: str) -> Space:
    """A collection by itself; NotFound if there is none."""
    known = {record["id"]: record for record in await connection.fetch(SCOPE)}
    return _space([_known(known, collection)])


def _known(known: dict[str, Record], collection: str) -> Record:
    if collection not in known:
        raise NotFound(f"the catalogue holds no embeddings of a collection {collection}")
    return known[collection]
