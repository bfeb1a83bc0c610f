"""Who may do what in the database. Roles belong to the whole server; none of the two ever owns a log table.

    eocat_read    serves: reads our tables and pgSTAC's, read-only, with a statement timeout
    eocat_write   admits over HTTP: adds items, rows, events and log entries, and makes the partitions of
                  eocat.chip, which it therefore owns. It cannot change or delete an event or an entry of the
                  log, nor switch off the triggers that say so: those tables are the owner's

Embedded, both log in over the owner's socket. On an external server they are taken on by the owner's login,
or granted to the logins of EOCAT_DATABASE_READ_URL and EOCAT_DATABASE_WRITE_URL.
"""

from contextlib import suppress
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from eocat.catalog.database import READER, WRITER, Database, session_settings

Connection = psycopg.Connection[tuple[Any, ...]]

SCHEMA = sql.Identifier("eocat")
CHANGED = {"collection": "INSERT", "shard": "INSERT, UPDATE, DELETE", "event": "INSERT"} | {
    "log_pending": "INSERT, DELETE",
    "projection": "INSERT",
    "vector_index": "INSERT, UPDATE",
    "recall": "INSERT",
    **dict.fromkeys(
        ("log_entry", "log_hash", "log_collection", "log_tree", "log_checkpoint", "log_key"), "INSERT"
    ),
}


def ensure_reader(database: Database, connection: Connection) -> None:
    """The role that may read, and its limits."""
    _ensure_role(database, connection, READER, database.reader)
    for statement in (
        "GRANT pgstac_read TO {role}",
        "GRANT USAGE ON SCHEMA {schema} TO {role}",
        "GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO {role}",
    ):
        connection.execute(sql.SQL(statement).format(schema=SCHEMA, role=sql.Identifier(READER)))
    for name, value in session_settings().items():  # they take effect when the role itself logs in
        values = sql.SQL(", ").join(map(sql.Literal, value.split(",")))
        connection.execute(
            sql.SQL("ALTER ROLE {} SET {} = {}").format(sql.Identifier(READER), sql.Identifier(name), values)
        )


def ensure_writer(database: Database, connection: Connection) -> None:
    """The role that may admit. It comes after the tables: it owns the chips, and adds to the others."""
    writer = sql.Identifier(WRITER)
    _ensure_role(database, connection, WRITER, database.as_writer().owner)
    connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(writer))  # to go on working on its tables
    for statement in (
        "GRANT pgstac_ingest TO {role}",
        "GRANT {reader} TO {role}",
        "GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}",
        "ALTER DEFAULT PRIVILEGES FOR ROLE {role} IN SCHEMA {schema} GRANT SELECT ON TABLES TO {reader}",
    ):
        connection.execute(
            sql.SQL(statement).format(schema=SCHEMA, role=writer, reader=sql.Identifier(READER))
        )
    for table, rights in CHANGED.items():
        connection.execute(
            sql.SQL("GRANT {} ON {} TO {}").format(
                sql.SQL(rights),
                sql.Identifier("eocat", table),
                writer,
            )
        )
    for (table,) in connection.execute(
        """SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
            WHERE n.nspname = 'eocat' AND (c.relname = 'chip' OR i.inhparent = 'eocat.chip'::regclass)
              AND pg_get_userbyid(c.relowner) <> %s""",
        [WRITER],
    ).fetchall():
        connection.execute(
            sql.SQL("ALTER TABLE {} OWNER TO {}").format(sql.Identifier("eocat", table), writer)
        )


def _ensure_role(database: Database, connection: Connection, name: str, conninfo: str) -> None:
    """The role itself: one that logs in where the database is ours, else one to take on."""
    role = sql.Identifier(name)
    if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)).fetchone() is None:
        # It may have been made just now through another database of the server.
        with suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
            connection.execute(sql.SQL("CREATE ROLE {}").format(role))
    if database.embedded:
        connection.execute(sql.SQL("ALTER ROLE {} LOGIN").format(role))
    login = conninfo_to_dict(conninfo).get("user")
    if not database.embedded and login and login != name:
        connection.execute(sql.SQL("GRANT {} TO {}").format(role, sql.Identifier(str(login))))
