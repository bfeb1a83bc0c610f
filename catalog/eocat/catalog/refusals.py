"""What goes wrong in a request, as a status and one sentence: never SQL, a path or a traceback.

400  the request is malformed, or asks what the database cannot answer     409  two embedding spaces
404  no such collection, item, row or asset    410  file of a withdrawn item    413  body above 1 MiB
503  a file or the database is not there, or the answer takes too long     500  a fault of ours
"""

import logging
import re
from collections.abc import Awaitable, Callable

import asyncpg
import orjson
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from stac_fastapi.types.errors import InvalidQueryParameter, NotFoundError
from starlette.exceptions import HTTPException as StarletteHTTPException

from eocat.verify.edge.terminal import printable
from eocat.verify.errors import Malformed, Unavailable

from .middleware import request_id
from .space import Gone, NotFound, TwoSpaces

log = logging.getLogger("eocat.service")

# What pgSTAC raises on purpose is a sentence about the request; those known to quote nothing else pass.
_PGSTAC_SENTENCES = re.compile(r"Operator [\w<>=]+ Not Supported\.|The [\w<>=]+ operator [\w ,.]+")
_UNANSWERABLE = (
    "the request asks for something that the catalogue cannot search for: check its values and tokens"
)
STATUSES = {
    Malformed: 400, InvalidQueryParameter: 400, NotFound: 404, NotFoundError: 404, TwoSpaces: 409, Gone: 410,
    Unavailable: 503,
}  # fmt: skip
POSTED = ("/search", "/search/similar")
_SLOW = "the answer takes too long to find: ask for a smaller area, time or limit"


def sentence_for(error: Exception) -> tuple[int, str]:
    """Status and sentence for an exception that a request ended in."""
    match error:
        case RequestValidationError() | ValidationError():
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
            return 400, f"{place or 'request'}: {first['msg'][:200]}"
        case StarletteHTTPException(__cause__=ValidationError() as cause):
            return sentence_for(cause)
        case StarletteHTTPException():
            return error.status_code, str(error.detail)[:300]
        case _ if kinds := [kind for kind in STATUSES if isinstance(error, kind)]:
            return STATUSES[kinds[0]], str(error)
        case asyncpg.QueryCanceledError():
            return 503, _SLOW
        case asyncpg.RaiseError() if _PGSTAC_SENTENCES.fullmatch(str(error)):
            return 400, str(error)
        case (
            asyncpg.RaiseError()
            | asyncpg.DataError()
            | asyncpg.SyntaxOrAccessError()
            | asyncpg.InternalServerError()  # GEOS on a self-intersecting polygon
            | asyncpg.StatementTooComplexError()
            | orjson.JSONDecodeError()
        ):
            return 400, _UNANSWERABLE
        case (
            asyncpg.PostgresError()
            | asyncpg.InterfaceError()
            | asyncpg.InternalClientError()  # a connection that was lost in the middle of its set-up
            | OSError()
        ):
            return 503, "the catalogue's database does not answer"
    return 500, "the catalogue failed to answer; its log has the reason under this request's id"


async def refuse(request: Request, error: Exception) -> Response:
    status, sentence = sentence_for(error)
    if status >= 500 or isinstance(error, asyncpg.PostgresError):  # it may be our SQL that is wrong after all
        own_id = request_id.get()
        log.error(
            "%s %s %s ended in %s", own_id, request.method, printable(request.url.path), status,
            exc_info=error, extra={"request_id": own_id},
        )  # fmt: skip
    headers = {"Allow": "GET, HEAD, POST" if request.url.path in POSTED else "GET, HEAD"}
    if status != 405:
        headers = getattr(error, "headers", None) or {}
    return JSONResponse({"code": type(error).__name__, "description": sentence}, status, headers)


def add_refusals(app: FastAPI) -> None:
    """Answer every error of the app, and of the libraries it is made of, with `refuse`."""
    kinds: tuple[type[Exception], ...] = (
        RequestValidationError, ValidationError, HTTPException, StarletteHTTPException, *STATUSES,
        asyncpg.PostgresError, asyncpg.InterfaceError, orjson.JSONDecodeError, OSError, Exception,
    )  # fmt: skip
    handler: Callable[[Request, Exception], Awaitable[Response]] = refuse
    for kind in kinds:
        app.add_exception_handler(kind, handler)
