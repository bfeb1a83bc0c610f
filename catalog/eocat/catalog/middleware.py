"""Around every request: a limit on its body, an id, and one line in the log."""

import logging
import time
import uuid
from contextlib import suppress
from contextvars import ContextVar

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eocat.verify.terminal import printable

access = logging.getLogger("eocat.access")
request_id: ContextVar[str] = ContextVar("request_id", default="-")  # of the request that is being answered


class BodyTooLarge(Exception):
    """More bytes came than the limit allows."""


class BodyLimit:
    """Answers 413 to a body above `limit_bytes`, whether or not its length was announced."""

    def __init__(self, app: ASGIApp, limit_bytes: int) -> None:
        self.app = app
        self.limit_bytes = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.limit_bytes:
                raise BodyTooLarge
            return message

        async def held(message: Message) -> None:
            """What the app answers, unless that is about the body that it never got."""
            if received <= self.limit_bytes:
                await send(message)

        with suppress(BodyTooLarge):
            await self.app(scope, limited, held)
        if received > self.limit_bytes:
            sentence = f"the body is longer than {self.limit_bytes} bytes"
            response = JSONResponse({"code": "BodyTooLarge", "description": sentence}, status_code=413)
            await response(scope, receive, send)


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
