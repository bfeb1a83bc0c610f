"""Around every request: a limit on its body, an id, and one line in the log."""

import asyncio
import logging
import time
import uuid
from contextlib import suppress
from contextvars import ContextVar

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eocat.verify.edge.terminal import printable

BODY_TIMEOUT_S = 30  # for a body of 1 MiB at most

access = logging.getLogger("eocat.access")
request_id: ContextVar[str] = ContextVar("request_id", default="-")  # of the request that is being answered


class BodyRefused(Exception):
    """The body is longer than the limit allows (413), comes too slowly (408), or has two lengths (400)."""


class BodyLimit:
    """Answers 413 to a body above `limit_bytes`, announced or not, and 408 to one that takes too long.

    One that comes in chunks and names its length, too, is 400: a proxy may have taken the other for its end.
    """

    def __init__(self, app: ASGIApp, limit_bytes: int, timeout_s: float = BODY_TIMEOUT_S) -> None:
        self.app = app
        self.limit_bytes = limit_bytes
        self.timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        received, complete, refused = 0, False, 0
        names = {name for name, _ in scope["headers"]}
        if {b"content-length", b"transfer-encoding"} <= names:
            refused = 400
        deadline = time.monotonic() + self.timeout_s

        async def limited() -> Message:
            nonlocal received, complete, refused
            try:  # after the body, what is waited for is that the client goes away
                async with asyncio.timeout(None if complete else max(0.0, deadline - time.monotonic())):
                    message = await receive()
            except TimeoutError:
                refused = 408
                raise BodyRefused from None
            received += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if received > self.limit_bytes:
                refused = 413
                raise BodyRefused
            return message

        async def held(message: Message) -> None:
            """What the app answers, unless that is about the body that it never got."""
            if not refused:
                await send(message)

        if not refused:
            with suppress(BodyRefused):
                await self.app(scope, limited, held)
        if refused:
            code, sentence = {
                400: ("BodyAmbiguous", "the body has a Content-Length and comes in chunks"),
                408: ("BodyTooSlow", f"the body took longer than {self.timeout_s:g} s"),
                413: ("BodyTooLarge", f"the body is longer than {self.limit_bytes} bytes"),
            }[refused]
            answer = {"code": code, "description": sentence}
            await JSONResponse(answer, refused, {"Connection": "close"})(scope, receive, send)


class RequestLog:
    """Gives each request an id, which its answer carries, and logs method, path, status and time."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        own_id = uuid.uuid4().hex[:16]
        request_id.set(own_id)
        began, status = time.perf_counter(), 500

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = own_id
            await send(message)

        try:
            await self.app(scope, receive, tagged)
        finally:
            took_ms = 1000 * (time.perf_counter() - began)
            path = printable(scope["path"])
            access.info(
                "%s %s %s %d %.1f ms", own_id, scope["method"], path, status, took_ms,
                extra={
                    "request_id": own_id, "method": scope["method"], "path": path, "status": status,
                    "duration_ms": round(took_ms, 1),
                },
            )  # fmt: skip
