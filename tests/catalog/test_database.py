"""The database is brought to this version from anywhere, twice without change, and its readers only read."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from eocat.catalog import schema
from eocat.catalog.database import Database, external_database, find_database
from eocat.catalog.schema import migrate
from eocat.verify.errors import ConfigError, Unavailable

ITEM = """
SELECT pgstac.create_collection('{"id": "c", "type": "Collection", "stac_version": "1.1.0", "links": [],
  "description": "d", "license": "other", "extent":
  {"spatial": {"bbox": [[0,0,1,1]]}, "temporal": {"interval": [[null,null]]}}}');
SELECT pgstac.create_item('{"id": "i", "collection": "c", "type": "Feature",
  "stac_version": "1.1.0", "links": [], "assets": {}, "bbox": [0,0,0,0],
  "geometry": {"type": "Point", "coordinates": [0,0]},
  "properties": {"datetime": "2024-01-01T00:00:00Z"}}');
"""


def test_second_migration_changes_nothing_and_is_fast(database: Database) -> None:
    started = time.monotonic()
    migrate(database, lambda *step: pytest.fail(f"nothing is to be done: {step}"))
    assert time.monotonic() - started < 1


def test_two_migrations_at_once_end_in_one(fresh_database: Database) -> None:
    with ThreadPoolExecutor(2) as pool:
        for outcome in [pool.submit(migrate, fresh_database) for _ in range(2)]:
            outcome.result()
    with fresh_database.connect() as connection:
        assert schema.pgstac_version(connection) is not None
        assert connection.execute("SELECT count(*) FROM eocat.alembic_version").fetchone() == (1,)


def test_the_tables_are_what_the_code_declares(database: Database) -> None:
    """`alembic check`: nothing left to generate."""
    from alembic import command

    config = schema.alembic_config()
    with database.engine().connect() as connection:
        config.attributes["connection"] = connection
        command.check(config)


def test_migrations_are_found() -> None:
    assert (schema.migrations_folder() / "env.py").is_file()


def test_reader_cannot_write_even_if_it_lifts_its_own_limit(database: Database) -> None:
    with database.connect("reader", autocommit=True) as connection:
        assert connection.execute("SHOW statement_timeout").fetchone() == ("30s",)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("DELETE FROM eocat.event")
        connection.execute("SET default_transaction_read_only = off")
        for statement in (
            "DELETE FROM eocat.event",
            "DELETE FROM pgstac.items",
            "CREATE TABLE eocat.x (y int)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def test_reader_reads_tables_that_come_later(database: Database) -> None:
    with database.connect(autocommit=True) as owner:
        owner.execute("CREATE TABLE eocat.later (n int)")
        try:
            with database.connect("reader") as reader:
                assert reader.execute("SELECT count(*) FROM eocat.later").fetchone() == (0,)
        finally:
            owner.execute("DROP TABLE eocat.later")


def test_the_service_s_reader_searches_and_counts(fresh_database: Database) -> None:
    """The path of stac-fastapi-pgstac: asyncpg, its settings, a read-only transaction, numberMatched."""
    from types import SimpleNamespace

    from stac_fastapi.pgstac.db import close_db_connection, connect_to_db

    migrate(fresh_database)
    with fresh_database.connect() as connection:
        connection.execute("SET search_path TO pgstac, public")
        connection.execute(ITEM)

    async def search() -> tuple[str, dict[str, object]]:
        app = SimpleNamespace(state=SimpleNamespace())
        await connect_to_db(app, postgres_settings=fresh_database.api_settings())
        try:
            async with app.state.readpool.acquire() as reader:
                query = 'SELECT search(\'{"collections": ["c"]}\')'
                return await reader.fetchval("SELECT current_user::text"), await reader.fetchval(query)
        finally:
            await close_db_connection(app)

    user, page = asyncio.run(search())
    assert user == "eocat_read"
    assert (page["numberMatched"], page["numberReturned"]) == (1, 1)


def test_a_newer_pgstac_is_refused(fresh_database: Database) -> None:
    migrate(fresh_database)
    with fresh_database.connect() as connection:
        connection.execute(
            "INSERT INTO pgstac.migrations (version, datetime) VALUES ('99.0.0', now() + interval '1 d')"
        )
    with pytest.raises(ConfigError, match=r"pgSTAC 99\.0\.0, which is newer"):
        migrate(fresh_database)


# --- an external database: the session's server, by URL, as a login that is no superuser ---


@pytest.fixture
def url(fresh_database: Database) -> Iterator[str]:
    """The URL of a database that its owner may set up, the extensions being there."""
    with fresh_database.connect(autocommit=True) as connection:
        connection.execute("CREATE ROLE tenant LOGIN CREATEROLE PASSWORD 's3cr€t'")
        connection.execute(f'ALTER DATABASE "{fresh_database.name}" OWNER TO tenant')
        connection.execute("ALTER SCHEMA public OWNER TO tenant")
        for role in connection.execute(
            "SELECT rolname FROM pg_roles WHERE rolname ~ '^(pgstac_(admin|ingest|read)|eocat_(read|write))$'"
        ).fetchall():  # left by other databases of this server
            connection.execute(f"GRANT {role[0]} TO tenant WITH ADMIN OPTION")
    host = quote(str(conninfo_to_dict(fresh_database.owner)["host"]), safe="")
    yield f"postgresql://tenant:{quote('s3cr€t')}@{host}/{fresh_database.name}"
    with fresh_database.connect(autocommit=True) as connection:
        connection.execute("DROP OWNED BY tenant CASCADE")
        connection.execute(f'ALTER DATABASE "{fresh_database.name}" OWNER TO postgres')
        connection.execute("REASSIGN OWNED BY tenant TO postgres")
        connection.execute("DROP ROLE tenant")


def test_external_database_needs_no_superuser(url: str, fresh_database: Database) -> None:
    with fresh_database.connect(autocommit=True) as administrator:
        schema.ensure_extensions(administrator)
    external = find_database(Path("/nowhere"), environ={"EOCAT_DATABASE_URL": url})
    migrate(external)
    migrate(external, lambda *step: pytest.fail(f"nothing is to be done: {step}"))
    with external.connect("reader") as reader:
        assert reader.execute("SELECT session_user::text, current_user::text").fetchone() == (
            "tenant",
            "eocat_read",
        )
        assert reader.execute("SELECT pgstac.search('{}') ->> 'numberMatched'").fetchone() == ("0",)
    with external.connect("reader") as reader, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        reader.execute("DELETE FROM eocat.event")

    async def user() -> str:
        import asyncpg

        connection = await asyncpg.connect(external.asyncpg_dsn(), server_settings=external.server_settings())
        try:
            return str(await connection.fetchval("SELECT session_user || ' ' || current_user"))
        finally:
            await connection.close()

    assert asyncio.run(user()) == "tenant eocat_read"


def test_external_database_without_rights_says_which(url: str) -> None:
    with pytest.raises(
        ConfigError, match=r"may not set up the database .*: permission denied to create extension"
    ):
        migrate(find_database(Path("/nowhere"), environ={"EOCAT_DATABASE_URL": url}))


BAD_URLS = {
    "not a url": ("host=x dbname=y", "is no postgresql:// URL"),
    "another database": ("mysql://u:hidden@h/d", "is no postgresql:// URL"),
    "broken": ("postgresql://u:hidden@h:p%ZZ/d", "cannot be read"),
    "no name": ("postgresql://u:hidden@h", "names no database"),
}


@pytest.mark.parametrize(("url", "message"), BAD_URLS.values(), ids=BAD_URLS.keys())
def test_bad_url_is_refused_and_not_repeated(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"EOCAT_DATABASE_URL {message}") as caught:
        external_database(url, None)
    assert "hidden" not in str(caught.value)


def test_unreachable_server_is_unavailable_and_names_no_password() -> None:
    gone = external_database("postgresql://u:hidden@127.0.0.1:1/d", None)
    with pytest.raises(
        Unavailable, match=r"the database d at 127\.0\.0\.1 does not answer: .*refused"
    ) as caught:
        migrate(gone)
    assert "hidden" not in str(caught.value)
    assert "EOCAT_DATABASE_URL" in str(caught.value.hint)


def test_tls_of_the_url_reaches_asyncpg() -> None:
    external = external_database(
        "postgresql://u:p%40@db.test:6432/d?sslmode=verify-full&connect_timeout=3", None
    )
    assert external.asyncpg_dsn() == "postgresql://u:p%40@/d?host=db.test&port=6432&sslmode=verify-full"


def test_stopped_embedded_database_is_not_started_unasked(short_home: Path) -> None:
    with pytest.raises(Unavailable, match="does not run") as caught:
        find_database(short_home, environ={}, start=False)
    assert caught.value.hint == "eocat up starts it"
    assert list(short_home.iterdir()) == []
