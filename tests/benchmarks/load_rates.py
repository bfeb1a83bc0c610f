"""Rows and Items per second into the catalogue, beside raw COPY and `pypgstac load` (docs/benchmarks.md).

    python tests/benchmarks/load_rates.py [--rows 19000] [--dimension 512] [--items 300]

On a database of its own, in one run, in turns:

    raw COPY      the shard's rows as a ready buffer of PostgreSQL's binary COPY, one write
    load          the same rows by `copy_rows`: read from the shard, judged, hashed to the signed root, formed
    register      all of it: signature, digests and rows verified, load, log (an index only above 20,000 rows)
    pypgstac      the same Items by pypgstac's loader (`insert`), in a process that has started
    register      as many shards of one row each: each is verified and committed by itself

Vectors are drawn (shard_maker.draw_vectors): a load takes as long whatever they hold.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "catalog")]

from psycopg import sql
from shard_maker import DrawnEncoder, new_signer, policy_for, write_shard

from eocat.catalog.admission import register
from eocat.catalog.chip_copy import _HEADER, _TRAILER, _blocks, copy_rows, copy_statement
from eocat.catalog.cluster import Cluster
from eocat.catalog.database import Database, find_database
from eocat.catalog.partitions import Partition
from eocat.catalog.schema import migrate
from eocat.verify.shard import Shard
from eocat.verify.statement import Rows

ROUNDS = 3


@contextmanager
def catalogue() -> Iterator[Database]:
    """A migrated database in a cluster of its own, gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="eocat-", dir="/tmp"))
    home.chmod(0o755)
    try:
        database = replace(find_database(home, environ={}), home=home)
        migrate(database)
        yield database
    finally:
        Cluster(home).stop()
        shutil.rmtree(home)


def vectors(database: Database, out: Path, count: int, dimension: int) -> dict[str, float]:
    """Rows per second of raw COPY, of `copy_rows` and of a whole registration."""
    signer, partition = new_signer(), Partition("demo", "float16", dimension)
    encoder = DrawnEncoder(dimension=dimension)
    folder = write_shard(out, "demo", "s", signer=signer, encoder=encoder, count=count)
    started = time.perf_counter()
    (admission,) = register(database, [out], policy_for(signer))
    whole = time.perf_counter() - started
    assert admission.rows == count, admission
    with database.connect() as connection:
        (root,) = connection.execute("SELECT encode(row_root, 'hex') FROM eocat.shard").fetchone() or [""]
        claim: dict[str, Any] = {"count": count, "root": root, "dtype": "float16", "dimension": dimension}
        rows = Rows(**claim, crs="OGC:CRS84", leaf="eocat-row/v1", inputDigests=True)

        def batches() -> Any:
            return Shard.open(folder / "embeddings.parquet", rows).batches()

        ready = _HEADER + b"".join(bytes(data) for _, data in _blocks(partition, 1, batches())) + _TRAILER

        def raw() -> None:
            with connection.cursor() as cursor, cursor.copy(copy_statement(partition)) as copy:
                copy.write(ready)

        def ours() -> None:
            assert copy_rows(connection, partition, 1, batches()).root.hex() == root

        seconds: dict[str, list[float]] = {"raw COPY": [], "load": []}
        for _ in range(ROUNDS):
            for name, step in (("raw COPY", raw), ("load", ours)):
                empty(connection, partition)
                seconds[name].append(timed(step))
                connection.commit()
    return {name: count / statistics.median(taken) for name, taken in seconds.items()} | {
        "register": count / whole
    }


def empty(connection: Any, partition: Partition) -> None:
    """The partition without rows and without the indexes that are made after a load."""
    connection.execute(sql.SQL("TRUNCATE {}").format(partition.table))
    made = connection.execute(
        """SELECT indexrelid::regclass::text FROM pg_index
            WHERE indrelid = %s::regclass AND NOT indisprimary""",
        [f"eocat.{partition.name}"],
    )
    for (name,) in made.fetchall():
        connection.execute(f"DROP INDEX {name}")
    connection.commit()


def timed(step: Callable[[], None]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def items(database: Database, out: Path, count: int) -> dict[str, float]:
    """Items per second of pypgstac's loader, and of a registration of shards with one row each."""
    from pypgstac.db import PgstacDB
    from pypgstac.load import Loader, Methods

    signer, encoder = new_signer(), DrawnEncoder(dimension=32)
    folders = [
        write_shard(out, "few", f"s{number}", signer=signer, encoder=encoder, count=1, west=number * 0.01)
        for number in range(count)
    ]
    plain = [json.loads((folder / "item.json").read_bytes()) for folder in folders]
    collection = json.loads((out / "few" / "collection.json").read_bytes())
    with PgstacDB(dsn=database.owner) as pgstac:
        loader = Loader(db=pgstac)
        loader.load_collections(iter([{**collection, "id": "plain"}]), Methods.insert)  # type: ignore[arg-type]
        copies = [{**item, "collection": "plain"} for item in plain]
        theirs = timed(lambda: loader.load_items(iter(copies), Methods.insert))  # type: ignore[arg-type]
    ours = timed(lambda: assert_registered(database, out / "few", policy_for(signer), count))
    return {"pypgstac load": count / theirs, "register": count / ours}


def assert_registered(database: Database, folder: Path, policy: Any, count: int) -> None:
    admissions = register(database, [folder], policy)
    assert [one.status for one in admissions] == ["registered"] * count


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rows", type=int, default=19_000)
    arguments.add_argument("--dimension", type=int, default=512)
    arguments.add_argument("--items", type=int, default=300)
    given = arguments.parse_args()
    with catalogue() as database, tempfile.TemporaryDirectory() as out:
        rates = vectors(database, Path(out) / "one", given.rows, given.dimension)
        print(f"vectors: {given.rows} × {given.dimension} float16, one shard, rows per second")
        for name, rate in rates.items():
            print(f"  {name:14} {rate:10.0f}   {rate / rates['raw COPY']:.2f} of raw COPY")
        rates = items(database, Path(out) / "many", given.items)
        print(f"items: {given.items} shards of one row, Items per second")
        for name, rate in rates.items():
            print(f"  {name:14} {rate:10.0f}   {rate / rates['pypgstac load']:.2f} of pypgstac load")


if __name__ == "__main__":
    main()
