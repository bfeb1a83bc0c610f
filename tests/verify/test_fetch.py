"""fetch.py against a real HTTP server: the named origin only, no redirect, limits before memory or disk."""

import gzip
import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from make_shard import NOW, Made, make_shard, policy

from eocat.verify.canonical import MAX_BYTES
from eocat.verify.check import check
from eocat.verify.edge import fetch
from eocat.verify.edge.fetch import fetch_item
from eocat.verify.errors import Malformed, Unavailable
from eocat.verify.report import Outcome

Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """Serves a shard's files; `answers` replaces what is said to a path; `asked` are the paths asked for."""

    def __init__(self, folder: Path) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                if answer := outer.answers.get(self.path):
                    answer(self)
                elif (folder / self.path[1:]).is_file():
                    send(200, (folder / self.path[1:]).read_bytes())(self)
                else:
                    send(404, b"none")(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the library's name
                """Keep stderr quiet."""

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that stops reading is what these tests are about."""

        self.http: socketserver.BaseServer = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"  # type: ignore[index]
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


def send(status: int, body: bytes, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def endless(block: bytes, pause_s: float = 0) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(block)
            time.sleep(pause_s)

    return answer


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_shard(tmp_path / "scene")


@pytest.fixture
def server(made: Made) -> Iterator[Server]:
    running = Server(made.folder)
    yield running
    running.http.shutdown()
    running.http.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "downloads"
    path.mkdir()
    return path


def outcome(server: Server, folder: Path) -> Outcome:
    return check(fetch_item(f"{server.url}/item.json", folder), policy(), now=NOW).outcome


def test_an_item_over_http_verifies(server: Server, folder: Path) -> None:
    assert outcome(server, folder) is Outcome.VERIFIED
    assert server.asked[0] == "/item.json"


def test_a_file_that_is_not_there_is_unavailable(server: Server, folder: Path) -> None:
    server.answers["/thumbnail.png"] = send(503, b"later")
    assert outcome(server, folder) is Outcome.UNAVAILABLE


def test_a_body_that_breaks_off_is_unavailable_not_tampered(server: Server, folder: Path) -> None:
    server.answers["/thumbnail.png"] = send(200, b"\x89PNG", Content_Length="27")
    assert outcome(server, folder) is Outcome.UNAVAILABLE


def test_another_file_is_tampered(server: Server, folder: Path) -> None:
    server.answers["/thumbnail.png"] = send(200, b"another")
    assert outcome(server, folder) is Outcome.TAMPERED


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("path", ["/item.json", "/attestation.jsonl"])
def test_attack_62_a_redirect_is_not_followed(server: Server, folder: Path, path: str, status: int) -> None:
    server.answers[path] = send(status, b"", Location=f"{server.url}/thumbnail.png")
    with pytest.raises(Unavailable, match="redirects are not followed"):
        outcome(server, folder)
    assert "/thumbnail.png" not in server.asked


def test_attack_62_a_redirected_file_is_unavailable(server: Server, folder: Path) -> None:
    server.answers["/row-hashes.bin"] = send(302, b"", Location="http://169.254.169.254/latest/meta-data")
    assert outcome(server, folder) is Outcome.UNAVAILABLE


def with_href(made: Made, key: str, href: str) -> None:
    item = made.item
    item["assets"][key]["href"] = href
    made.write_item(item)


@pytest.mark.parametrize(
    "href",
    ["http://127.0.0.1:1/x", "http://[::1]/x", "http://[::ffff:10.0.0.1]/x", "http://169.254.169.254/x",
     "http://2130706433/x", "http://0177.0.0.1/x", "//localhost/x", "https://127.0.0.1/x", "file:///etc/passwd",
     "ftp://127.0.0.1/x", "data:,x", "http://user@127.0.0.1/x", "javascript:1", "\\\\host\\x"],
)  # fmt: skip
def test_attack_62_no_other_server_and_no_other_scheme_is_asked(
    made: Made, server: Server, folder: Path, href: str
) -> None:
    with_href(made, "thumbnail", href)
    assert outcome(server, folder) is Outcome.UNAVAILABLE
    with_href(made, "attestation", href)
    with pytest.raises(Unavailable):
        outcome(server, folder)
    assert "/etc/passwd" not in server.asked


@pytest.mark.parametrize("href", ["http://[::1", "http://[x]/y", "//["])
def test_attack_62_an_href_that_is_no_address_is_malformed(
    made: Made, server: Server, folder: Path, href: str
) -> None:
    with_href(made, "thumbnail", href)
    with pytest.raises(Malformed, match="no address"):
        outcome(server, folder)


@pytest.mark.parametrize(
    "url",
    ["ftp://127.0.0.1/item.json", "file:///etc/passwd", "http://user:secret@127.0.0.1/x", "http://[::1",
     "item.json", "HTTP://127.0.0.1/", ""],
)  # fmt: skip
def test_attack_62_an_address_that_is_not_http_is_refused(folder: Path, url: str) -> None:
    with pytest.raises(Malformed, match="not an http"):
        fetch_item(url, folder)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:1/item.json", "http://127.0.0.1:1/a b", "http://127.0.0.1:x/", "http://host.invalid/"],
)
def test_a_server_that_cannot_be_reached_is_unavailable(folder: Path, url: str) -> None:
    with pytest.raises(Unavailable):
        fetch_item(url, folder)


def test_attack_64_an_endless_item_is_cut_at_its_limit(server: Server, folder: Path) -> None:
    server.answers["/item.json"] = endless(b" " * 65536)
    with pytest.raises(Malformed, match=f"more than {MAX_BYTES} bytes"):
        outcome(server, folder)


def test_attack_64_an_endless_file_is_cut_after_its_signed_size(
    made: Made, server: Server, folder: Path
) -> None:
    server.answers["/thumbnail.png"] = endless(b"x" * 65536)
    assert outcome(server, folder) is Outcome.TAMPERED
    largest = max(made.item["assets"][key]["file:size"] for key in ("embeddings", "row-hashes", "thumbnail"))
    assert max(path.stat().st_size for path in folder.iterdir()) <= largest + 1


def test_attack_64_a_body_that_trickles_is_given_up(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "TIMEOUT_S", 0.3)  # the real grace is longer than a test
    server.answers["/item.json"] = endless(b" ", pause_s=0.05)
    with pytest.raises(Unavailable, match="bytes per second"):
        outcome(server, folder)


def test_attack_64_a_compressed_answer_is_not_unpacked(server: Server, folder: Path) -> None:
    server.answers["/item.json"] = send(200, gzip.compress(b"{}"), Content_Encoding="gzip")
    with pytest.raises(Malformed, match="UTF-8"):
        outcome(server, folder)


@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b'{"assets": []}', b"5", b"null", b"", b"<html>", b'{"assets": null}']
)
def test_what_is_no_item_is_malformed(server: Server, folder: Path, body: bytes) -> None:
    server.answers["/item.json"] = send(200, body)
    with pytest.raises(Malformed):
        outcome(server, folder)


@pytest.mark.parametrize("size", [None, -1, "27", 1 << 50, True, 2.5])
def test_a_size_that_is_no_size_downloads_next_to_nothing(
    made: Made, server: Server, folder: Path, size: Any
) -> None:
    item = made.item
    item["assets"]["thumbnail"]["file:size"] = size
    server.answers["/item.json"] = send(200, json.dumps(item).encode())
    server.answers["/thumbnail.png"] = endless(b"x" * 65536)
    assert outcome(server, folder) in (Outcome.MALFORMED, Outcome.TAMPERED)
    assert sorted(path.stat().st_size for path in folder.iterdir())[0] <= 2
