"""No text of a request is ever SQL (attack 71): a property over every place whose text reaches the database.

The service runs as the *owner* here, so that only quoting stands between a request and harm. A tripwire
tells of SQL that was run, even in a read-only transaction: a notification, for which the test listens.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
import requests
from catalogue import counts, fetch_all, new_database, running
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from log_world import LogWorld

from eocat.catalog.database import Database

TRIP = "pg_catalog.pg_notify('trip', 'x')"
FRAGMENTS = [
    "'", "''", '"', "\\", "\\'", "$$", "$1", ";", "--", "/*", "*/", "(", ")", ",", ".", "%", "%s", "{}", "::",
    "=", "||",
    " OR ", " UNION SELECT ", " FROM ", "E'\\'", "\u02bc", "\uff07", "\n", "\t", "demo", "platform",
    "properties", "NULL",
    TRIP, f"' || {TRIP} || '", f"' OR {TRIP} IS NULL OR '", f"') OR {TRIP} IS NULL --", f"(SELECT {TRIP})",
    f"'; SELECT {TRIP}; --", f'" || {TRIP} || "', f"$$ || {TRIP} || $$", f"1 OR {TRIP} IS NULL",
    "DROP TABLE eocat.canary",
    f"x'::text || {TRIP} --", f"id; SELECT {TRIP}", f"ASC, {TRIP}", f"}}'; {TRIP}",
    "next:demo:", "prev:demo:a",
]  # fmt: skip
TEXTS = st.one_of(
    st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=5).map("".join),
    st.text(max_size=40),
)
LEAKS = re.compile(r"SELECT \*|pgstac\.|asyncpg|Traceback|\.py\b|/tmp/|syntax error|psycopg", re.IGNORECASE)
LIKE = {"collection": "demo", "item": "a", "row": 0}


def compare(name: str, value: Any, operator: str = "=") -> dict[str, Any]:
    return {"op": operator, "args": [{"property": name}, value]}


def quoted(text: str) -> str:
    return quote(text, safe="")


# place → the request: method, path, query parameters, JSON body
Ask = tuple[str, str, dict[str, Any] | None, Any]
PLACES: dict[str, Callable[[str], Ask]] = {
    "property": lambda t: ("POST", "search", None, {"filter": compare(t, "x")}),
    "operator": lambda t: ("POST", "search", None, {"filter": compare("platform", "x", t)}),
    "literal": lambda t: ("POST", "search", None, {"filter": compare("platform", t)}),
    "literals": lambda t: ("POST", "search", None, {"filter": compare("platform", [t, "x"], "in")}),
    "pattern": lambda t: ("POST", "search", None, {"filter": compare("platform", f"a{t}", "like")}),
    "casei": lambda t: ("POST", "search", None, {"filter": {"op": "=", "args": [
        {"op": "casei", "args": [{"property": "platform"}]}, {"op": "casei", "args": [t]}]}}),
    "timestamp": lambda t: ("POST", "search", None, {"filter": {"op": "t_before", "args": [
        {"property": "datetime"}, {"timestamp": t}]}}),
    "CQL2 text": lambda t: ("GET", "search", {"filter": f"platform = '{t}'"}, None),
    "collection": lambda t: ("POST", "search", None, {"collections": [t]}),
    "ids": lambda t: ("POST", "search", None, {"ids": [t]}),
    "sort": lambda t: ("POST", "search", None, {"sortby": [{"field": t, "direction": "asc"}]}),
    "sort of a GET": lambda t: ("GET", "collections/demo/items", {"sortby": t}, None),
    "fields": lambda t: ("POST", "search", None, {"fields": {"include": [t], "exclude": [f"x{t}"]}}),
    "query": lambda t: ("POST", "search", None, {"query": {t: {"eq": "x"}}}),
    "query's value": lambda t: ("POST", "search", None, {"query": {"platform": {"contains": t}}}),
    "token": lambda t: ("POST", "search", None, {"token": t}),
    "next token": lambda t: ("POST", "search", None, {"token": f"next:demo:{t}"}),
    "datetime": lambda t: ("POST", "search", None, {"datetime": t}),
    "path": lambda t: ("GET", f"collections/{quoted(t)}/items", None, None),
    "item's path": lambda t: ("GET", f"collections/demo/items/{quoted(t)}", None, None),
    "history's path": lambda t: ("GET", f"collections/{quoted(t)}/items/a/history", None, None),
    "free text": lambda t: ("GET", "collections", {"q": t}, None),
    "collections' filter": lambda t: ("GET", "collections", {"filter-lang": "cql2-json", "filter": json.dumps(
        compare("title", t))}, None),
    "collections' sort": lambda t: ("GET", "collections", {"sortby": t}, None),
    "collections' fields": lambda t: ("GET", "collections", {"fields": t}, None),
    "like": lambda t: ("POST", "search/similar", None, {"like": {**LIKE, "collection": t}}),
    "like's item": lambda t: ("POST", "search/similar", None, {"like": {**LIKE, "item": t}}),
    "similar's literal": lambda t: ("POST", "search/similar", None, {
        "like": LIKE, "filter": compare("platform", t)}),
    "similar's property": lambda t: ("POST", "search/similar", None, {"like": LIKE, "filter": compare(t, 1)}),
    "shape": lambda t: ("POST", "search/similar", None, {"like": LIKE, "intersects": {
        "type": "Point", "coordinates": [0, 0], "crs": {"type": "name", "properties": {"name": t}}}}),
}  # fmt: skip


@dataclass(frozen=True)
class Trap:
    """The service, and what would show that it ran a request's text."""

    url: str
    session: requests.Session
    database: Database
    listener: "psycopg.Connection[Any]"

    def tripped(self) -> bool:
        return bool(list(self.listener.notifies(timeout=0.05)))


