"""The log over HTTP: its static files as C2SP tlog-tiles lays them out, and one proof for each item.

    GET /log/checkpoint                              never cached
    GET /log/tile/<level>/<index>[.p/<width>]        immutable
    GET /log/tile/entries/<index>[.p/<width>]        immutable
    GET /log/envelope/<sha256>                       immutable
    GET /collections/{c}/items/{i}/log-proof         the item's events and head at the newest checkpoint,
                                                     or that it has none

The files could as well be served by any web server from HOME/log. A name is parsed before it becomes a path.
"""

import hashlib
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from eocat.verify.errors import Malformed, Unavailable
from eocat.verify.log.absence import Absence, format_absence
from eocat.verify.log.item_proof import format_item_proof
from eocat.verify.log.tiles import parse_tile_path

from .conditional import is_known
from .database import Database
from .log import log_folder
from .log_files import ENVELOPE, LogFolder
from .log_proof import item_log_proof
from .space import NotFound

CHECKPOINT_TYPE = "text/plain; charset=utf-8"
IMMUTABLE = "public, max-age=31536000, immutable"

router = APIRouter()
Id = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]


@router.get("/log/checkpoint", summary="The newest checkpoint of the transparency log")
def get_checkpoint(request: Request) -> Response:
    note = _folder(request).read_checkpoint()
    if note is None:
        raise NotFound("the log has published no checkpoint yet")
    return Response(note, headers={"Content-Type": CHECKPOINT_TYPE, "Cache-Control": "no-cache"})


@router.get("/log/tile/{path:path}", summary="A tile of hashes, or a bundle of entries")
def get_tile(request: Request, path: str) -> Response:
    try:
        tile = parse_tile_path(f"tile/{path}")
        data = _folder(request).read_tile(tile)
    except (Malformed, Unavailable):
        raise NotFound("the log has no such tile") from None
    return _immutable(data, "application/octet-stream")


@router.get("/log/envelope/{digest}", summary="A signed event by its SHA-256")
def get_envelope(request: Request, digest: str) -> Response:
    name = f"envelope/{digest}"
    path = _folder(request).path / name
    if not ENVELOPE.fullmatch(name) or not path.is_file():
        raise NotFound("the log has no such envelope")
    return _immutable(path.read_bytes(), "application/json")


@router.get("/collections/{collection}/items/{item}/log-proof", summary="An item's place in the log")
def get_log_proof(request: Request, collection: Id, item: Id) -> Response:
    try:
        proof = item_log_proof(_database(request), collection, item)
    except Malformed as error:  # nothing that the client has sent
        raise Unavailable(
            "the catalogue's record of its log is damaged: its operator finds why in the service's log"
        ) from error
    body = format_absence(proof) if isinstance(proof, Absence) else format_item_proof(proof)
    tag = f'"{hashlib.sha256(body).hexdigest()}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}  # it changes with every checkpoint
    if is_known(request.headers.get("if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def _immutable(data: bytes, media_type: str) -> Response:
    headers = {"Cache-Control": IMMUTABLE, "X-Content-Type-Options": "nosniff"}
    return Response(data, media_type=media_type, headers=headers)


def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


def _folder(request: Request) -> LogFolder:
    return log_folder(_database(request).required_home())
