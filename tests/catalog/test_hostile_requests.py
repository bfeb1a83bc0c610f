"""Requests that mean harm or nonsense get one sentence with a 4xx; nothing leaks (attacks 69 to 74)."""

import gzip
import json
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import requests
from catalogue import counts, fetch_all, new_database, running
from shard_maker import DrawnEncoder, new_signer, policy_for, write_shard

from eocat.catalog.admission import register
from eocat.catalog.database import Database

LEAKS = re.compile(
    r"SELECT|pgstac\.|eocat\.|asyncpg|Traceback|/site-packages|\.py\b|/tmp/|psycopg|postgres", re.IGNORECASE
)
MARKUP = """<script>alert(1)</script>"'><img src=x onerror=alert(1)>"""
SCRIPTS = ("javascript:alert(1)", "data:text/html,<script>alert(1)</script>", "JaVaScRiPt:alert(1)//http://x")
LIKE = {"collection": "demo", "item": "s", "row": 0}


@pytest.fixture(scope="module")
def catalogue(embedded: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, str]]:
    signer = new_signer()
    folder = write_shard(
        tmp_path_factory.mktemp("out"),
        "demo",
        "s",
        signer=signer,
        count=40,
        encoder=DrawnEncoder(dimension=4),
    )
    for path in (folder.parent / "collection.json", folder / "item.json"):  # what of them nobody signs
        document = json.loads(path.read_text())
        document.get("properties", document)["title"] = MARKUP
        document["links"] += [{"rel": "about", "href": href, "title": MARKUP} for href in SCRIPTS]
        path.write_text(json.dumps(document))
    with new_database(embedded) as database:
        register(database, [folder], policy_for(signer))
        with running(database) as url:
            yield database, url


@pytest.fixture
def url(catalogue: tuple[Database, str]) -> Iterator[str]:
    """The service; whatever a test sends, the canary is intact afterwards."""
    database, address = catalogue
    before = counts(database)
    yield address
    assert counts(database) == before
    assert requests.get(f"{address}/_mgmt/health", timeout=30).json()["status"] == "UP"


def assert_refused(answer: requests.Response, *statuses: int) -> None:
    assert answer.status_code in (statuses or (400,)), answer.text
    body = answer.json()
    assert set(body) == {"code", "description"}
    assert 0 < len(body["description"]) < 400
    assert "\n" not in body["description"]
    assert not LEAKS.search(body["description"]), body["description"]


def nested(depth: int, operator: str = "not") -> dict[str, Any]:
    node: dict[str, Any] = {"op": "=", "args": [{"property": "platform"}, "x"]}
    for _ in range(depth):
        node = {"op": operator, "args": [node]}
    return node


def equals(name: str, value: Any, operator: str = "=") -> dict[str, Any]:
    return {"op": operator, "args": [{"property": name}, value]}


LONG_LINE = {"type": "LineString", "coordinates": [[0, number / 1e5] for number in range(20_000)]}

FILTERS: dict[str, Any] = {
    "sql in a property": equals("platform') OR 1=1; DROP TABLE chip; --", "x"),
    "quote in a property": equals("plat'form", "x"),
    "wildcard operator": equals("platform", "x", operator="%"),
    "half a wildcard": equals("platform", "x", operator="lik%"),
    "operator in capitals": equals("platform", "x", operator="LIKE"),
    "unknown operator": equals("platform", "x", operator="exec"),
    "unknown property": equals("nothing:of_the_kind", "x"),
    "leading percent": equals("platform", "%2a", operator="like"),
    "leading underscore": equals("platform", "_", operator="like"),
    "deep": nested(100),
    "deeper than a stack": nested(30),
    "many parts": {"op": "or", "args": [equals("gsd", number) for number in range(600)]},
    "huge list": equals("gsd", list(range(2000)), operator="in"),
    "one argument": {"op": "=", "args": [{"property": "gsd"}]},
    "no arguments": {"op": "and"},
    "arguments of another type": {"op": "and", "args": "x"},
    "a list": [1, 2],
    "a number": 7,
    "a bare property": {"property": "gsd"},
    "many vertices": {
        "op": "s_intersects",
        "args": [{"property": "geometry"}, LONG_LINE],
    },
    "function": {"op": "pg_sleep", "args": [10]},
}  # fmt: skip


