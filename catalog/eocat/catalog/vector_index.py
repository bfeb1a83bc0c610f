"""The index over one collection's codes: built after loads, beside the one in use, and swapped in.

    fit      a projection of the collection's rows, once: at the load that brings it past EXACT_ROWS
    fill     codes of the rows that were loaded before there was one
    build    HNSW over the codes of all shards so far, in memory and in parallel; no search waits for it
    swap     in the same transaction, one row of eocat.vector_index names the index that answers; then the old
             one is dropped

An index covers the shards up to `through`, and no load ever inserts into it: into a live HNSW graph that goes
at 300 rows/s, by COPY at 50,000. Rows of later shards are compared one by one (similar.py) until they are
more than a twentieth, and then the index is built anew. The caller holds the collection's lock (indexer.py).
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from eocat.verify.errors import EocatError
from eocat.verify.shard import RowBatch

from .partitions import EXACT_ROWS, Partition, held_rows
from .projection import SAMPLE_ROWS, Projection, fit
from .vector_bytes import format_vector, read_vectors

LINKS, BUILD_LIST = 8, 48  # of HNSW: links of a row, and candidates for them (docs/benchmarks.md)
LATER_SHARE = 20  # one in 20 rows may be of later shards
CANDIDATES = 200  # compared in full for an answer, until it is measured how many are needed (recall.py)

_GRAPH_BYTES = 800  # that the graph takes for a row while it is built
_LEAST_KB, _MOST_KB = 64 << 10, 4 << 20  # of memory: a graph that does not fit is built five times slower
_BATCH = 4_096
_PROGRESS_S = 0.5

Connection = psycopg.Connection[TupleRow]
Progress = Callable[[str, int, int], None]


def read_projection(connection: Connection, partition: Partition) -> Projection | None:
    row = connection.execute(
        """SELECT p.axes, c.dimension FROM eocat.projection p JOIN eocat.collection c ON c.id = p.collection
            WHERE c.id = %s""",
        [partition.collection],
    ).fetchone()
    return Projection.from_bytes(*row) if row else None


def store_projection(connection: Connection, collection: str, projection: Projection) -> None:
    """Keep it, in the transaction of the first codes that it makes; one that is there stays."""
    connection.execute(
        "INSERT INTO eocat.projection (collection, axes) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        [collection, projection.to_bytes()],
    )


def projection_for(
    connection: Connection, partition: Partition, incoming: int, batches: Iterable[RowBatch]
) -> Projection | None:
    """What gives incoming rows their codes: the collection's, or one of `batches` if they make it large."""
    known = read_projection(connection, partition)
    if known is not None or incoming + held_rows(connection, partition.collection) < EXACT_ROWS:
        return known
    step = max(1, incoming // SAMPLE_ROWS)
    try:
        sample = [batch.vectors[::step] for batch in batches]
    except EocatError:  # a file that has changed since it was verified: its admission will say so
        return None
    return fit(np.concatenate(sample))


def due(connection: Connection) -> list[str]:
    """The collections that are large and have no index, or one that lacks too many of their rows."""
    rows = connection.execute(
        """SELECT s.collection FROM eocat.shard s LEFT JOIN eocat.vector_index i USING (collection)
            GROUP BY s.collection
           HAVING sum(s.row_count) >= %(rows)s
              AND coalesce(sum(s.row_count) FILTER (WHERE s.shard_id > coalesce(i.through, 0)), 0)
                  > sum(s.row_count) / %(share)s
            ORDER BY s.collection""",
        {"rows": EXACT_ROWS, "share": LATER_SHARE},
    )
    return [row[0] for row in rows]


def bring_up_to_date(connection: Connection, partition: Partition, progress: Progress) -> bool:
    """Build the index if the collection is large and has none, or one that lacks too much; whether it was."""
    if partition.collection not in due(connection):
        return False
    held = held_rows(connection, partition.collection)
    with connection.transaction():
        projection = read_projection(connection, partition)
        if projection is None:
            projection = fit(_sample(connection, partition, held))
            store_projection(connection, partition.collection, projection)
        _fill(connection, partition, projection)
    with _watched(connection, partition, held, progress):
        _build(connection, partition, projection.dimension, held)
    return True


def _sample(connection: Connection, partition: Partition, held: int) -> NDArray[np.floating]:
    """Some SAMPLE_ROWS vectors, always the same ones of the same rows."""
    share = sql.Literal(min(100.0, 100 * SAMPLE_ROWS / held))
    rows = connection.execute(
        sql.SQL("SELECT {vector} FROM {table} TABLESAMPLE BERNOULLI ({share}) REPEATABLE (0)").format(
            vector=_sent(partition), table=partition.table, share=share
        )
    )
    return read_vectors([row[0] for row in rows], partition.dtype)


def _fill(connection: Connection, partition: Partition, projection: Projection) -> None:
    """Codes of the rows that have none: those that came before the projection."""
    connection.execute(
        "CREATE TEMPORARY TABLE fresh (shard_id bigint, row integer, code public.halfvec) ON COMMIT DROP"
    )
    missing = sql.SQL("SELECT shard_id, row, {vector} FROM {table} WHERE code IS NULL").format(
        vector=_sent(partition), table=partition.table
    )
    with connection.cursor("uncoded") as cursor:
        cursor.execute(missing)
        while rows := cursor.fetchmany(_BATCH):
            codes = projection.encode(read_vectors([row[2] for row in rows], partition.dtype))
            copy = "COPY pg_temp.fresh FROM STDIN"
            with connection.cursor() as target, target.copy(copy) as writer:
                for (shard_id, row, _), code in zip(rows, codes, strict=True):
                    writer.write_row((shard_id, row, format_vector(code)))
    connection.execute(
        sql.SQL(
            """UPDATE {table} c SET code = f.code FROM pg_temp.fresh f
                WHERE c.shard_id = f.shard_id AND c.row = f.row"""
        ).format(table=partition.table)
    )


def _build(connection: Connection, partition: Partition, dimension: int, held: int) -> None:
    """The new index, named as the one that answers; by one process where shared memory is too small."""
    memory = min(_MOST_KB, max(_LEAST_KB, held * (_GRAPH_BYTES + 2 * dimension) // 1024))
    for workers in (4, 0):
        try:
            with connection.transaction():
                _set_local(connection, "maintenance_work_mem", f"{memory}kB")
                _set_local(connection, "max_parallel_maintenance_workers", str(workers))
                name = _create(connection, partition, dimension)
            break
        except psycopg.errors.DiskFull:  # "could not resize shared memory segment"
            if not workers:
                raise
    for old in _indexes(connection, partition):
        if old != name:  # no search waits for this, either
            connection.execute(sql.SQL("DROP INDEX CONCURRENTLY {}").format(sql.Identifier("eocat", old)))


def _create(connection: Connection, partition: Partition, dimension: int) -> str:
    row = connection.execute(
        "SELECT max(shard_id), sum(row_count) FROM eocat.shard WHERE collection = %s", [partition.collection]
    ).fetchone()
    through, rows = row or (0, 0)
    name = f"{partition.name}_hnsw_{through}"
    connection.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(sql.Identifier("eocat", name)))
    connection.execute(
        sql.SQL(
            """CREATE INDEX {name} ON {table}
                USING hnsw ((code::public.halfvec({dimension})) public.halfvec_l2_ops)
                WITH (m = {links}, ef_construction = {list}) WHERE shard_id <= {through}"""
        ).format(
            name=sql.Identifier(name), table=partition.table, dimension=sql.Literal(dimension),
            links=sql.Literal(LINKS), list=sql.Literal(BUILD_LIST), through=sql.Literal(through),
        )
    )  # fmt: skip
    connection.execute(
        """INSERT INTO eocat.vector_index (collection, through, rows, candidates) VALUES (%s, %s, %s, %s)
           ON CONFLICT (collection) DO UPDATE
           SET through = excluded.through, rows = excluded.rows, built_at = now()""",
        [partition.collection, through, rows, CANDIDATES],
    )
    return name


def _indexes(connection: Connection, partition: Partition) -> list[str]:
    rows = connection.execute(
        """SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
            WHERE i.indrelid = %s::regclass AND starts_with(c.relname, %s)""",
        [f"eocat.{partition.name}", f"{partition.name}_hnsw"],
    )
    return [row[0] for row in rows]


@contextmanager
def _watched(connection: Connection, partition: Partition, rows: int, progress: Progress) -> Iterator[None]:
    """Tell of the rows indexed so far, which another connection sees."""
    done = threading.Event()
    conninfo = make_conninfo(connection.info.dsn, password=connection.info.password or None)
    pid = connection.info.backend_pid

    def watch() -> None:
        with psycopg.connect(conninfo, autocommit=True) as watcher:
            while not done.wait(_PROGRESS_S):
                row = watcher.execute(
                    "SELECT tuples_done FROM pg_stat_progress_create_index WHERE pid = %s", [pid]
                ).fetchone()
                progress(f"indexing {partition.collection}", row[0] if row else 0, rows)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    finally:
        done.set()
        watching.join()


def _sent(partition: Partition) -> sql.Composed:
    return sql.SQL("{}({})").format(
        sql.Identifier("public", f"{partition.vector_type}_send"), sql.Identifier(partition.column)
    )


def _set_local(connection: Connection, setting: str, value: str) -> None:
    connection.execute("SELECT set_config(%s, %s, true)", [setting, value])
