"""Rows and Items per second into the catalogue, beside raw COPY and `pypgstac load` (docs/benchmarks.md).

    python tests/benchmarks/load_rates.py [--rows 19000 60000] [--dimension 512] [--rounds 7] [--items 300]

On a database of its own, in one run, in turns, medians of the rounds:

    raw COPY      the shard's rows as a ready buffer of PostgreSQL's binary COPY, one write
    load          the same rows by `copy_rows`: read from the shard, judged, hashed to signed leaves, formed
    register      all of it: signature, digests and rows verified, load, log (an index only above 20,000 rows)
    pypgstac      the same Items by pypgstac's loader (`insert`), in a process that has started
    register      as many shards of one row each: each is verified by itself

Both COPYs are into the same table with the same constraints, without the indexes that are made after a load;
neither counts the commit. Vectors are drawn (shard_maker.draw_vectors): a load takes as long whatever they
hold. CPU is of this process, and of the server's process for its connection: where other work shares the
cores, it says what a free machine would do, since client and server work at the same time.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
from eocat.verify.merkle import build_tiles, tree_of
from eocat.verify.shard import RowBatch, Shard
from eocat.verify.statement import Rows


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of one step: on the clock, of CPU here, of CPU in the server."""

    wall: float
    client: float
    server: float


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


def vectors(database: Database, out: Path, count: int, dimension: int, rounds: int) -> None:
    """Print the rows per second of raw COPY, of `copy_rows` and of a whole registration."""
    signer = new_signer()
    collection = f"rows-{count}"
    partition = Partition(collection, "float16", dimension)
    encoder = DrawnEncoder(dimension=dimension)
    folder = write_shard(out, collection, "s", signer=signer, encoder=encoder, count=count)
    started = time.perf_counter()
    (admission,) = register(database, [out], policy_for(signer))
    whole = time.perf_counter() - started
    assert admission.rows == count, admission
    with database.connect() as connection:
        found = connection.execute(
            "SELECT encode(row_root, 'hex') FROM eocat.shard WHERE collection = %s", [collection]
        ).fetchone()
        (root,) = found or [""]
        claim: dict[str, Any] = {"count": count, "root": root, "dtype": "float16", "dimension": dimension}
        rows = Rows(**claim, crs="OGC:CRS84", leaf="eocat-row/v1", inputDigests=True)

        def batches() -> Iterator[RowBatch]:
            return Shard.open(folder / "embeddings.parquet", rows).batches()

        blocks = list(_blocks(partition, 1, batches()))
        ready = _HEADER + b"".join(bytes(data) for _, data in blocks) + _TRAILER
        leaves = b"".join(hashes for hashes, _ in blocks)
        assert tree_of(build_tiles(leaves), count).root().hex() == root

        def raw() -> None:
            with connection.cursor() as cursor, cursor.copy(copy_statement(partition)) as copy:
                copy.write(ready)

        def ours() -> None:
            assert copy_rows(connection, partition, 1, batches()) == leaves

        spent: dict[str, list[Spent]] = {"raw COPY": [], "load": []}
        for _ in range(rounds):
            for name, step in (("raw COPY", raw), ("load", ours)):
                empty(connection, partition)
                spent[name].append(timed(step, connection.info.backend_pid))
                connection.commit()
    print(f"vectors: {count} × {dimension} float16, one shard; {rounds} rounds in turns, medians")
    print(f"  {'':14}     rows/s  of COPY   client CPU   server CPU, µs a row   fastest rows/s")
    copied = statistics.median(one.wall for one in spent["raw COPY"])
    for name, taken in spent.items():
        wall, client, server = (
            statistics.median(getattr(one, part) for one in taken) for part in ("wall", "client", "server")
        )
        best = count / min(one.wall for one in taken)
        row = f"{count / wall:10.0f}    {copied / wall:.2f}   {client / count * 1e6:10.2f}"
        print(f"  {name:14} {row}   {server / count * 1e6:10.2f}             {best:10.0f}")
    print(f"  {'register':14} {count / whole:10.0f}    {copied / whole:.2f}")


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


def timed(step: Callable[[], None], server: int = os.getpid()) -> Spent:
    """What `step` takes, here and in the process `server` of PostgreSQL."""
    before = time.perf_counter(), time.process_time(), cpu_seconds(server)
    step()
    after = time.perf_counter(), time.process_time(), cpu_seconds(server)
    return Spent(*(now - then for now, then in zip(after, before, strict=True)))


def cpu_seconds(process: int) -> float:
    """CPU time of a process, user's and system's, to 0.01 s (proc(5), stat)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
    return {"pypgstac load": count / theirs.wall, "register": count / ours.wall}


def assert_registered(database: Database, folder: Path, policy: Any, count: int) -> None:
    admissions = register(database, [folder], policy)
    assert [one.status for one in admissions] == ["registered"] * count


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rows", type=int, nargs="+", default=[19_000, 60_000])
    arguments.add_argument("--dimension", type=int, default=512)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--items", type=int, default=300)
    given = arguments.parse_args()
    with catalogue() as database, tempfile.TemporaryDirectory() as out:
        for count in given.rows:
            vectors(database, Path(out) / str(count), count, given.dimension, given.rounds)
        rates = items(database, Path(out) / "many", given.items)
        print(f"items: {given.items} shards of one row, Items per second")
        for name, rate in rates.items():
            print(f"  {name:14} {rate:10.0f}   {rate / rates['pypgstac load']:.2f} of pypgstac load")


if __name__ == "__main__":
    main()
