"""What is in the database, brought to this version (SETUP section 2.2 and 4), in this order:

    1. the database itself, if embedded        4. the schema eocat and the readers' role
    2. extensions                              5. our tables: migrations/, by Alembic
    3. pgSTAC: pypgstac's migrations           6. pgSTAC's settings

All under one advisory lock; each step looks first and changes nothing that is right. Forward only: a
database that is newer than this program is refused.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import sql

from eocat.catalog.database import Database
from eocat.catalog.prefix import Progress
from eocat.catalog.roles import ensure_reader, ensure_writer
from eocat.verify.errors import ConfigError

if TYPE_CHECKING:
    import alembic.config

Connection = psycopg.Connection[tuple[Any, ...]]

SCHEMA: Final = "eocat"
EXTENSIONS: Final = ("postgis", "btree_gist", "unaccent", "vector")
OLDEST_VECTOR: Final = (0, 8)
LOCK: Final = 0x656F636174  # "eocat"

# context: numberMatched, exact where that is cheap. readonly: a search writes no statistics, so that the
# readers' transactions can be read-only; pgSTAC would otherwise answer 500 (SETUP section 2.2).
PGSTAC_SETTINGS: Final = {"context": "auto", "readonly": "true"}


def migrate(database: Database, progress: Progress = lambda *_: None) -> None:
    """Bring the database to this version.

    Raises ConfigError (an extension, a right or a version is missing), Unavailable (no server).
    """
    if database.embedded:
        ensure_database(database)
    with database.connect(autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))  # freed with the connection
        try:
            ensure_extensions(connection)
            migrate_pgstac(database, connection, progress)
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(SCHEMA)))
            ensure_reader(database, connection)
            migrate_tables(database, progress)
            ensure_writer(database, connection)
            ensure_pgstac_settings(connection)
        except psycopg.errors.InsufficientPrivilege as error:
            raise ConfigError(
                f"the owner's role may not set up the database {database.name}: {error.diag.message_primary}",
                hint="it needs CREATEROLE and the ownership of the database; an administrator may create the "
                f"extensions beforehand: {', '.join(EXTENSIONS)}",
            ) from error


def ensure_database(database: Database) -> None:
    """Create the embedded cluster's database."""
    with database.named("postgres").connect(autocommit=True) as connection:
        known = connection.execute(
            "SELECT 1 FROM pg_database WHERE datname = %s", (database.name,)
        ).fetchone()
        if known is None:
            try:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database.name)))
            except psycopg.errors.DuplicateDatabase:
                return  # another process was faster


def ensure_extensions(connection: Connection) -> None:
    """Create what is missing; ConfigError if the server does not have it, or an old pgvector."""
    query = "SELECT name, installed_version FROM pg_available_extensions WHERE name = ANY(%s)"
    available: dict[str, str | None] = dict(connection.execute(query, (list(EXTENSIONS),)).fetchall())
    for name in EXTENSIONS:
        if name not in available:
            raise ConfigError(
                f"the database server does not have the extension {name}",
                hint="install PostGIS and pgvector on it, or unset EOCAT_DATABASE_URL",
            )
        if available[name] is None:
            connection.execute(
                sql.SQL("CREATE EXTENSION IF NOT EXISTS {} SCHEMA public").format(sql.Identifier(name))
            )
    row = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
    version = row[0] if row else "none"
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_VECTOR:
        raise ConfigError(
            f"the database has pgvector {version}: expected at least 0.8",
            hint="ALTER EXTENSION vector UPDATE",
        )


def migrate_pgstac(database: Database, connection: Connection, progress: Progress) -> None:
    """pgSTAC at exactly pypgstac's version, which is the only one that pypgstac works with."""
    from pypgstac.version import __version__ as wanted

    found = pgstac_version(connection)
    if found == wanted:
        return
    if found is not None and as_numbers(found) > as_numbers(wanted):
        raise ConfigError(
            f"the database has pgSTAC {found}, which is newer than this program's {wanted}",
            hint="upgrade eocat",
        )
    from pypgstac.db import PgstacDB
    from pypgstac.migrate import Migrate

    progress(f"installing pgSTAC {wanted}", 0, 0)
    with PgstacDB(dsn=database.owner) as pgstac:
        Migrate(pgstac).run_migration(wanted)


def pgstac_version(connection: Connection) -> str | None:
    if connection.execute("SELECT to_regclass('pgstac.migrations')").fetchone() == (None,):
        return None
    row = connection.execute(
        "SELECT version FROM pgstac.migrations ORDER BY datetime DESC, version DESC"
    ).fetchone()
    return str(row[0]) if row else None


def as_numbers(version: str) -> list[int]:
    return [int(part) for part in version.split("-")[0].split(".") if part.isdigit()]


def migrate_tables(database: Database, progress: Progress) -> None:
    """Our tables at the newest revision, in one transaction."""
    from alembic import command
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = alembic_config()
    newest = set(ScriptDirectory.from_config(config).get_heads())
    with database.engine().begin() as connection:
        found = set(
            MigrationContext.configure(connection, opts={"version_table_schema": SCHEMA}).get_current_heads()
        )
        if found != newest:
            progress("migrating the tables", 0, 0)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def alembic_config() -> "alembic.config.Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def migrations_folder() -> Path:
    """migrations/ of the checkout, or what a wheel carries of it."""
    installed = Path(__file__).with_name("_migrations")
    return installed if installed.is_dir() else Path(__file__).parents[3] / "migrations"


def ensure_pgstac_settings(connection: Connection) -> None:
    connection.cursor().executemany(
        "INSERT INTO pgstac.pgstac_settings (name, value) VALUES (%s, %s)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        " WHERE pgstac_settings.value <> excluded.value",
        list(PGSTAC_SETTINGS.items()),
    )
