"""The nearest rows: every distance, or those of the candidates that an index chose (design, section 4).

Cosine distance, in pgvector's arithmetic, both ways. An index orders its rows by the distance of their codes;
its first candidates are compared in full, and so are all rows of the shards that came after it was built.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from asyncpg import Connection, Record
from numpy.typing import NDArray

from .filters import Filter
from .partitions import Partition
from .projection import Projection
from .vector_bytes import format_vector

MAX_SCANNED = 40_000  # rows that an index may walk past a filter: beyond, comparing all is as quick
MAX_LIST = 1_000  # pgvector's limit of hnsw.ef_search
# Of the transaction. Without `enable_sort`, a filter and a sort may look cheaper than the index.
SETTINGS = f"""
SELECT set_config('hnsw.iterative_scan', 'relaxed_order', true), set_config('enable_sort', 'off', true),
       set_config('hnsw.max_scan_tuples', '{MAX_SCANNED}', true), set_config('hnsw.ef_search', $1, true)
"""

_projections: dict[tuple[str, datetime], Projection] = {}  # one is 130 kB: too much to ask for every time
_MAX_PROJECTIONS = 64


@dataclass(frozen=True, slots=True)
class Index:
    """What a partition's index covers: shards up to `through`, so that `later` rows are of others.

    candidates: to compare in full, as an audit found to be needed.
    """

    through: int
    later: int
    candidates: int
    fitted_at: datetime


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One row of an answer. distance: cosine, None where a zero vector has none."""

    collection: str
    shard_id: int
    row: int
    distance: float | None


@dataclass(frozen=True, slots=True)
class Found:
    """neighbours: nearest first. candidates: how many rows were compared in full to find them."""

    neighbours: tuple[Neighbour, ...]
    candidates: int


async def by_all(
    connection: Connection,
    vector: NDArray[np.floating],
    partitions: Sequence[Partition],
    chosen: Filter,
    limit: int,
    *,
    rows: int,
    after: int = 0,
) -> Found:
    """Of all rows that pass the filter, of shards after `after`: every distance is computed.

    rows: how many there are without the filter. Without the dimension in the cast no index fits.
    """
    partition = partitions[0]
    source = f"FROM eocat.chip WHERE collection = ANY ($2) AND shard_id > {after}{chosen.condition}"
    collections = [one.collection for one in partitions]
    records = await connection.fetch(
        f"""SELECT collection, shard_id, row,
                   {partition.column} <=> $1::text::{partition.vector_type} AS distance {source}
             ORDER BY distance, collection, shard_id, row LIMIT {limit}""",  # names and numbers of ours
        format_vector(vector),
        collections,
        *chosen.arguments,
    )
    if chosen:  # by itself: a window over all rows would take twice as long as all distances
        count = f"SELECT count(*) {source} AND $1::text IS NULL"
        rows = await connection.fetchval(count, None, collections, *chosen.arguments)
    return Found(tuple(map(_neighbour, records)), rows)


async def by_index(
    connection: Connection,
    vector: NDArray[np.floating],
    partition: Partition,
    index: Index,
    chosen: Filter,
    limit: int,
) -> Found | None:
    """Of one partition, through its index; None if the index gave fewer candidates than it was asked for.

    Then there may be rows that it did not reach, and all must be compared.
    """
    projection = await _projection(connection, partition, index)
    code = format_vector(projection.encode(vector[None, :])[0])
    wanted = max(index.candidates, 2 * limit)
    await connection.fetch(SETTINGS, str(min(MAX_LIST, wanted)))
    cast = f"halfvec({projection.dimension})"
    place = len(chosen.arguments) + 3
    records = await connection.fetch(
        f"""SELECT collection, shard_id, row,
                   {partition.column} <=> $1::text::{partition.vector_type} AS distance
              FROM (SELECT collection, shard_id, row, {partition.column} FROM eocat.chip
                     WHERE collection = ANY ($2) AND shard_id <= {index.through}{chosen.condition}
                     ORDER BY code::{cast} <-> ${place}::text::{cast} LIMIT {wanted}) candidates""",  # noqa: S608
        format_vector(vector),
        [partition.collection],
        *chosen.arguments,
        code,
    )
    if len(records) < wanted:
        return None
    parts = [Found(tuple(map(_neighbour, records)), len(records))]
    if index.later:
        later = by_all(connection, vector, [partition], chosen, limit, rows=index.later, after=index.through)
        parts.append(await later)
    return merged(parts, limit)


def merged(parts: Sequence[Found], limit: int) -> Found:
    """The nearest of all parts. Rows without a distance come last."""
    neighbours = [neighbour for part in parts for neighbour in part.neighbours]
    neighbours.sort(
        key=lambda one: (
            np.inf if one.distance is None else one.distance, one.collection, one.shard_id, one.row
        )
    )  # fmt: skip
    return Found(tuple(neighbours[:limit]), sum(part.candidates for part in parts))


async def _projection(connection: Connection, partition: Partition, index: Index) -> Projection:
    key = partition.collection, index.fitted_at  # it is stored once and never changed
    if key not in _projections:
        data = await connection.fetchval(
            "SELECT axes FROM eocat.projection WHERE collection = $1", partition.collection
        )
        if len(_projections) >= _MAX_PROJECTIONS:
            _projections.clear()
        _projections[key] = Projection.from_bytes(data, partition.dimension)
    return _projections[key]


def _neighbour(record: Record) -> Neighbour:
    distance = record["distance"]
    known = None if np.isnan(distance) else float(distance)
    return Neighbour(record["collection"], record["shard_id"], record["row"], known)
