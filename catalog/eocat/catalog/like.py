"""The vector that a search compares with: step 2 of the planner (docs/similarity.md, "Asking")."""

import asyncio
from collections.abc import Sequence
from importlib.metadata import entry_points

import numpy as np
from asyncpg import Connection
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool

from eocat.verify.errors import EocatError, Malformed
from eocat.verify.keys import decode_base64

from .projection import unit_length
from .query import Like, LikeExamples, LikeImage, LikePoint, LikeRow, LikeText, LikeVector
from .space import NotFound, Space
from .vector_bytes import read_vector

Vector = NDArray[np.floating]

_ENCODING = asyncio.Semaphore(2)  # pictures and texts that are encoded at a time


async def query_vector(connection: Connection, like: Like, space: Space) -> Vector:
    """(D,) in the space's dtype, not zero; raises NotFound, or Malformed for what has no direction."""
    vector = await _vector(connection, like, space)
    if not vector.any():
        raise Malformed("the vector to compare with is zero, and has no direction")
    return vector


async def _vector(connection: Connection, like: Like, space: Space) -> Vector:
    match like:
        case LikeVector():
            return _fit(like.vector, space)
        case LikeRow():
            return await _of_row(connection, like, space)
        case LikePoint():
            return await _of_point(connection, like, space)
        case LikeImage():
            data = decode_base64(like.image, what="image")
            return await _encoded("image", space, data, offset=like.offset)
        case LikeText():
            return await _encoded("text", space, like.text)
        case LikeExamples():
            positive = [await query_vector(connection, one, space) for one in like.positive]
            negative = [await query_vector(connection, one, space) for one in like.negative]
            return combine(positive, negative).astype(space.dtype)


def combine(positive: Sequence[Vector], negative: Sequence[Vector]) -> NDArray[np.float32]:
    """The mean of the positive directions less that of the negative ones, at unit length."""
    mean = unit_length(np.stack(positive)).mean(axis=0)
    if negative:
        mean = mean - unit_length(np.stack(negative)).mean(axis=0)
    if np.linalg.norm(mean) < 1e-6:  # what rounding leaves of equal examples is no direction
        raise Malformed("the positive and negative examples cancel out, and leave no direction")
    unit: NDArray[np.float32] = unit_length(mean[None, :])[0]
    return unit


async def _encoded(kind: str, space: Space, query: str | bytes, **options: int) -> Vector:
    """What the collection's encoder makes of a picture or a text; in a thread, a few at a time."""
    encoders = entry_points(group="eocat.encode_query", name=kind)
    if not encoders:
        raise Malformed(f"encoder {space.encoder} is not installed at this catalogue: send a vector")
    name, _, _ = space.encoder.rpartition(" ")  # its version follows
    try:
        async with _ENCODING:
            encode = await run_in_threadpool(next(iter(encoders)).load)
            vector: Vector = await run_in_threadpool(
                encode, query, encoder=name, space=space.digest.hex(), **options
            )
    except (EocatError, ImportError) as error:
        raise Malformed(f"like: {error}") from None
    return vector.astype(space.dtype)


async def _of_row(connection: Connection, like: LikeRow, space: Space) -> Vector:
    partition = space.partition
    data = await connection.fetchval(
        f"""SELECT {partition.vector_type}_send(c.{partition.column}) FROM eocat.shard s
             JOIN eocat.chip c ON c.collection = s.collection AND c.shard_id = s.shard_id
            WHERE s.collection = $1 AND s.item_id = $2 AND c.collection = $1 AND c.row = $3""",  # noqa: S608  # names of ours
        like.collection,
        like.item,
        min(like.row, 2**31 - 1),
    )
    if data is None:
        raise NotFound(f"the catalogue holds no row {like.row} of {like.collection}/{like.item}")
    return read_vector(data, space.dtype)


async def _of_point(connection: Connection, like: LikePoint, space: Space) -> Vector:
    partition = space.partition
    data = await connection.fetchval(
        f"""SELECT {partition.vector_type}_send({partition.column})
              FROM eocat.chip, (SELECT ST_Point($2, $3, 4326) AS at) p
             WHERE collection = ANY ($1)
             ORDER BY geometry <-> at, ST_Distance(ST_Centroid(geometry), at), end_time DESC, shard_id, row
             LIMIT 1""",  # noqa: S608
        space.collections,
        *like.point,
    )
    if data is None:
        raise NotFound(f"the catalogue holds no chip near {like.point[0]:g}, {like.point[1]:g}")
    return read_vector(data, space.dtype)


def _fit(vector: Sequence[float], space: Space) -> Vector:
    if len(vector) != space.dimension:
        raise Malformed(f"the vector has {len(vector)} numbers, this embedding space has {space.dimension}")
    with np.errstate(over="ignore"):
        values = np.asarray(vector, np.float64).astype(space.dtype)
    if not np.isfinite(values).all():
        raise Malformed(f"the vector holds a number that {space.dtype} cannot")
    return values
