"""Nearest neighbours at scale: eocat, plain pgvector, FAISS and DuckDB in one run (docs/benchmarks.md).

    python tests/benchmarks/neighbours.py [--rows 480038] [--queries 100] [--work DIR]

Rows are the real records of reBEN (bigearthnet.py), registered as 115 signed shards, one of each product;
their vectors are real ones resampled (real_vectors.py). Queries are rows with other noise. Recall is by
distance, against brute force in numpy over the rows that the filter keeps.

    eocat       similar.find in one read-only snapshot, as the service calls it
    pgvector    HNSW over halfvec(512), m 16, ef_construction 64, relaxed_order; ef_search 40, 100, 200
    FAISS       IndexHNSWFlat, M 16, inner product, in memory, no filter
    DuckDB      the shards themselves, every distance

It takes some 3 GB in the folder --work, where the real vectors are kept for another run.
"""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "catalog")]

import asyncpg
import numpy as np
import shapely
from bigearthnet import Products, check, read_products
from numpy.typing import NDArray
from real_vectors import real_vectors, resampled
from shard_maker import DrawnEncoder, new_signer, policy_for, write_shard
from stac_fastapi.pgstac.db import con_init

from eocat.catalog import vector_index
from eocat.catalog.admission import register
from eocat.catalog.cluster import Cluster
from eocat.catalog.database import Database, find_database
from eocat.catalog.partitions import Partition
from eocat.catalog.projection import unit_length
from eocat.catalog.query import parse_body
from eocat.catalog.schema import migrate
from eocat.catalog.service import SESSION
from eocat.catalog.similar import find
from eocat.producer.chips import Chip
from eocat.producer.hilbert import hilbert_index
from eocat.verify.policy import Policy

SHARED = Path(__file__).parents[3] / "shared" / "data"
DIMENSION, K, TIE = 512, 10, 2e-6
SHARES = (1.0, 0.5, 0.1, 0.01, 0.001, 0.0001)
PARTITION = Partition("reben", "float16", DIMENSION)

Ask = Callable[[asyncpg.Connection, int, dict[str, Any]], Awaitable[list[float]]]


@dataclass(frozen=True)
class World:
    """What was registered, in the order of the rows, and what is asked."""

    unit: NDArray[np.float32]  # (N, D), at length 1
    footprints: NDArray[Any]  # N polygons
    queries: NDArray[np.float16]  # (Q, D)
    places: NDArray[np.integer]  # row that each query is like

    def truths(self, kept: Sequence[NDArray[np.integer] | None]) -> list[NDArray[np.floating]]:
        """For each query the cosine distances of the K nearest of the rows kept for it, or of all."""
        asked = unit_length(self.queries)
        found = []
        for query, rows in zip(asked, kept, strict=True):
            cosine = (self.unit if rows is None else self.unit[rows]) @ query
            found.append(np.sort(1 - np.partition(cosine, max(0, len(cosine) - K))[-K:]))
        return found


def make_world(
    products: Products, real: NDArray[np.float16], out: Path, queries: int
) -> tuple[World, Policy]:
    """Write the shards; what is in them, and the policy that admits them."""
    signer, encoder, rings, parts = new_signer(), DrawnEncoder(dimension=DIMENSION), [], []
    counts = [len(ids) for ids in products.ids.values()]
    for (product, ids), vectors in zip(products.ids.items(), resampled(real, counts, 1), strict=True):
        corners = products.rings[product]
        centres = corners[:, :4].mean(axis=1).tolist()
        order = np.argsort(hilbert_index(*np.transpose(centres)))
        chips = [Chip(ids[i], 0, 0, 120, polygon(corners[i]), (*centres[i],), None) for i in order]
        write_shard(
            out, "reben", product, signer=signer, encoder=encoder, vectors=vectors, chips=chips,
            start=datetime.strptime(product.split("_")[2], "%Y%m%dT%H%M%S").replace(tzinfo=UTC),
        )  # fmt: skip
        rings.append(corners[order])
        parts.append(vectors)
    vectors = np.concatenate(parts)
    random = np.random.default_rng(5)
    places = random.choice(len(vectors), queries, replace=False)
    asked = vectors[places].astype(np.float32)
    asked += random.normal(scale=0.02 / np.sqrt(DIMENSION), size=asked.shape)
    footprints = shapely.polygons(np.concatenate(rings))
    return World(unit_length(vectors), footprints, asked.astype(np.float16), places), policy_for(signer)


