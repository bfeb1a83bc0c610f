"""Rows of an answer as GeoJSON Features, and their proofs (docs/similarity.md; docs/format.md, section 8).

Geometry comes from the signed WKB, so that its coordinates are the signed doubles; times keep their
microseconds. With a proof, a Feature is a hit that `eocat verify` checks without this catalogue.
"""

import base64
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from asyncpg import Connection, Record

from eocat.verify.content import ROW_HASHES
from eocat.verify.errors import Unavailable
from eocat.verify.geometry import parse_wkb
from eocat.verify.merkle import Tree
from eocat.verify.row import LEAF_FORMAT
from eocat.verify.statement import format_time

from .documents import item_path
from .nearest import Neighbour
from .space import NotFound, Space
from .vector_bytes import read_vector

ROWS = """
SELECT c.collection, s.item_id, c.row, s.row_count, c.id, c.start_time, c.end_time, c.grid_cell, c.source,
       public.ST_AsBinary(c.geometry, 'NDR') AS wkb, c.input_digest,
       coalesce(public.halfvec_send(c.half), public.vector_send(c.single)) AS vector,
       s.status, s.location, s.assets -> $4 ->> 'name' AS row_hashes,
       pgstac.get_collection(c.collection) ->> 'license' AS license
  FROM unnest($1::text[], $2::bigint[], $3::integer[]) WITH ORDINALITY AS w (collection, shard_id, row, place)
  JOIN eocat.shard s ON s.shard_id = w.shard_id
  JOIN eocat.chip c ON c.collection = w.collection AND c.shard_id = w.shard_id AND c.row = w.row
 ORDER BY w.place
"""

ENVELOPES = """
SELECT e.collection, e.item_id, e.envelope FROM eocat.event e
  JOIN unnest($1::text[], $2::text[]) AS wanted (collection, item_id) USING (collection, item_id)
 ORDER BY e.collection, e.item_id, e.seq
"""


@dataclass(frozen=True, slots=True)
class Show:
    """What a Feature carries beside the row's own members."""

    base_url: str
    vector: bool = False
    proof: bool = False


async def features(
    connection: Connection, neighbours: Sequence[Neighbour], space: Space, show: Show
) -> list[dict[str, Any]]:
    """One Feature for each neighbour, in their order."""
    records = await connection.fetch(
        ROWS,
        [one.collection for one in neighbours],
        [one.shard_id for one in neighbours],
        [one.row for one in neighbours],
        ROW_HASHES,
    )
    envelopes = await _envelopes(connection, records) if show.proof else {}
    return [
        _feature(
            record, one.distance, space, show, envelopes.get((record["collection"], record["item_id"]), [])
        )
        for record, one in zip(records, neighbours, strict=True)
    ]


async def row_feature(
    connection: Connection, collection: str, item: str, row: int, show: Show
) -> dict[str, Any]:
    """The Feature of one row, as the proof endpoint gives it; NotFound if there is no such row."""
    record = await connection.fetchrow(
        """SELECT s.shard_id, c.space, c.dtype, c.dimension FROM eocat.shard s
             JOIN eocat.collection c ON c.id = s.collection
            WHERE s.collection = $1 AND s.item_id = $2 AND $3::bigint < s.row_count
              AND s.status <> 'withdrawn'""",
        collection,
        item,
        row,
    )
    if record is None:
        raise NotFound(f"the catalogue holds no row {row} of {collection}/{item}")
    space = Space(record["space"], record["dtype"], record["dimension"], {})
    (feature,) = await features(
        connection, [Neighbour(collection, record["shard_id"], row, None)], space, show
    )
    del feature["properties"]["distance"]
    return feature


def _feature(
    record: Record, distance: float | None, space: Space, show: Show, envelopes: list[dict[str, Any]]
) -> dict[str, Any]:
    start, end = format_time(record["start_time"]), format_time(record["end_time"])
    properties = {
        "datetime": start if start == end else None,
        "start_datetime": start,
        "end_datetime": end,
        "collection": record["collection"],
        "item": record["item_id"],
        "row": record["row"],
        "row_count": record["row_count"],
        "distance": distance,
        "grid_cell": record["grid_cell"],
        "source": record["source"],
        "license": record["license"],
        "eocat:status": record["status"],
    }
    values = read_vector(record["vector"], space.dtype)
    if show.vector:
        properties["vector"] = values.astype(np.float64).tolist()
    if show.proof:
        little_endian = values.astype(values.dtype.newbyteorder("<")).tobytes()
        properties["eocat:proof"] = {
            "leaf": {
                "format": LEAF_FORMAT,
                "input_digest": record["input_digest"].hex(),
                "dtype": space.dtype,
                "vector": base64.b64encode(little_endian).decode(),
            },
            "path": [node.hex() for node in _path(record)],
            "envelopes": envelopes,
        }
    item = f"{show.base_url}{item_path(record['collection'], record['item_id'])}"
    return {
        "type": "Feature",
        "id": record["id"],
        "geometry": parse_wkb(record["wkb"]),
        "properties": properties,
        "links": [
            {"rel": "item", "href": item, "type": "application/geo+json"},
            {"rel": "proof", "href": f"{item}/rows/{record['row']}/proof", "type": "application/geo+json"},
        ],
    }


def _path(record: Record) -> tuple[bytes, ...]:
    """The inclusion path, from a few reads of the shard's file of row hashes; the client checks it."""
    try:
        descriptor = os.open(Path(record["location"]) / record["row_hashes"], os.O_RDONLY)
        try:
            tree = Tree(record["row_count"], lambda offset, length: os.pread(descriptor, length, offset))
            return tree.prove(record["row"])
        finally:
            os.close(descriptor)
    except OSError:
        item = f"{record['collection']}/{record['item_id']}"
        raise Unavailable(
            f"the row hashes of {item} are not where they were when it was registered"
        ) from None


async def _envelopes(
    connection: Connection, records: Iterable[Record]
) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """(collection, item) → the parsed envelopes of its history, in order."""
    items = sorted({(record["collection"], record["item_id"]) for record in records})
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in await connection.fetch(ENVELOPES, [one[0] for one in items], [one[1] for one in items]):
        found.setdefault((record["collection"], record["item_id"]), []).append(
            orjson.loads(record["envelope"])
        )
    return found
