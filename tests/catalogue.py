"""A catalogue for a test module: its own migrated database on the session's server, and the service."""

import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn

from eocat.catalog.database import Database
from eocat.catalog.guards import Rate
from eocat.catalog.schema import migrate
from eocat.catalog.service import create_app
from eocat.catalog.serving import MAX_READERS, server_config

TEMPLATE = "t_migrated"


@contextmanager
def new_database(embedded: Database) -> Iterator[Database]:
    """An own database, migrated, with a home of its own for keys and log; both are gone at the end.

    It is a copy of one that was migrated once in the session, which takes a tenth of the time.
    """
    with tempfile.TemporaryDirectory(prefix="eocat-") as home:
        own = replace(embedded.named(f"t_{uuid.uuid4().hex[:12]}"), home=Path(home))
        yield from _made(embedded, own)


def _made(embedded: Database, own: Database) -> Iterator[Database]:
    with embedded.named("postgres").connect(autocommit=True) as connection:
        known = connection.execute("SELECT FROM pg_database WHERE datname = %s", [TEMPLATE]).fetchone()
        if known is None:
            connection.execute(f"CREATE DATABASE {TEMPLATE}")
            migrate(embedded.named(TEMPLATE))
        connection.execute(f'CREATE DATABASE "{own.name}" TEMPLATE {TEMPLATE}')
        try:
            yield own
        finally:
            connection.execute(f'DROP DATABASE "{own.name}" WITH (FORCE)')


@contextmanager
def running(database: Database, rate: Rate | None = None, connections: int = MAX_READERS) -> Iterator[str]:
    """The URL of a real server, on a port that the system chose, which is stopped at the end."""
    server = uvicorn.Server(server_config(create_app(database, rate), "127.0.0.1", 0, connections))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while not server.started:
            assert thread.is_alive(), "the service did not start"
            assert time.monotonic() < deadline, "the service did not start in 30 s"
            time.sleep(0.01)
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join(30)


def fetch_all(database: Database, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with database.connect() as connection:
        connection.execute("SET search_path TO pgstac, public")
        return connection.execute(query, parameters or None).fetchall()


def counts(database: Database) -> dict[str, int]:
    """Rows of each table, and Items of shards in pgSTAC."""
    tables = {name: f"eocat.{name}" for name in ("collection", "shard", "chip", "event")}
    found = {
        name: int(fetch_all(database, f"SELECT count(*) FROM {table}")[0][0])
        for name, table in tables.items()
    }
    items = fetch_all(database, "SELECT count(*) FROM pgstac.items WHERE collection <> 'models'")
    return found | {"item": int(items[0][0])}