@pytest.mark.parametrize("name", FILTERS)
def test_attack_71_filters(url: str, name: str) -> None:
    value = FILTERS[name]
    for path, body in (("search", {}), ("search/similar", {"like": LIKE})):
        answer = requests.post(
            f"{url}/{path}", json={**body, "filter": value, "filter-lang": "cql2-json"}, timeout=30
        )
        assert_refused(answer)
    text = quote(json.dumps(value))
    if len(text) < 30_000:
        for path in ("search?", "search/similar?like=demo/s/0&", "collections/demo/items?", "collections?"):
            if path == "collections?" and name == "unknown property":
                continue  # a Collection may have any member
            assert_refused(requests.get(f"{url}/{path}filter-lang=cql2-json&filter={text}", timeout=30))


@pytest.mark.parametrize(
    "text",
    [
        "NOT " * 2000 + "gsd = 1",
        "gsd" + "=gsd" * 1500,
        "gsd=" + "- " * 1500 + "1",
        "(" * 500 + "gsd=1" + ")" * 500,
        "gsd = 1; DROP TABLE eocat.chip",
        "platform LIKE '%2a'",
        "platform = 'x",
        "pg_sleep(10) = 1",
        "gsd",
        "'; SELECT 1 --",
        "x" * 9000,
    ],
    ids=[
        "not",
        "equals",
        "minus",
        "parentheses",
        "sql",
        "leading percent",
        "quote",
        "function",
        "bare",
        "comment",
        "long",
    ],
)
def test_attack_71_filters_as_text(url: str, text: str) -> None:
    """CQL2's parser recurses on the stack: unbounded, the first three end the whole process."""
    for path in ("search?", "search/similar?like=demo/s/0&", "collections/demo/items?", "collections?"):
        answer = requests.get(f"{url}/{path}filter-lang=cql2-text&filter={quote(text)}", timeout=30)
        assert_refused(answer)


@pytest.mark.parametrize(
    "path",
    [
        "search?bbox=1,2,3", "search?bbox=1,2,3,x", "search?bbox=0,91,1,92", "search?bbox=0,10,1,5",
        "search?bbox=nan,0,1,1", "search?datetime=yesterday", "search?datetime=2024-13-01T00:00:00Z",
        "search?datetime=2025-01-01T00:00:00Z/2024-01-01T00:00:00Z", "search?limit=0", "search?limit=-1",
        "search?limit=x", "search?token=zzz", "search?token=next:00:00", "search?token=next:zz:%27",
        "search?ids=%00",
        "search?intersects=x", "search?query=x", "search?query=%7B%22gsd%22:%7B%22%25%22:1%7D%7D",
        "collections?offset=-1", "collections?bbox=1", "collections?limit=0",
        "collections/demo/items?token=zzz", "search/similar", "search/similar?like=x",
        "search/similar?like=a/b", "search/similar?like=demo/s/1_0", "search/similar?like=demo/s/%D9%A3",
        "search/similar?like=demo/s/-1",
        "search/similar?like=181,0", "search/similar?like=nan,0", "search/similar?like=1e999,0",
        "search/similar?like=demo/s/0&limit=1001", "search/similar?like=demo/s/0&limit=%2B5",
        "search/similar?like=demo/s/0&exact=yes", "search/similar?like=demo/s/0&nonsense=1",
        "search/similar?like=demo/s/0&like=demo/s/1", "search/similar?like=demo/s/0&bbox=1,2,3,4,5",
        "search/similar?like=demo/s/0&datetime=../..",
        "search/similar?like=demo/s/0&filter=gsd=1&filter-lang=sql",
        "search/similar?like=demo/s/0&limit=101&include_proof=true",
        "collections/demo/items/s/rows/x/proof", "collections/demo/items/s/rows/99999999999999999999/proof",
        "collections/demo/items/s/rows/1e2/proof", "collections/de%20mo/items/s/history",
    ],
)  # fmt: skip
def test_attack_71_addresses(url: str, path: str) -> None:
    assert_refused(requests.get(f"{url}/{path}", timeout=30))