def polygon(ring: NDArray[np.float64]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [ring.tolist()]}


def boxes(world: World, share: float, *, around: bool) -> list[list[float] | None]:
    """A box for each query that about `share` of the rows touch: around its place, or away from it."""
    if share == 1:
        return [None] * len(world.queries)
    points = shapely.get_coordinates(shapely.centroid(world.footprints))
    found = []
    for number, place in enumerate(world.places):
        centre = points[place] if around else points[np.random.default_rng(number).integers(len(points))]
        while not around and np.abs(centre - points[place]).max() < 3:
            number += 1_000
            centre = points[np.random.default_rng(number).integers(len(points))]
        reach = np.abs(points - centre).max(axis=1)
        radius = np.partition(reach, int(share * len(points)))[int(share * len(points))]
        edge = np.array([180, 90])
        found.append(
            [*np.maximum(centre - radius, -edge).tolist(), *np.minimum(centre + radius, edge).tolist()]
        )
    return found


def literal(vector: NDArray[np.floating]) -> str:
    return "[" + ",".join(map(repr, vector.astype(float).tolist())) + "]"


def eocat_way(world: World) -> Ask:
    async def ask(connection: asyncpg.Connection, query: int, options: dict[str, Any]) -> list[float]:
        like = {"vector": world.queries[query].astype(float).tolist()}
        request = parse_body(json.dumps({"like": like, "limit": K, **options}).encode())
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            answer = await find(connection, request)
        ask.methods[answer.method] = ask.methods.get(answer.method, 0) + 1  # type: ignore[attr-defined]
        return [one.distance or 0.0 for one in answer.neighbours]

    ask.methods = {}  # type: ignore[attr-defined]
    return ask


def pgvector_way(world: World, ef: int) -> Ask:
    """What the manual of pgvector says, on the same table and with the same connection settings."""

    async def ask(connection: asyncpg.Connection, query: int, options: dict[str, Any]) -> list[float]:
        where, arguments = "", list[Any]()
        if (box := options.get("bbox")) is not None:
            where = "WHERE ST_Intersects(geometry, ST_MakeEnvelope($2, $3, $4, $5, 4326))"
            arguments = box
        distance = f"half::halfvec({DIMENSION}) <=> $1::text::halfvec({DIMENSION})"
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            await connection.execute(f"SET LOCAL hnsw.ef_search = {ef}")
            await connection.execute("SET LOCAL hnsw.iterative_scan = relaxed_order")
            records = await connection.fetch(
                f"""SELECT shard_id, row, {distance} AS distance FROM eocat.{PARTITION.name} {where}
                     ORDER BY {distance} LIMIT {K}""",
                literal(world.queries[query]),
                *arguments,
            )
        return sorted(record["distance"] for record in records)

    return ask


async def run(
    database: Database, ask: Ask, options: Sequence[dict[str, Any]], clients: int
) -> tuple[Any, Any]:
    """(answers, seconds of each) of all queries, by so many clients at a time."""
    settings = {**database.server_settings(), **SESSION}

    async def connect() -> asyncpg.Connection:
        connection = await asyncpg.connect(database.asyncpg_dsn(), server_settings=settings)
        await con_init(connection)
        return connection

    connections = [await connect() for _ in range(clients)]
    answers: list[list[float]] = [[] for _ in options]
    seconds = [0.0] * len(options)

    async def client(number: int) -> None:
        await ask(connections[number], number, options[number])  # fills the session's caches
        for query in range(number, len(options), clients):
            started = time.perf_counter()
            answers[query] = await ask(connections[number], query, options[query])
            seconds[query] = time.perf_counter() - started

    started = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(clients)))
    whole = time.perf_counter() - started
    for connection in connections:
        await connection.close()
    return answers, (seconds, len(options) / whole)