@contextmanager
def listening(database: Database) -> Iterator["psycopg.Connection[Any]"]:
    with database.connect(autocommit=True) as connection:
        connection.execute("LISTEN trip")
        yield connection


@pytest.fixture(scope="module")
def trap(embedded: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trap]:
    with new_database(embedded) as database:
        world = LogWorld(database, tmp_path_factory.mktemp("out"))
        world.add("a")
        with database.connect() as connection:
            connection.execute("CREATE TABLE eocat.canary (song text)")
            connection.execute("INSERT INTO eocat.canary VALUES ('tweet')")
        as_owner = replace(database, reader=database.owner)
        with listening(database) as listener, running(as_owner) as url, requests.Session() as session:
            yield Trap(url, session, database, listener)


def test_the_tripwire_is_seen_even_from_a_read_only_transaction(trap: Trap) -> None:
    """Else nothing below would prove anything."""
    assert not trap.tripped()
    with trap.database.connect("reader", autocommit=True) as reader:
        reader.execute("SET default_transaction_read_only = on")
        reader.execute(f"SELECT {TRIP}")
    assert trap.tripped()


@pytest.mark.parametrize("place", PLACES)
def test_attack_71_no_text_of_a_request_is_run(trap: Trap, place: str) -> None:
    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(text=TEXTS)
    def check(text: str) -> None:
        method, path, parameters, body = PLACES[place](text)
        answer = trap.session.request(method, f"{trap.url}/{path}", params=parameters, json=body, timeout=30)
        assert answer.status_code in (200, 400, 404), (text, answer.status_code, answer.text[:300])
        if answer.status_code != 200 and "description" in answer.json():
            told = answer.json()["description"].replace(text, "").replace(text[:40], "")
            assert not LEAKS.search(told), (text, told)

    check()
    assert not trap.tripped()


def test_everything_is_still_there(trap: Trap) -> None:
    assert fetch_all(trap.database, "SELECT song FROM eocat.canary") == [("tweet",)]
    assert counts(trap.database) == {"collection": 1, "shard": 1, "chip": 6, "event": 2, "item": 1}


def test_attack_71_what_publishers_sign_is_text_too(embedded: Database, tmp_path: Path) -> None:
    """Property names, titles and keywords of registered documents: stored, searched, and never run."""
    with new_database(embedded) as database, listening(database) as listener:
        world = LogWorld(database, tmp_path)
        for number, text in enumerate(FRAGMENTS[-16:]):
            folder = world.write(f"i{number}", f"c{number}")
            path = folder / "item.json"
            item = json.loads(path.read_text())
            item["properties"] |= {f"x{text}": 1, "title": text, text[:60]: text}
            path.write_text(json.dumps(item))
            collection = json.loads((folder.parent / "collection.json").read_text())
            collection |= {"title": text, "keywords": [text], "summaries": {text: [text]}}
            (folder.parent / "collection.json").write_text(json.dumps(collection))
            assert world.register(folder).status == "registered", text
        with running(replace(database, reader=database.owner)) as url:
            for path_ in ("search?limit=100", "collections", "queryables", "collections?q=DROP"):
                assert requests.get(f"{url}/{path_}", timeout=30).status_code == 200
        assert not list(listener.notifies(timeout=0.1))
