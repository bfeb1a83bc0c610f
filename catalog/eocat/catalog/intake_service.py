"""The writing side over HTTP: an application of its own, on a port of its own, as another database role.

    POST /registrations                     open one: the documents of a shard, as JSON
    PUT  /registrations/{id}/files/{key}    one file, as bytes
    POST /registrations/{id}                commit: verify all, admit, log
    GET  /_mgmt/ping, /_mgmt/health         the only answers without a token

Everything else is refused. A path is matched as it was sent, byte for byte, before anything decodes it;
nothing is redirected; headers that would choose another method, host or scheme are not looked at; a token is
taken from `Authorization` alone. Whoever has none learns only that. Bodies must come at a minimum rate.
"""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from eocat.verify.errors import EocatError, Malformed, Unavailable

from .intake import MAX_OPENING_BYTES, Intake
from .middleware import RequestLog
from .oidc import Provider, is_jwt
from .registrations import NotAdmitted
from .tokens import Denied, Grant, TokenStore

GRACE_S = 30
MIN_BYTES_PER_S = 16 << 10
DRAINED_BYTES, DRAIN_S = 2 << 20, 2

log = logging.getLogger("eocat.intake")

_ID = rb"([0-9a-f]{64})"
_OPEN = re.compile(rb"/registrations")
_FILE = re.compile(rb"/registrations/" + _ID + rb"/files/([A-Za-z0-9][A-Za-z0-9._-]{0,127})")
_COMMIT = re.compile(rb"/registrations/" + _ID)
_PING, _HEALTH = re.compile(rb"/_mgmt/ping"), re.compile(rb"/_mgmt/health")

Handler = Callable[..., Awaitable[JSONResponse]]