def recall(answers: Sequence[Sequence[float]], truths: Sequence[NDArray[np.floating]]) -> tuple[float, int]:
    """Mean share of the true distances that were reached, and how many answers were short."""
    shares, short = [], 0
    for found, true in zip(answers, truths, strict=True):
        short += len(found) < len(true)
        near = sum(distance <= true[-1] + TIE for distance in found[: len(true)]) if len(true) else 0
        shares.append(near / len(true) if len(true) else 1.0)
    return float(np.mean(shares)), short


def report(name: str, rows: str, found: float, short: int, timing: tuple[list[float], float]) -> None:
    p50, p99 = np.percentile(timing[0], (50, 99)) * 1e3
    print(f"  {name:16} {rows:26} {found:7.4f} {short:6} {p50:9.2f} {p99:9.2f} {timing[1]:8.0f}", flush=True)


def compare(database: Database, world: World) -> None:
    """Every way at every selectivity, by one client and by eight."""
    ways = {"eocat": eocat_way(world)} | {
        f"pgvector ef {ef}": pgvector_way(world, ef) for ef in (40, 100, 200)
    }
    tree = shapely.STRtree(world.footprints)
    heads = f"{'recall':>7} {'short':>6} {'p50 ms':>9} {'p99 ms':>9} {'1/s':>8}"
    print(f"  {'way':16} {'rows that pass':26} {heads}")
    for share in SHARES:
        for around in (True, False) if share < 1 else (True,):
            limits = boxes(world, share, around=around)
            kept = [
                None if box is None else tree.query(shapely.box(*box), predicate="intersects")
                for box in limits
            ]
            truths = world.truths(kept)
            options: list[dict[str, Any]] = [{} if box is None else {"bbox": box} for box in limits]
            place = "" if share == 1 else ", around" if around else ", away"
            survivors = np.mean([len(world.unit) if one is None else len(one) for one in kept])
            rows = f"{share:.2%}{place} ({survivors:.0f})"
            for name, ask in ways.items():
                for clients in (1, 8) if share in (1.0, 0.01) else (1,):
                    answers, timing = asyncio.run(run(database, ask, options, clients))
                    report(
                        name, rows if clients == 1 else f"{rows} ×{clients}", *recall(answers, truths), timing
                    )
    print(f"  eocat's methods: {ways['eocat'].methods}")  # type: ignore[attr-defined]


def indexes(database: Database, rows: int) -> None:
    """Build both indexes, one after the other, with the same memory and workers; sizes and times."""

    def size(connection: Any, condition: str) -> int:
        return int(connection.execute(
            f"""SELECT sum(pg_relation_size(i.indexrelid))
                  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                 WHERE i.indrelid = 'eocat.{PARTITION.name}'::regclass AND {condition}"""
        ).fetchone()[0])  # fmt: skip

    with database.connect(autocommit=True) as connection:
        started = time.perf_counter()
        vector_index._build(connection, PARTITION, 64, rows)
        ours = time.perf_counter() - started
        connection.execute("SET maintenance_work_mem = '4GB'")
        connection.execute("SET max_parallel_maintenance_workers = 4")
        started = time.perf_counter()
        connection.execute(
            f"""CREATE INDEX plain_hnsw ON eocat.{PARTITION.name}
                 USING hnsw ((half::halfvec({DIMENSION})) halfvec_cosine_ops)"""
        )
        plain = time.perf_counter() - started
        connection.execute("VACUUM ANALYZE eocat.chip")
        sizes = size(connection, "c.relname LIKE 'chip%hnsw%'"), size(connection, "c.relname = 'plain_hnsw'")
        heap = connection.execute(f"SELECT pg_table_size('eocat.{PARTITION.name}')").fetchone()
    print(f"indexes over {rows} rows × {DIMENSION} float16; table {(heap or [0])[0] / rows:.0f} bytes a row")
    print(f"  eocat     {ours:7.1f} s  {sizes[0] / 2**20:7.0f} MiB  {sizes[0] / rows:6.0f} bytes a row")
    print(f"  pgvector  {plain:7.1f} s  {sizes[1] / 2**20:7.0f} MiB  {sizes[1] / rows:6.0f} bytes a row")
    print(f"  ratio     {ours / plain:7.2f}    {sizes[0] / sizes[1]:7.2f}")


