"""A real PostgreSQL for the catalogue's tests: the embedded cluster, in a short home, gone afterwards.

    def test_x(database): ...        one migrated database for the whole session: leave no rows that others
    count def test_y(fresh_database): ...  an own, empty database on the same server; call `migrate` if
    you need it cluster                          the running cluster itself (do not stop it)

    with database.connect() as connection: ...          psycopg, the owner; "reader" for the read-only role
    connect_to_db(app, postgres_settings=database.api_settings())      stac-fastapi-pgstac

The programs come from a suitable system PostgreSQL or from the private prefix, which is made once in
eocat's cache.
"""

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from eocat.catalog.cluster import Cluster
from eocat.catalog.database import Database, find_database
from eocat.catalog.schema import migrate


@pytest.fixture
def short_home() -> Iterator[Path]:
    """An empty home that the system user can reach, which pytest's tmp_path of mode 0700 is not."""
    yield from _short_home()


@pytest.fixture(scope="session")
def session_home() -> Iterator[Path]:
    yield from _short_home()


def _short_home() -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="eocat-", dir="/tmp"))
    home.chmod(0o755)
    try:
        yield home
    finally:
        Cluster(home).stop()
        shutil.rmtree(home)


@pytest.fixture(scope="session")
def embedded(session_home: Path) -> Database:
    """The session's server, its database not yet made."""
    return find_database(session_home, environ={})


@pytest.fixture(scope="session")
def cluster(embedded: Database) -> Cluster:
    assert embedded.cluster is not None
    return embedded.cluster


@pytest.fixture(scope="session")
def database(embedded: Database) -> Database:
    """A migrated database, shared by the session."""
    migrate(embedded)
    return embedded


@pytest.fixture
def fresh_database(embedded: Database) -> Iterator[Database]:
    """An empty database of a new name, dropped afterwards."""
    fresh = embedded.named(f"t_{uuid.uuid4().hex[:12]}")
    with embedded.named("postgres").connect(autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{fresh.name}"')
        yield fresh
        connection.execute(f'DROP DATABASE "{fresh.name}" WITH (FORCE)')
