"""Who holds a connection and gives nothing, or too much, is refused; others are answered (attack 73)."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from catalogue import new_database, running
from intake_world import taking
from log_world import LogWorld

from eocat.catalog.connections import HEAD_BYTES, FairProtocol
from eocat.catalog.database import Database
from eocat.catalog.serving import MAX_READERS

ASKS = b"GET /_mgmt/ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
HALF = b"GET /_mgmt/ping HTTP/1.1\r\nHost: x\r\nX-Slow: "
SENDS = b"POST /search HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
GREEDY, MODEST = "127.0.0.1", "127.0.0.2"


@pytest.fixture(scope="module")
def database(embedded: Database) -> Iterator[Database]:
    with new_database(embedded) as own:
        yield own


@contextmanager
def connected(url: str, client: str = GREEDY) -> Iterator[socket.socket]:
    place = urlsplit(url)
    address = (str(place.hostname), int(place.port or 0))
    with socket.create_connection(address, timeout=30, source_address=(client, 0)) as connection:
        yield connection


def rest_of(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    parts = []
    try:
        while part := connection.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:  # closed while something of ours was on its way
        pass
    return b"".join(parts)


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def ask(url: str, request: bytes = ASKS, client: str = GREEDY) -> bytes:
    with connected(url, client) as connection:
        connection.sendall(request)
        return rest_of(connection)


def assert_refused(answer: bytes, status: int) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert status_of(head) == status, answer
    assert b"connection: close" in head.lower()
    assert set(json.loads(body)) == {"code", "description"}


def is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    finally:
        connection.settimeout(30)


def until(true: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + 30
    while not true():
        assert time.monotonic() < give_up, f"not in 30 s: {what}"
        time.sleep(0.02)


@pytest.fixture
def hasty(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A service that gives a head half a second."""
    monkeypatch.setattr(FairProtocol, "head_s", 0.5)
    with running(database) as url:
        yield url


def test_a_head_that_comes_byte_by_byte_is_given_up(hasty: str) -> None:
    with connected(hasty) as connection:
        connection.sendall(HALF)
        connection.settimeout(0.1)
        answer = b""
        while not answer:
            try:
                answer = connection.recv(1 << 16)
            except TimeoutError:
                connection.sendall(b"x")
        assert_refused(answer, 408)


def test_one_that_says_nothing_is_closed_without_a_word(hasty: str) -> None:
    with connected(hasty) as connection:
        assert rest_of(connection) == b""


def test_a_second_head_has_its_time_too(hasty: str) -> None:
    with connected(hasty) as connection:
        connection.sendall(b"GET /_mgmt/ping HTTP/1.1\r\nHost: x\r\n\r\n" + HALF)
        first, second = rest_of(connection).split(b"HTTP/1.1 ")[1:]
        assert first.startswith(b"200")
        assert second.startswith(b"408")


def test_a_slow_body_is_not_a_slow_head(hasty: str) -> None:
    with connected(hasty) as connection:
        connection.sendall(SENDS)
        time.sleep(1)
        connection.sendall(b" " * 97 + b"}" + b" ")
        assert connection.recv(12) == b"HTTP/1.1 200"


def test_two_hundred_idle_connections_shut_nobody_out(database: Database) -> None:
    with running(database) as url, ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(connected(url)).sendall(HALF)
        for client in (GREEDY, MODEST):
            assert status_of(ask(url, client=client)) == 200


def test_who_holds_most_makes_room_and_who_holds_little_keeps_it(database: Database) -> None:
    with running(database, connections=8) as url, ExitStack() as stack:
        modest = stack.enter_context(connected(url, MODEST))
        modest.sendall(HALF)
        greedy = [stack.enter_context(connected(url)) for _ in range(30)]
        for connection in greedy[-7:]:
            connection.sendall(HALF)
        until(lambda: sum(map(is_closed, greedy)) == 23, "all but seven of the greedy client's are closed")
        assert status_of(ask(url, client="127.0.0.3")) == 200
        modest.sendall(b"\r\nConnection: close\r\n\r\n")
        assert status_of(rest_of(modest)) == 200


def test_connections_that_send_bodies_make_room_for_others_and_not_for_their_own(database: Database) -> None:
    with running(database, connections=4) as url, ExitStack() as stack:
        sending = [stack.enter_context(connected(url)) for _ in range(4)]
        for connection in sending:
            connection.sendall(SENDS)
        time.sleep(0.5)  # they have been read
        assert_refused(ask(url), 503)
        assert status_of(ask(url, client=MODEST)) == 200
        assert sum(map(is_closed, sending)) == 1


def test_the_intake_is_not_shut_by_idle_connections(embedded: Database, tmp_path: Path) -> None:
    """They are as many as it takes; a publisher from elsewhere registers all the same."""
    with new_database(embedded) as own, taking(LogWorld(own, tmp_path)) as site, ExitStack() as stack:
        for _ in range(MAX_READERS):
            stack.enter_context(connected(site.url)).sendall(HALF)
        assert status_of(ask(site.url, client=MODEST)) == 200


HEADS = {
    "line": b"GET /?x=" + b"a" * 2 * HEAD_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "header": b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 2 * HEAD_BYTES + b"\r\n\r\n",
    "headers": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * HEAD_BYTES + b"\r\n",
    "without end": b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 2 * HEAD_BYTES,
}


@pytest.fixture(scope="module")
def url(database: Database) -> Iterator[str]:
    with running(database) as address:
        yield address
        assert status_of(ask(address)) == 200


@pytest.mark.parametrize("name", HEADS)
def test_a_head_beyond_its_limit_is_431(url: str, name: str) -> None:
    with connected(url) as connection:
        connection.sendall(
            HEADS[name][: HEAD_BYTES + (32 << 10)]
        )  # more would be on its way when it is refused
        assert_refused(rest_of(connection), 431)


POST = b"POST /search HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
UNREADABLE = {
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n{}",
    "a signed length": POST + b"Content-Length: +2\r\n\r\n{}",
    "another spelling of a length": POST + b"Content-Length: 0_2\r\n\r\n{}",
    "a length and chunks": POST
    + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "no size of a chunk": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    "a size beyond all": POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"F" * 30 + b"\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "a space in a name": b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "a raw byte in the path": b"GET /\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_not_http_is_400(url: str, name: str) -> None:
    assert_refused(ask(url, UNREADABLE[name]), 400)


def test_a_packed_transfer_is_501(url: str) -> None:
    assert_refused(ask(url, POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), 501)


def test_what_stands_after_a_body_s_length_is_no_part_of_it(url: str) -> None:
    """A length that is too short: the rest is read as a request of its own, and is none."""
    smuggled = b"{}GET /_mgmt/ping HTTP/1.1\r\nHost: x\r\n\r\n"
    answers = ask(url, POST + b"Content-Length: 1\r\n\r\n" + smuggled).split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"400", b"400"]