def with_faiss(world: World) -> None:
    import faiss

    unit, asked = world.unit, unit_length(world.queries)
    index = faiss.IndexHNSWFlat(DIMENSION, 16, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 64
    started = time.perf_counter()
    index.add(unit)
    print(f"FAISS HNSW, M 16: built in {time.perf_counter() - started:.1f} s,"
          f" {len(faiss.serialize_index(index)) / len(unit):.0f} bytes a row in memory")  # fmt: skip
    truths = world.truths([None] * len(asked))
    for ef in (40, 100, 200):
        index.hnsw.efSearch = ef
        seconds, answers = [], []
        for vector in asked:
            started = time.perf_counter()
            cosines, _ = index.search(vector[None, :], K)
            seconds.append(time.perf_counter() - started)
            answers.append(list(1 - cosines[0]))
        report(
            f"FAISS ef {ef}",
            f"100.00% ({len(unit)})",
            *recall(answers, truths),
            (seconds, 1 / np.mean(seconds)),
        )


def with_duckdb(world: World, out: Path, queries: int = 5) -> None:
    import duckdb

    connection = duckdb.connect(config={"threads": 1})
    seconds, answers = [], []
    for query in range(queries):
        started = time.perf_counter()
        rows = connection.execute(
            f"""SELECT array_cosine_distance(embedding::FLOAT[{DIMENSION}], ?::FLOAT[{DIMENSION}]) AS d
                  FROM read_parquet('{out}/reben/*/embeddings.parquet') ORDER BY d LIMIT {K}""",
            [world.queries[query].astype(float).tolist()],
        ).fetchall()
        seconds.append(time.perf_counter() - started)
        answers.append([row[0] for row in rows])
    truths = world.truths([None] * len(world.queries))[:queries]
    rows_text = f"100.00% ({len(world.unit)})"
    report("DuckDB", rows_text, *recall(answers, truths), (seconds, 1 / float(np.mean(seconds))))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rows", type=int, default=480_038)
    arguments.add_argument("--queries", type=int, default=100)
    arguments.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "eocat-neighbours")
    given = arguments.parse_args()
    given.work.mkdir(mode=0o755, exist_ok=True)
    records = SHARED / "scale_metadata"
    print(f"{check(records)} published footprints equal those computed from the ids")
    real = real_vectors(SHARED, given.work / "real.npy")
    print(f"{len(real)} distinct real vectors")
    home, out = given.work / "home", given.work / "shards"
    try:
        home.mkdir(mode=0o755)
        world, policy = make_world(read_products(records, given.rows), real, out, given.queries)
        database = replace(find_database(home, environ={}), home=home)
        migrate(database)
        started = time.perf_counter()
        admissions = register(database, [out], policy)
        taken = time.perf_counter() - started
        assert {one.status for one in admissions} == {"registered"}, admissions
        print(
            f"registered {len(world.unit)} rows in {len(admissions)} shards in {taken:.0f} s,"
            " with the index and its audit"
        )
        indexes(database, len(world.unit))
        compare(database, world)
        with_faiss(world)
        with_duckdb(world, out)
    finally:
        Cluster(home).stop()
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(out, ignore_errors=True)


if __name__ == "__main__":
    main()
