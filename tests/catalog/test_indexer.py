"""Indexes come after the answer: no publisher waits, a crash leaves nothing, what is due is built later."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from catalogue import fetch_all, new_database
from intake_world import taking
from log_world import LogWorld
from shard_maker import draw_vectors
from test_similar import ask
from test_vector_index import index_names
from typer.testing import CliRunner

from eocat.catalog import partitions, vector_index
from eocat.catalog.admission import register
from eocat.catalog.database import Database
from eocat.catalog.indexer import Indexer
from eocat.catalog.intake_client import submit
from eocat.catalog.operations_cli import app

LARGE = 200  # rows, from which on a collection gets an index: here
VECTORS = draw_vectors(300, 8, seed=3)

# The process that is killed while it builds, as the service that takes registrations does.
BUILDER = f"""
import sys, time
from pathlib import Path
from eocat.catalog import vector_index
from eocat.catalog.admission import register
from eocat.catalog.database import Database
from eocat.catalog.indexer import Indexer
vector_index.EXACT_ROWS = {LARGE}
with Indexer(Database(sys.argv[1], sys.argv[2], None, Path(sys.argv[3])), quiet_s=0):
    time.sleep(600)
"""


@pytest.fixture
def world(embedded: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LogWorld]:
    monkeypatch.setattr(vector_index, "EXACT_ROWS", LARGE)
    monkeypatch.setattr(partitions, "EXACT_ROWS", LARGE)
    with new_database(embedded) as database:
        yield LogWorld(database, tmp_path / "out")


@contextmanager
def stopped_before_the_swap(database: Database) -> Iterator[None]:
    """While no index can be named as the one that answers: whoever builds one has to wait there."""
    with database.connect() as connection:
        connection.execute("LOCK TABLE eocat.vector_index IN EXCLUSIVE MODE")
        yield


def waits(database: Database) -> bool:
    """Whether an index has been built and waits for its name."""
    query = """SELECT FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'
                  AND starts_with(query, 'INSERT INTO eocat.vector_index')"""
    return bool(fetch_all(database, query, database.name))


def until(true: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + 60
    while not true():
        assert time.monotonic() < give_up, f"not in 60 s: {what}"
        time.sleep(0.05)


def nearest(database: Database, row: int = 7) -> tuple[str, int, int]:
    """Method, row and distance of the answer to a row's own vector, which is right whatever the method."""
    answer = ask(database, like={"vector": VECTORS[row].astype(float).tolist()}, limit=1)
    (found,) = answer.neighbours
    assert found.distance == pytest.approx(0, abs=1e-5)
    return answer.method, found.row, answer.candidates


def register_without_index(world: LogWorld, folder: Path) -> None:
    (done,) = register(world.database, [folder], world.policy, index=False)
    assert done.status == "registered"


def hnsw_of_any_state(database: Database) -> list[tuple[Any, ...]]:
    return fetch_all(database, "SELECT relname FROM pg_class WHERE relname LIKE '%hnsw%' AND relkind = 'i'")


def recalls(database: Database) -> list[tuple[Any, ...]]:
    return fetch_all(database, "SELECT k FROM eocat.recall")


def test_a_publisher_is_answered_before_the_index_is_built(world: LogWorld) -> None:
    folder = world.write("large", vectors=VECTORS)
    with taking(world) as site:
        with stopped_before_the_swap(world.database):
            (done,) = submit(site.url, site.token(), [folder])
            assert done.status == "registered"
            until(lambda: waits(world.database), "the index waits for its name")
            assert nearest(world.database) == ("exact", 7, 300)
        until(lambda: bool(recalls(world.database)), "the index is built and measured")
    method, row, candidates = nearest(world.database)
    assert (method, row) == ("index", 7)
    assert candidates < 300
    assert len(index_names(world.database)) == 1


def test_one_that_is_killed_while_it_builds_leaves_nothing_and_the_next_builds(world: LogWorld) -> None:
    folder = world.write("large", vectors=VECTORS)
    database = world.database
    register_without_index(world, folder)
    with stopped_before_the_swap(database):
        arguments = [database.as_writer().owner, database.reader, str(world.home)]
        builder = subprocess.Popen([sys.executable, "-c", BUILDER, *arguments])
        try:
            until(lambda: waits(database), "the index waits for its name")
        finally:
            builder.send_signal(signal.SIGKILL)
            builder.wait()
        until(lambda: not waits(database), "the server has noticed that nobody waits for the index")
    assert hnsw_of_any_state(database) == []
    assert fetch_all(database, "SELECT through FROM eocat.vector_index") == []
    assert nearest(database) == ("exact", 7, 300)
    with Indexer(database.as_writer(), quiet_s=0):
        until(lambda: bool(recalls(database)), "the service that starts anew builds it")
    assert nearest(database)[:2] == ("index", 7)
    assert len(hnsw_of_any_state(database)) == 1


def test_an_audit_builds_what_is_due(world: LogWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    register_without_index(world, world.write("large", vectors=VECTORS))
    monkeypatch.setenv("EOCAT_DATABASE_URL", world.database.asyncpg_dsn("owner"))
    ran = CliRunner().invoke(app, ["audit", "--home", str(world.home), "--queries", "20"])
    assert ran.exit_code == 0, ran.output
    assert "over 20 rows of 300" in ran.output
    assert nearest(world.database)[:2] == ("index", 7)


def test_an_index_that_cannot_be_built_stops_no_other(
    world: LogWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of two collections that are due, the first has lost its projection to somebody's mistake."""
    for collection in ("a", "b"):
        register_without_index(world, world.write("large", collection, vectors=VECTORS))
    with world.database.connect(autocommit=True) as connection:
        connection.execute("UPDATE eocat.projection SET axes = '\\x00' WHERE collection = 'a'")
    with Indexer(world.database.as_writer(), quiet_s=0):
        until(lambda: bool(recalls(world.database)), "the index of b is built and measured")
    assert fetch_all(world.database, "SELECT collection FROM eocat.vector_index") == [("b",)]
    assert "the index of a was not built" in caplog.text
