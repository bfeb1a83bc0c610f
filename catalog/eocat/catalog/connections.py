"""Who may hold a connection: a bound on all of them, a fair share below it, a time limit on a request's head.

uvicorn limits neither how long a head may take nor who holds the connections. Here a head must be whole
HEAD_S after the connection, or its first byte, has come (408). Where all connections are taken, a newcomer
gets the place of one that only waits, of the client that holds most: who opens hundreds shuts out himself.
Bodies have limits of their own (middleware.py, intake_service.py).
"""

import asyncio
import json
import sys
import time
from collections import Counter
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from .guards import subscriber

HEAD_S = 20
KEEP_ALIVE_S = 20  # that a connection is kept after an answer
HEAD_BYTES = 64 << 10  # of a request's line and headers
PIECE_BYTES = 16 << 10  # that h11 gets at once: it measures a head only while that is not whole


class FairProtocol(H11Protocol):
    """A connection. uvicorn's `limit_concurrency` is the bound on all, not on those at work."""

    head_s: float = HEAD_S

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.most, self.limit_concurrency = self.limit_concurrency, None
        self.who = ""
        self.since = time.monotonic()  # when it was made, or its last answer ended
        self._head: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """No head of a request has come whole."""
        return self.conn.their_state is h11.IDLE

    @property
    def waiting(self) -> bool:
        """For the client: for a head, or for more of a body."""
        return self.idle or self.conn.their_state is h11.SEND_BODY

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.who = subscriber(self.client[0] if self.client else "")
        self._time_head()
        live = [one for one in self.connections if not one.transport.is_closing()]
        if self.most is not None and len(live) > self.most and not self._make_room(live):
            self._refuse(503, "every connection is taken: try again later")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head is not None:
            self._head.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), PIECE_BYTES):
            if self.transport.is_closing():  # refused
                return
            super().data_received(data[start : start + PIECE_BYTES])
        self._time_head()

    def on_response_complete(self) -> None:
        self.since = time.monotonic()
        super().on_response_complete()
        if self.conn.trailing_data[0]:  # the next head has begun already
            self._time_head()

    def send_400_response(self, msg: str) -> None:
        """What h11 cannot read, as a refusal like any other."""
        error = sys.exception()
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        if self.cycle is not None and not self.cycle.response_complete:  # its body is no good
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._refuse(status, f"this is not HTTP: {msg}" if status == 400 else HTTPStatus(status).phrase)

    def _time_head(self) -> None:
        if not self.idle:
            if self._head is not None:
                self._head.cancel()
                self._head = None
        elif self._head is None:
            self._head = self.loop.call_later(self.head_s, self._head_is_late)

    def _head_is_late(self) -> None:
        if not self.idle or self.transport.is_closing():
            return
        if self.conn.trailing_data[0]:
            self._refuse(408, f"the request's head took longer than {self.head_s:g} s")
        else:
            self.transport.close()

    def _make_room(self, live: list[Any]) -> bool:
        """Close one that waits, of the client that holds most and idle rather than not; whether one may go.

        A client loses connections to others only while it holds more than they do.
        """
        held = Counter(one.who for one in live)
        waiting = [one for one in live if one.waiting and one is not self]
        if not waiting:
            return False
        last = max(waiting, key=lambda one: (held[one.who], one.idle, -one.since))
        if not (last.idle if last.who == self.who else held[last.who] > held[self.who]):
            return False
        last.transport.close()
        return True

    def _refuse(self, status: int, sentence: str) -> None:
        """Answer, as far as nothing has been answered yet, and close."""
        phrase = HTTPStatus(status).phrase
        body = json.dumps({"code": phrase.title().replace(" ", ""), "description": sentence}).encode()
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            response = h11.Response(status_code=status, headers=headers, reason=phrase)
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
