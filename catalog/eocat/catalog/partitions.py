"""The partition of `eocat.chip` that holds one collection's rows, and its indexes on place and time.

It is made with the collection and takes vectors of one dtype and dimension. Its indexes are made after a load
that is larger than what the partition held, and kept up during smaller ones; the index on the vectors is
another matter (vector_index.py). The caller holds the collection's lock.
"""

import hashlib
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.abc import Params
from psycopg.rows import TupleRow

from .database import WRITER

EXACT_ROWS = 20_000  # below, every row is compared: an index would not pay (decision 0008)

Connection = psycopg.Connection[TupleRow]


@dataclass(frozen=True, slots=True)
class Partition:
    """Where the rows of `collection` are. dtype: float16 or float32 (statement, `rows.dtype`)."""

    collection: str
    dtype: str
    dimension: int

    @property
    def name(self) -> str:
        """`chip_` and 16 hex digits: ids reach 128 characters, names in SQL 63."""
        return f"chip_{hashlib.sha256(self.collection.encode()).hexdigest()[:16]}"

    @property
    def table(self) -> sql.Identifier:
        return sql.Identifier("eocat", self.name)

    @property
    def column(self) -> str:
        """The column of `eocat.chip` that holds the vectors, in their signed dtype."""
        return "half" if self.dtype == "float16" else "single"

    @property
    def vector_type(self) -> str:
        """The vectors' type in SQL: with its dimension it is what the index is on."""
        return "halfvec" if self.dtype == "float16" else "vector"


def find_partition(connection: Connection, collection: str) -> Partition | None:
    """The partition of a collection that is registered."""
    known = connection.execute(
        "SELECT dtype, dimension FROM eocat.collection WHERE id = %s", [collection]
    ).fetchone()
    return Partition(collection, *known) if known else None


def create(connection: Connection, partition: Partition) -> None:
    """Make the partition of a collection that is being registered for the first time.

    What a deleted collection of the same id left behind is empty by then, and may have another dimension.
    """
    _execute(connection, "DROP TABLE IF EXISTS {table}", partition)
    _execute(
        connection,
        """CREATE TABLE {table} PARTITION OF eocat.chip (
               CONSTRAINT {check} CHECK ({column} IS NOT NULL AND public.vector_dims({column}) = {dimension})
           ) FOR VALUES IN ({collection})""",
        partition,
        check=sql.Identifier(f"{partition.name}_dimension"),
        column=sql.Identifier(partition.column),
        dimension=sql.Literal(partition.dimension),
    )
    _execute(connection, "ALTER TABLE {table} OWNER TO {writer}", partition, writer=sql.Identifier(WRITER))


def lock(connection: Connection, collection: str) -> None:
    """Wait until nobody loads or indexes the collection; nobody else does until the connection closes."""
    connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [f"eocat:{collection}"])


def before_load(connection: Connection, partition: Partition, incoming: int) -> None:
    """Drop the indexes if `incoming` rows are more than the partition holds: building anew is then faster."""
    if incoming <= held_rows(connection, partition.collection):
        return
    for name in _indexes(partition):
        _execute(connection, "DROP INDEX IF EXISTS {index}", partition, index=sql.Identifier("eocat", name))


def after_load(connection: Connection, partition: Partition) -> None:
    """Make the indexes that the partition lacks, and tell the planner what it holds now."""
    for name, definition in _indexes(partition).items():
        _execute(connection, definition, partition, index=sql.Identifier(name))
    _execute(connection, "ANALYZE {table}", partition)


def held_rows(connection: Connection, collection: str) -> int:
    row = connection.execute(
        "SELECT coalesce(sum(row_count), 0)::bigint FROM eocat.shard WHERE collection = %s", [collection]
    ).fetchone()
    return int(row[0]) if row else 0


def _indexes(partition: Partition) -> dict[str, str]:
    """Index name → statement."""
    on = "CREATE INDEX IF NOT EXISTS {index} ON {table} USING "
    return {
        f"{partition.name}_geometry": on + "gist (geometry)",
        f"{partition.name}_time": on + "btree (end_time, start_time)",
    }


def _execute(
    connection: Connection,
    statement: str,
    partition: Partition,
    parameters: Params | None = None,
    **parts: sql.Composable,
) -> None:
    composed = sql.SQL(statement).format(
        table=partition.table, collection=sql.Literal(partition.collection), **parts
    )
    connection.execute(composed, parameters)
