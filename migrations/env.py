"""Alembic's way into eocat's tables: schema `eocat` only, never pgSTAC's (SETUP section 4).

`eocat.catalog.schema` passes the connection. `alembic revision --autogenerate` and `alembic check`, run in
a checkout, take the database that eocat itself would.
"""

import re
from typing import Any, Final, Literal

import sqlalchemy
from alembic import context
from alembic.autogenerate.api import AutogenContext
from geoalchemy2 import alembic_helpers

from eocat.catalog.tables import SCHEMA, metadata

geometry: Any = alembic_helpers  # it ships no types
PARTITION: Final = re.compile(r"chip_[0-9a-f]{16}")


def include_name(name: str | None, type_: str, parent_names: Any) -> bool:
    """Look into our schema only: the others are pgSTAC's and PostGIS's."""
    return type_ != "schema" or name == SCHEMA


def include_object(thing: Any, name: str | None, type_: str, reflected: bool, compare_to: Any) -> bool:
    """Leave out the stub of pgstac.collections, which lets foreign keys resolve, and the chips' partitions.

    A partition comes with its collection (`eocat.catalog.partitions`), not with a migration.
    """
    table = thing if type_ == "table" else getattr(thing, "table", None)
    if table is not None and (table.schema != SCHEMA or PARTITION.fullmatch(table.name)):
        return False
    return bool(geometry.include_object(thing, name, type_, reflected, compare_to))


def render_item(type_: str, thing: Any, autogen_context: AutogenContext) -> str | Literal[False]:
    """Geometry columns as GeoAlchemy2 writes them, pgvector's types with their import."""
    if type_ == "type" and type(thing).__module__.startswith("pgvector."):
        autogen_context.imports.add("from pgvector import sqlalchemy as pgvector")
        return f"pgvector.{thing!r}"
    rendered: str | Literal[False] = geometry.render_item(type_, thing, autogen_context)
    return rendered


def run(connection: sqlalchemy.Connection) -> None:
    # A login named as our schema would have it as its default one, which Alembic then passes over.
    connection.execute(sqlalchemy.text("SET LOCAL search_path TO public"))
    connection.dialect.default_schema_name = "public"
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table_schema=SCHEMA,
        include_schemas=True,
        include_name=include_name,
        include_object=include_object,
        render_item=render_item,
        process_revision_directives=geometry.writer,
    )
    with context.begin_transaction():
        context.run_migrations()


if (given := context.config.attributes.get("connection")) is not None:
    run(given)
else:
    from eocat.catalog.database import find_database
    from eocat.verify.home import home

    with find_database(home()).engine().begin() as own:
        run(own)