BODIES: dict[str, bytes] = {
    "list": b"[null, null]",
    "empty": b"",
    "not json": b"{",
    "not utf-8": b'{"like": "\xff"}',
    "nan": b'{"like": {"vector": [NaN, 1, 1, 1]}}',
    "infinity": b'{"like": {"vector": [Infinity, 1, 1, 1]}}',
    "overflow": b'{"like": {"vector": [1e999, 1, 1, 1]}}',
    "beyond float16": b'{"like": {"vector": [70000, 1, 1, 1]}}',
    "zero": b'{"like": {"vector": [0, 0, 0, 0]}}',
    "wrong dimension": b'{"like": {"vector": [1, 1, 1]}}',
    "no numbers": b'{"like": {"vector": []}}',
    "booleans": b'{"like": {"vector": [true, true, true, true]}}',
    "text": b'{"like": {"vector": ["1", "1", "1", "1"]}}',
    "huge dimension": b'{"like": {"vector": [' + b",".join([b"1"] * 70_000) + b"]}}",
    "huge k": b'{"like": {"vector": [1, 1, 1, 1]}, "limit": 1000000}',
    "two kinds": b'{"like": {"vector": [1, 1, 1, 1], "point": [1, 1]}}',
    "two keys": b'{"like": {"point": [1, 1]}, "like": {"point": [2, 2]}}',
    "point of three": b'{"like": {"point": [1, 1, 1]}}',
    "null id": b'{"like": {"collection": "demo", "item": "s\\u0000", "row": 0}}',
    "sql in an id": b'{"like": {"collection": "demo\'--", "item": "s", "row": 0}}',
    "negative row": b'{"like": {"collection": "demo", "item": "s", "row": -1}}',
    "fraction of a row": b'{"like": {"collection": "demo", "item": "s", "row": 0.5}}',
    "unknown member": b'{"like": {"point": [1, 1]}, "conf": {"context": "on"}}',
    "box and shape": b'{"like": {"point": [1, 1]}, "bbox": [0,0,1,1],'
    b' "intersects": {"type": "Point", "coordinates": [0, 0]}}',
    "no geometry": b'{"like": {"point": [1, 1]}, "intersects": {"type": "Sphere", "coordinates": [0, 0]}}',
    "deep json": b'{"like":' + b"[" * 5000 + b"]" * 5000 + b"}",
}


@pytest.mark.parametrize("name", BODIES)
def test_attack_72_bodies(url: str, name: str) -> None:
    headers = {"Content-Type": "application/json"}
    assert_refused(requests.post(f"{url}/search/similar", data=BODIES[name], headers=headers, timeout=30))


