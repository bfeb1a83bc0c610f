"""The catalogue's own routes beside STAC's: neighbours, proofs, histories and the files of items.

    POST, GET  /search/similar                               rows nearest to a row, vector or point
    GET        /collections/{c}/items/{i}/rows/{n}/proof     one row with all that is needed to check it
    GET        /collections/{c}/items/{i}/history            the signed history
    GET        /collections/{c}/items/{i}/assets/{key}       a signed file, with ranges

Where a file lies comes from the database, which has it from admission; nothing of a request becomes a path.
"""

import hashlib
from pathlib import Path as FilePath
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Request
from fastapi.responses import FileResponse, Response
from stac_fastapi.types.requests import get_base_url

from eocat.verify.errors import Malformed, Unavailable
from eocat.verify.history import Status
from eocat.verify.projection import ATTESTATION
from eocat.verify.statement import format_time

from .conditional import is_known
from .item_page import GEOJSON
from .query import SimilarRequest, parse_body, parse_query
from .rows import Show, features, row_feature
from .similar import Answer, find
from .space import Gone, NotFound

SIMILARITY = "urn:eocat:similarity:v1"
MAX_PROOFS = 100  # of one answer: each carries its item's envelopes

# A file of a producer's is never run in this origin, whatever type it was signed with.
_INERT = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox"}

router = APIRouter()
Id = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
RowNumber = Annotated[int, Path(ge=0, lt=1 << 31)]


@router.post("/search/similar", summary="Rows nearest to a row, a vector or a point")
async def post_similar(request: Request) -> Response:
    return await _similar(request, parse_body(await request.body()))


@router.get("/search/similar", summary="The same for the simple forms")
async def get_similar(request: Request) -> Response:
    names = [name for name, _ in request.query_params.multi_items()]
    if len(set(names)) != len(names):
        raise Malformed("a query parameter stands twice")
    return await _similar(request, parse_query(dict(request.query_params)))


@router.get("/collections/{collection}/items/{item}/rows/{row}/proof", summary="One row and its proof")
async def get_proof(request: Request, collection: Id, item: Id, row: RowNumber) -> Response:
    show = Show(get_base_url(request), proof=True)
    async with request.app.state.get_connection(request, "r") as connection:
        feature = await row_feature(connection, collection, item, row, show)
    return _tagged(request, orjson.dumps(feature), GEOJSON)


@router.get("/collections/{collection}/items/{item}/history", summary="The signed history of an item")
async def get_history(request: Request, collection: Id, item: Id) -> Response:
    events = [
        {
            "seq": record["seq"],
            "event": record["event"],
            "payload_sha256": record["payload_sha256"].hex(),
            "recorded_at": format_time(record["recorded_at"]),
            "envelope": orjson.loads(record["envelope"]),
        }
        for record in await _events(request, collection, item)
    ]
    body = orjson.dumps({"collection": collection, "item": item, "events": events})
    return _tagged(request, body, "application/json")


@router.head("/collections/{collection}/items/{item}/assets/{key}", include_in_schema=False)
@router.get("/collections/{collection}/items/{item}/assets/{key}", summary="A file of an item")
async def get_asset(request: Request, collection: Id, item: Id, key: Id) -> Response:
    if key == ATTESTATION:
        lines = [record["envelope"] + b"\n" for record in await _events(request, collection, item)]
        return _tagged(request, b"".join(lines), "application/jsonl")
    async with request.app.state.get_connection(request, "r") as connection:
        record = await connection.fetchrow(
            """SELECT location, status, assets -> $3 AS asset FROM eocat.shard
                WHERE collection = $1 AND item_id = $2""",
            collection,
            item,
            key,
        )
    if record is None or record["asset"] is None:
        raise NotFound(f"the catalogue holds no asset {key} of {collection}/{item}")
    if record["status"] == Status.WITHDRAWN.value:
        raise Gone(f"{collection}/{item} has been withdrawn, and its files with it: see its history")
    asset = record["asset"]
    path = FilePath(record["location"]) / asset["name"]
    if not path.is_file():
        raise Unavailable(f"asset {key} of {collection}/{item} is not where it was when it was registered")
    headers = {
        "ETag": f'"{asset["sha256"]}"',
        "Cache-Control": "public, max-age=31536000, immutable",
        **_INERT,
    }
    if is_known(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return FileResponse(path, media_type=asset["type"], headers=headers)


async def _similar(request: Request, asked: SimilarRequest) -> Response:
    if asked.include_proof and asked.limit > MAX_PROOFS:
        raise Malformed(f"request: limit is {asked.limit}, at most {MAX_PROOFS} rows come with their proofs")
    show = Show(get_base_url(request), asked.include_vector, asked.include_proof)
    async with (
        request.app.state.get_connection(request, "r") as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        answer = await find(connection, asked)
        found = await features(connection, answer.neighbours, answer.space, show)
    body: dict[str, Any] = {
        "type": "FeatureCollection",
        "features": found,
        "links": [{"rel": "self", "href": str(request.url), "type": GEOJSON}],
        "numberReturned": len(found),
        "method": answer.method,
        "candidates": answer.candidates,
        "space": answer.space.digest.hex(),
        "recall": _recall(answer),
    }
    return Response(orjson.dumps(body), media_type=GEOJSON)


def _recall(answer: Answer) -> dict[str, Any] | None:
    measured = answer.recall
    if measured is None:
        return None
    return {
        "k": measured.k,
        "value": measured.recall,
        "queries": measured.queries,
        "measured": format_time(measured.measured_at),
    }


async def _events(request: Request, collection: str, item: str) -> list[Any]:
    async with request.app.state.get_connection(request, "r") as connection:
        records: list[Any] = await connection.fetch(
            """SELECT seq, event, payload_sha256, recorded_at, envelope FROM eocat.event
                WHERE collection = $1 AND item_id = $2 ORDER BY seq""",
            collection,
            item,
        )
    if not records:
        raise NotFound(f"the catalogue holds no history of {collection}/{item}")
    return records


def _tagged(request: Request, body: bytes, media_type: str) -> Response:
    """A response that its own digest names: a client that has it is told so with 304."""
    headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "Cache-Control": "public, max-age=300"}
    if is_known(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)
