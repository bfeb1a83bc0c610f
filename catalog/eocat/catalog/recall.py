"""How much of the truth an index finds, measured on rows of its own collection (`eocat audit`).

Rows drawn by a seed are looked for like any caller's, exactly and through the index with more and more
candidates, until the index finds enough of the k nearest (by distance: equal ones count alike, and the row
itself does not count). That number of candidates is what answers compare from then on; the recall goes into
eocat.recall, and every answer through the index shows it.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
import numpy as np
from numpy.typing import NDArray

from .database import Database
from .filters import EVERYTHING
from .nearest import by_all, by_index
from .partitions import Connection
from .similar import in_space
from .space import Space
from .vector_bytes import read_vector

K = 10
ENOUGH = 0.998  # of the k nearest, before fewer candidates will do
LADDER = (50, 100, 200, 400, 800)
TIE = 1e-6  # cosine distances this close are equal in pgvector's float32 sums


@dataclass(frozen=True, slots=True)
class Audit:
    """What was measured of one collection. candidates: how many answers compare now."""

    collection: str
    rows: int
    queries: int
    candidates: int
    recall: float


def audit(
    database: Database, connection: Connection, collections: Sequence[str], *, queries: int, seed: int
) -> list[Audit]:
    """Measure and store; a collection without an index is exact, and left out. NotFound for an unknown one.

    connection: may write. In a thread of its own, as a caller may have an event loop.
    """
    with ThreadPoolExecutor(1) as thread:
        measuring = _measure_all(database, list(collections), queries, seed)
        audits: list[Audit] = thread.submit(asyncio.run, measuring).result()
    with connection.transaction():
        for one in audits:
            connection.execute(
                "UPDATE eocat.vector_index SET candidates = %s WHERE collection = %s",
                [one.candidates, one.collection],
            )
            connection.execute(
                """INSERT INTO eocat.recall (collection, measured_at, k, queries, candidates, recall)
                   VALUES (%s, clock_timestamp(), %s, %s, %s, %s)""",
                [one.collection, K, one.queries, one.candidates, one.recall],
            )
    return audits


async def _measure_all(database: Database, collections: list[str], queries: int, seed: int) -> list[Audit]:
    settings = {**database.server_settings(), "statement_timeout": "0"}
    connection = await asyncpg.connect(database.asyncpg_dsn(), server_settings=settings)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            found = [await _measure(connection, name, queries, seed) for name in collections]
    finally:
        await connection.close()
    return [one for one in found if one is not None]


async def _measure(connection: asyncpg.Connection, collection: str, queries: int, seed: int) -> Audit | None:
    space = await in_space(connection, collection)
    partition = space.partition
    index = space.indexes.get(partition)
    if index is None:
        return None
    drawn = await _draw(connection, space, queries, seed)
    rows = space.rows[partition]
    truth = [await by_all(connection, vector, [partition], EVERYTHING, K + 1, rows=rows) for vector in drawn]
    recall = 0.0
    for candidates in LADDER:
        tried = replace(index, candidates=candidates)
        found = [await by_index(connection, vector, partition, tried, EVERYTHING, K + 1) for vector in drawn]
        recall = float(np.mean([_share(t, f) for t, f in zip(truth, found, strict=True)]))
        if recall >= ENOUGH:
            break
    return Audit(collection, rows, len(drawn), candidates, recall)


async def _draw(
    connection: asyncpg.Connection, space: Space, count: int, seed: int
) -> list[NDArray[np.floating]]:
    """Vectors of rows drawn evenly over the collection's shards by the seed; those of zeros are left out."""
    partition = space.partition
    shards = await connection.fetch(
        """SELECT shard_id, row_count FROM eocat.shard WHERE collection = $1 AND status <> 'withdrawn'
            ORDER BY shard_id""",
        partition.collection,
    )
    ends = np.cumsum([shard["row_count"] for shard in shards])
    drawn = np.random.default_rng(seed).choice(int(ends[-1]), min(count, int(ends[-1])), replace=False)
    vectors = []
    for place in np.sort(drawn):
        shard = int(np.searchsorted(ends, place, side="right"))
        row = int(place - (ends[shard - 1] if shard else 0))
        sent = await connection.fetchval(
            f"""SELECT {partition.vector_type}_send({partition.column}) FROM eocat.chip
                 WHERE collection = $1 AND shard_id = $2 AND row = $3""",  # noqa: S608  # names of ours
            partition.collection,
            shards[shard]["shard_id"],
            row,
        )
        vector = read_vector(sent, space.dtype)
        if vector.any():
            vectors.append(vector)
    return vectors


def _share(truth: Any, found: Any) -> float:
    """The share of the K nearest but the row itself, which is the nearest, that were found."""
    if found is None:
        return 1.0  # the planner compares all rows then
    true, near = (
        np.array([np.inf if one.distance is None else one.distance for one in rows.neighbours[1:]])
        for rows in (truth, found)
    )
    return float((near <= true[-1] + TIE).sum() / len(true)) if len(true) else 1.0