@pytest.mark.parametrize(
    "body",
    [
        b"[null, null]",
        b"{",
        b'{"ids": ["\\u0000"]}',
        b'{"bbox": [1]}',
        b'{"bbox": "x"}',
        b'{"limit": "x"}',
        b'{"query": {"gsd": {"$where": 1}}}',
        b'{"query": {"gsd": {"in": 1}}}',
        b'{"query": {"gsd\'; --": {"eq": 1}}}',
        b'{"query": [1]}',
        b'{"x": 123456789012345678901234567890}',
        b'{"token": "zzz"}',
        b'{"datetime": "x"}',
        b'{"collections": 7}',
        b'{"sortby": [{"field": "x\'", "direction": "up"}]}',
        b'{"limit": NaN}',
        b'{"bbox": [NaN, 0, 1, 1]}',
        b'{"bbox": [-Infinity, 0, 1, 1]}',
        b'{"intersects": {"type": "Point", "coordinates": [NaN, 0]}}',
        b'{"intersects": {"type": "Point", "coordinates": [1e999, 0]}}',
        b'{"filter": {"op": "=", "args": [{"property": "gsd"}, NaN]}, "filter-lang": "cql2-json"}',
        b'{"query": {"gsd": {"eq": Infinity}}}',
        b'{"ids": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"intersects": ' + b'{"a": ' * 100_000 + b"1" + b"}" * 100_000 + b"}",
    ],
)
def test_attack_71_bodies_of_searches(url: str, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    assert_refused(requests.post(f"{url}/search", data=body, headers=headers, timeout=30))


def test_attack_71_a_self_intersecting_polygon_is_answered_or_refused(url: str) -> None:
    bow = {"type": "Polygon", "coordinates": [[[10, 45], [12, 47], [12, 45], [10, 47], [10, 45]]]}
    for path, body in (("search", {}), ("search/similar", {"like": LIKE})):
        answer = requests.post(f"{url}/{path}", json={**body, "intersects": bow}, timeout=30)
        assert answer.status_code == 200 or assert_refused(answer) is None


def test_callers_cannot_set_pgstac_s_switches(url: str) -> None:
    plain = requests.post(f"{url}/search", json={"collections": ["demo"]}, timeout=30).json()
    conf = {"nohydrate": True, "context": "off", "base_url": "https://evil.example"}
    turned = requests.post(f"{url}/search", json={"collections": ["demo"], "conf": conf}, timeout=30).json()
    assert turned == plain


def test_attack_73_a_body_above_1_mib_is_413_with_and_without_a_length(url: str) -> None:
    large = b'{"like": {"vector": [' + b"1," * 600_000 + b"1]}}"
    assert_refused(requests.post(f"{url}/search/similar", data=large, timeout=30), 413)
    pieces = (large[start : start + 65536] for start in range(0, len(large), 65536))
    assert_refused(requests.post(f"{url}/search/similar", data=pieces, timeout=30), 413)
    assert_refused(requests.post(f"{url}/search", data=large, timeout=30), 413)


def test_attack_69_forwarded_headers_do_not_choose_the_links(url: str) -> None:
    headers = {
        "X-Forwarded-Host": "evil.example",
        "Forwarded": "host=evil.example;proto=https",
        "X-Forwarded-Proto": "https",
    }
    for path in ("", "collections", "search", "search/similar?like=demo/s/0&limit=1"):
        assert "evil.example" not in requests.get(f"{url}/{path}", headers=headers, timeout=30).text


def test_attack_69_unknown_places_and_methods(url: str) -> None:
    for path in (
        "nothing",
        "collections/absent",
        "collections/demo/items/absent",
        "collections/models/items/s/history",
    ):
        assert_refused(requests.get(f"{url}/{path}", timeout=30), 404)
    for method in ("PUT", "DELETE", "PATCH"):
        headers = {"X-HTTP-Method-Override": "GET"}
        answer = requests.request(method, f"{url}/collections/demo/items/s", headers=headers, timeout=30)
        assert_refused(answer, 405)


@pytest.mark.parametrize(
    "value",
    ["bytes=0-0," + ",".join(f"{n}-{n}" for n in range(2000)), "bytes=9-1", "bytes=x", "bytes=999999999-"],
)
def test_attack_73_ranges(url: str, value: str) -> None:
    address = f"{url}/collections/demo/items/s/assets/thumbnail"
    answer = requests.get(address, headers={"Range": value}, timeout=30)
    assert answer.status_code in (200, 206, 400, 416)
    assert len(answer.content) <= 1 << 20


def test_attack_72_a_flood_of_neighbours_is_answered(url: str) -> None:
    """64 requests at once on ten connections: each waits for its turn, none fails."""

    def ask(row: int) -> int:
        body = {"like": {**LIKE, "row": row % 40}, "limit": 40}
        return requests.post(f"{url}/search/similar", json=body, timeout=60).status_code

    with ThreadPoolExecutor(32) as pool:
        assert set(pool.map(ask, range(64))) == {200}


def test_attack_73_a_slow_body_holds_up_nobody(url: str) -> None:
    host, _, port = urlsplit(url).netloc.partition(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(b"POST /search/similar HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        began = time.monotonic()
        assert requests.get(f"{url}/_mgmt/health", timeout=30).status_code == 200
        assert time.monotonic() - began < 5


def test_attack_74_a_lost_database_is_503_without_details(embedded: Database) -> None:
    with new_database(embedded) as database, running(database) as address:
        with embedded.named("postgres").connect(autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE "{database.name}" ALLOW_CONNECTIONS false')
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database.name]
            )
        for path in ("_mgmt/health", "collections", "search/similar?like=1,1"):
            assert_refused(requests.get(f"{address}/{path}", timeout=30), 503)
        assert requests.get(f"{address}/_mgmt/ping", timeout=30).status_code == 200


def test_attack_74_the_owner_of_the_files_is_not_told(
    url: str, catalogue: tuple[Database, str], tmp_path: Path
) -> None:
    """No answer names a folder of the server."""
    [(location,)] = fetch_all(catalogue[0], "SELECT location FROM eocat.shard")
    for path in (
        "collections/demo/items/s",
        "collections/demo/items/s/history",
        "search/similar?like=demo/s/0&include_proof=true",
    ):
        assert location not in requests.get(f"{url}/{path}", timeout=30).text


@pytest.mark.parametrize("packed", ["gzip", "deflate", "br", "zstd"])
def test_attack_73_a_packed_body_is_not_unpacked(url: str, packed: str) -> None:
    """Neither a bomb of 100 MiB nor what would be a good request."""
    for body in (b" " * (100 << 20), b'{"limit": 1}'):
        headers = {"Content-Type": "application/json", "Content-Encoding": packed}
        for path in ("search", "search/similar"):
            answer = requests.post(f"{url}/{path}", data=gzip.compress(body), headers=headers, timeout=30)
            assert_refused(answer)


class Hrefs(HTMLParser):
    """Where a page leads, and what elements it is made of."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.hrefs: list[str] = []
        self.elements: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        for name, value in attributes:
            assert not name.startswith("on"), (tag, name)
            if name in ("href", "src", "action"):
                self.hrefs.append(value or "")


def test_attack_72_markup_of_a_publisher_s_is_text_on_the_page(url: str) -> None:
    answer = requests.get(url, headers={"Accept": "text/html"}, timeout=30)
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert escape(MARKUP) in answer.text
    page = Hrefs(answer.text)
    assert not page.elements & {"script", "img", "iframe", "form", "base", "object"}
    assert "collections/demo" in page.hrefs
    assert all(re.fullmatch(r"[a-z][a-z./-]*", href) for href in page.hrefs), page.hrefs


def test_attack_72_documents_with_scripts_are_never_a_page(url: str) -> None:
    for path in ("collections", "collections/demo", "collections/demo/items/s", "search"):
        answer = requests.get(f"{url}/{path}", headers={"Accept": "text/html"}, timeout=30)
        assert "alert(1)" in answer.text
        assert answer.headers["content-type"].endswith("json")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"


BREAK = "%0d%0aX-Evil:%20yes%0d%0a%0d%0a"


@pytest.mark.parametrize(
    "path",
    [
        f"search?ids={BREAK}", f"search?collections=demo&limit=1&x={BREAK}", f"search?datetime={BREAK}",
        f"search?token={BREAK}", f"collections?q={BREAK}", f"collections/demo/items?limit=1&x={BREAK}",
        f"collections/demo/items/{BREAK}", f"collections/{BREAK}/", f"{BREAK}", f"log/tile/{BREAK}",
        f"search/similar?like={BREAK}", f"collections/demo/items/s/assets/{BREAK}",
    ],
)  # fmt: skip
def test_attack_71_a_line_break_makes_no_header(url: str, path: str) -> None:
    for accept in ("application/json", "application/vnd.apache.parquet", "text/html"):
        answer = requests.get(f"{url}/{path}", headers={"Accept": accept}, timeout=30, allow_redirects=False)
        assert answer.status_code < 500
        assert "x-evil" not in answer.headers
        assert not any("\n" in value or "\r" in value for value in answer.headers.values())


@pytest.mark.parametrize(
    "host", ['x"><script>', "a b", "user:pw@evil.example", "evil.example/../", "[::1", "x:99999999"]
)
def test_attack_69_a_host_that_is_none_is_in_no_link(url: str, host: str) -> None:
    for accept in ("application/json", "text/html"):
        headers = {"Host": host, "Accept": accept}
        answer = requests.get(url, headers=headers, timeout=30, allow_redirects=False)
        assert answer.status_code in (200, 400)
        assert host not in answer.text


TRAVERSALS = ("..%2f", "%2e%2e%2f", "..%5c", "%2e%2e/", "..%252f", "%c0%ae%c0%ae/", "%00")


@pytest.mark.parametrize("up", TRAVERSALS)
def test_attack_70_no_path_leads_out(url: str, up: str) -> None:
    for place, file in (
        ("collections/demo/items/s/assets/", "item.json"),
        ("collections/demo/items/s/assets/", "../../etc/passwd"),
        ("collections/demo/items/", "catalogue-keys/log.pem"),
        ("log/tile/", "checkpoint"),
        ("log/tile/entries/", "../catalogue-keys/log.pem"),
        ("log/envelope/", "checkpoint"),
        ("log/", "catalogue-keys/log.pem"),
    ):
        request = requests.Request("GET", url).prepare()
        request.url = f"{url}/{place}{up * 4}{file}"  # as it stands: a client would resolve it
        with requests.Session() as session:
            assert_refused(session.send(request, timeout=30), 400, 404)


def test_attack_69_other_methods_show_and_do_nothing(url: str) -> None:
    for path in ("", "collections/demo", "collections/demo/items/s", "search", "log/checkpoint"):
        whole, head = (requests.request(method, f"{url}/{path}", timeout=30) for method in ("GET", "HEAD"))
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == whole.headers["content-type"]
        for method in ("TRACE", "CONNECT", "OPTIONS", "PROPFIND"):
            answer = requests.request(method, f"{url}/{path}", headers={"X-Secret": "echo"}, timeout=30)
            assert_refused(answer, 405)
            assert "echo" not in answer.text
            assert set(answer.headers["allow"].split(", ")) <= {"GET", "HEAD", "POST"}