@dataclass(frozen=True, slots=True)
class IntakeService:
    """The ASGI application. grace_s: how long a body may come slower than the minimum rate."""

    intake: Intake
    tokens: TokenStore
    provider: Provider | None = None
    grace_s: float = GRACE_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":  # no WebSocket here
            await send({"type": "websocket.close", "code": 1008})
            return
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except Exception as error:  # noqa: BLE001  # nothing but sentences leaves this function
            response = _refusal(error)
            await _drain(request)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> JSONResponse:
        path = request.scope["raw_path"]
        if request.method in ("GET", "HEAD") and _PING.fullmatch(path):
            return JSONResponse({"message": "PONG"})
        if request.method in ("GET", "HEAD") and _HEALTH.fullmatch(path):
            return await run_in_threadpool(self._health)
        grant = await run_in_threadpool(self._authorise, request)
        known = False
        for pattern, method, handler in (
            (_OPEN, "POST", self._open),
            (_FILE, "PUT", self._receive),
            (_COMMIT, "POST", self._commit),
        ):
            if (match := pattern.fullmatch(path)) is None:
                continue
            known = True
            if request.method == method:
                if request.scope["query_string"]:
                    raise NotAdmitted("a registration takes no query", 400)
                call: Handler = handler
                return await call(request, grant, *(part.decode() for part in match.groups()))
        raise NotAdmitted(
            *(("this method is not served here", 405) if known else ("nothing is served here", 404))
        )

    def _authorise(self, request: Request) -> Grant:
        """The grant of the one bearer token in the request; Denied."""
        given = request.headers.getlist("authorization")
        scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        if scheme.lower() != "bearer" or not token:
            raise Denied("a bearer token is needed", known=False)
        if self.provider is not None and is_jwt(token):
            return self.provider.grant(token)
        return self.tokens.grant(token, datetime.now(UTC))

    def _health(self) -> JSONResponse:
        with self.intake.database.connect() as connection:
            connection.execute("SELECT FROM eocat.event LIMIT 1")
        return JSONResponse({"status": "UP"})

    async def _open(self, request: Request, grant: Grant) -> JSONResponse:
        _expect_type(request, "application/json")
        body = bytearray()
        async for block in self._stream(request):
            body += block
            if len(body) > MAX_OPENING_BYTES:
                raise NotAdmitted(f"the documents are longer than {MAX_OPENING_BYTES} bytes", 413)
        registration = await run_in_threadpool(self.intake.open, grant, bytes(body))
        return JSONResponse(registration.to_json(), 201)

    async def _receive(self, request: Request, grant: Grant, id_: str, key: str) -> JSONResponse:
        _expect_type(request, "application/octet-stream")
        length = request.headers.get("content-length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 17):
            raise NotAdmitted("a file comes with its length in Content-Length", 411)
        registration = await self.intake.receive(grant, id_, key, int(length), self._stream(request))
        return JSONResponse(registration.to_json())

    async def _commit(self, request: Request, grant: Grant, id_: str) -> JSONResponse:
        async for block in self._stream(request):
            if block:
                raise NotAdmitted("a commit has no body", 400)
        admission = await run_in_threadpool(self.intake.commit, grant, id_)
        log.info("%s: %s %s %s", grant.holder, admission.item, admission.status, admission.reason)
        facts = {name: value for name, value in admission.to_json().items() if name != "folder"}
        return JSONResponse(facts, 422 if admission.exit_code else 200)

    async def _stream(self, request: Request) -> AsyncIterator[bytes]:
        """The body in blocks; NotAdmitted (408) if it comes too slowly."""
        began, received = time.monotonic(), 0
        stream = request.stream()
        while True:
            allowed_s = self.grace_s + received / MIN_BYTES_PER_S - (time.monotonic() - began)
            try:
                async with asyncio.timeout(max(0.0, min(self.grace_s, allowed_s))):
                    block = await anext(stream)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise NotAdmitted("the body comes too slowly", 408) from None
            except ClientDisconnect:
                raise NotAdmitted("the body broke off", 400) from None
            received += len(block)
            yield block


def create_app(intake: Intake, provider: Provider | None = None, *, grace_s: float = GRACE_S) -> ASGIApp:
    """The writing side as an ASGI application."""
    return RequestLog(IntakeService(intake, TokenStore(intake.home), provider, grace_s))


async def _drain(request: Request) -> None:
    """Read a little of a body that is refused: a client that is still sending would not see why."""
    left = DRAINED_BYTES
    with suppress(TimeoutError, RuntimeError, ClientDisconnect):  # slow, read already, gone
        async with asyncio.timeout(DRAIN_S):
            async for block in request.stream():
                left -= len(block)
                if left < 0:
                    return


def _expect_type(request: Request, media_type: str) -> None:
    """Raise NotAdmitted for another type, such as multipart, and for a body that is packed."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != media_type or request.headers.get("content-encoding", "identity") != "identity":
        raise NotAdmitted(f"expected a body of type {media_type}, not packed", 415)


def _refusal(error: Exception) -> JSONResponse:
    """Status and one sentence; what is not about the request stays in the log."""
    headers = {"Connection": "close"}  # the rest of a body that nobody reads
    match error:
        case Denied():
            status = 403 if error.known else 401
            headers |= {} if error.known else {"WWW-Authenticate": 'Bearer realm="eocat"'}
            sentence = str(error)
        case NotAdmitted():
            status, sentence = error.status, str(error)
        case Malformed():
            status, sentence = 422, str(error)
        case Unavailable() | EocatError() | psycopg.Error() | OSError():
            log.error("a registration failed", exc_info=error)
            status, sentence = 503, "the catalogue cannot take registrations now: try again later"
        case _:
            log.error("a registration failed", exc_info=error)
            status, sentence = 500, "the catalogue failed; its log has the reason under this request's id"
    code = {401: "Unauthorized", 403: "Forbidden"}.get(status, type(error).__name__)
    return JSONResponse({"code": code, "description": sentence}, status, headers)


async def _lifespan(receive: Receive, send: Send) -> None:
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})
