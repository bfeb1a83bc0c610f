"""Conditional requests (RFC 9110, sections 8.8 and 13): a client that has an answer is told so with 304.

Answers that are whole documents get an ETag, the digest of their bytes, unless a route has given them one.
HEAD is answered as GET without its body; files see to that themselves.
"""

import hashlib
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TAGGED = re.compile(r"(application/(.*json|vnd\.apache\.parquet|vnd\.oai\.openapi.*)|text/(html|css)).*")
OWN_HEAD = re.compile(r"/collections/[^/]+/items/[^/]+/assets/[^/]+")
KEPT = ("etag", "cache-control", "vary", "link", "content-location")  # of a 304

_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')


def is_known(given: str | None, tag: str) -> bool:
    """Whether an If-None-Match header holds this tag, compared weakly."""
    if given is None:
        return False
    return given.strip() == "*" or tag.removeprefix("W/") in {
        one.removeprefix("W/") for one in _TAG.findall(given)
    }


class Conditional:
    """Around the application: tags, 304 and HEAD."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        answer = _Answer(Headers(scope=scope).get("if-none-match"), scope["method"] == "HEAD", send)
        if answer.is_head and OWN_HEAD.fullmatch(scope["path"]):
            await self.app(scope, receive, send)
        else:
            method, scope["method"] = scope["method"], "GET"
            try:
                await self.app(scope, receive, answer.send)
            finally:
                scope["method"] = method  # for the log, which stands outside


class _Answer:
    """One answer on its way out. It is held back until all of it is there, if it is to get a tag."""

    def __init__(self, known: str | None, is_head: bool, send: Send) -> None:
        self.known, self.is_head, self._send = known, is_head, send
        self._start: Message | None = None
        self._body = bytearray()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = Headers(raw=message["headers"])
            if (
                message["status"] == 200
                and "etag" not in headers
                and TAGGED.fullmatch(headers.get("content-type", ""))
            ):
                self._start = message
                return
        elif self._start is not None:
            self._body += message.get("body", b"")
            if message.get("more_body", False):
                return
            await self._send_tagged(self._start)
            return
        elif self.is_head:
            message = {**message, "body": b""}
        await self._send(message)

    async def _send_tagged(self, start: Message) -> None:
        tag = f'W/"{hashlib.sha256(self._body).hexdigest()[:32]}"'  # weak: a packed answer has the same
        headers = MutableHeaders(raw=list(start["headers"]))
        headers["ETag"] = tag
        headers.setdefault("Cache-Control", "no-cache")
        if is_known(self.known, tag):
            kept = [(name, value) for name, value in headers.raw if name.decode().lower() in KEPT]
            await self._send({"type": "http.response.start", "status": 304, "headers": kept})
            await self._send({"type": "http.response.body", "body": b""})
            return
        await self._send({**start, "headers": headers.raw})
        await self._send({"type": "http.response.body", "body": b"" if self.is_head else bytes(self._body)})
