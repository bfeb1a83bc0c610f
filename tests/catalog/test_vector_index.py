"""The index over codes: it chooses well, later shards are found without it, and it is swapped in whole."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import pytest
from catalogue import fetch_all, new_database
from shard_maker import DrawnEncoder, draw_vectors, new_signer, policy_for, write_shard
from test_similar import ask

from eocat.catalog.admission import register
from eocat.catalog.database import Database
from eocat.catalog.partitions import EXACT_ROWS
from eocat.catalog.projection import CODE_DIMENSION, Projection, fit, unit_length
from eocat.catalog.recall import K, audit
from eocat.catalog.similar import in_space

DIMENSION = 96
FIRST, LATER = EXACT_ROWS + 500, 300


@pytest.fixture(scope="module")
def grown(embedded: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, Any]]:
    """A collection that was indexed, and then grew by one small shard."""
    out, signer = tmp_path_factory.mktemp("shards"), new_signer()
    vectors = draw_vectors(FIRST + LATER, DIMENSION, seed=3)
    with new_database(embedded) as database:
        for item, part, west in (("first", vectors[:FIRST], 0.0), ("later", vectors[FIRST:], 50.0)):
            encoder = DrawnEncoder(dimension=DIMENSION)
            folder = write_shard(out, "demo", item, signer=signer, encoder=encoder, vectors=part, west=west)
            (admission,) = register(database, [folder], policy_for(signer))
            assert admission.status == "registered", admission
        yield database, vectors


def index_names(database: Database) -> list[str]:
    rows = fetch_all(
        database,
        """SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
            JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'hnsw' AND i.indisvalid""",
    )
    return [row[0] for row in rows]


def test_a_load_gives_rows_their_codes_and_the_index_covers_the_first_shard(grown: Any) -> None:
    database, vectors = grown
    [(axes, through)] = fetch_all(
        database, "SELECT axes, through FROM eocat.projection JOIN eocat.vector_index USING (collection)"
    )
    projection = Projection.from_bytes(axes, DIMENSION)
    stored = fetch_all(database, "SELECT code::text FROM eocat.chip ORDER BY shard_id, row")
    codes = np.array([[float(number) for number in code.strip("[]").split(",")] for (code,) in stored])
    np.testing.assert_allclose(codes, projection.encode(vectors), atol=1e-3)
    assert fetch_all(database, "SELECT max(shard_id), count(*) FROM eocat.shard")[0] == (through + 1, 2)
    assert len(index_names(database)) == 1


def test_rows_of_later_shards_are_found_beside_the_index(grown: Any) -> None:
    database, vectors = grown
    for row in (0, LATER - 1):
        answer = ask(database, like={"vector": vectors[FIRST + row].astype(float).tolist()}, limit=3)
        assert answer.method == "index"
        assert answer.neighbours[0].row == row
        assert answer.neighbours[0].distance == pytest.approx(0, abs=1e-5)
        assert answer.candidates >= LATER


def test_an_answer_by_index_tells_the_recall_that_was_measured(grown: Any) -> None:
    database, vectors = grown
    answer = ask(database, like={"vector": vectors[5].astype(float).tolist()})
    assert answer.recall is not None
    assert answer.recall.k == K
    assert answer.recall.recall >= 0.99
    assert ask(database, like={"vector": vectors[5].astype(float).tolist()}, exact=True).recall is None


def test_an_audit_measures_again_and_stores_what_it_found(grown: Any) -> None:
    database, _ = grown
    before = fetch_all(database, "SELECT count(*) FROM eocat.recall")[0][0]
    with database.connect(autocommit=True) as connection:
        (found,) = audit(database, connection, ["demo"], queries=20, seed=7)
        assert (found.queries, found.rows) == (20, FIRST + LATER)
        (again,) = audit(database, connection, ["demo"], queries=20, seed=7)
        assert again == found  # the same seed draws the same rows
    assert fetch_all(database, "SELECT count(*) FROM eocat.recall")[0][0] == before + 2


def test_the_command_prints_what_it_measured_and_stores_it(grown: Any) -> None:
    database, _ = grown
    environment = {
        "EOCAT_HOME": str(database.required_home()),
        "EOCAT_DATABASE_URL": database.asyncpg_dsn("owner"),
        "PATH": "/usr/bin:/bin",
    }
    command = [sys.executable, "-m", "eocat.edge", "audit", "--queries", "20", "--seed", "7"]
    for options in ((), ("--json",)):
        ran = subprocess.run(
            [*command, *options], capture_output=True, text=True, check=True, env=environment
        )
        [(stored,)] = fetch_all(database, "SELECT recall FROM eocat.recall ORDER BY measured_at DESC LIMIT 1")
        if options:
            (told,) = json.loads(ran.stdout)
            assert (told["collection"], told["recall"], told["queries"]) == ("demo", stored, 20)
        else:
            assert ran.stdout.startswith(f"demo  recall@{K} {stored:.4f} over 20 rows of {FIRST + LATER}, ")


def test_an_audit_tells_a_bad_index(grown: Any) -> None:
    """Codes that say nothing: the measured recall falls, distances stay right."""
    database, vectors = grown
    with database.connect(autocommit=True) as connection:
        axes = connection.execute("SELECT axes FROM eocat.projection").fetchone()
        assert axes
        noise = np.random.default_rng(0).normal(size=(CODE_DIMENSION, DIMENSION)).astype(np.float32)
        worse = Projection(np.zeros(DIMENSION, np.float32), noise)
        connection.execute(
            "UPDATE eocat.projection SET axes = %s, fitted_at = clock_timestamp()", [worse.to_bytes()]
        )
        try:
            (found,) = audit(database, connection, ["demo"], queries=10, seed=1)
            assert found.recall < 0.9
        finally:
            connection.execute(
                "UPDATE eocat.projection SET axes = %s, fitted_at = clock_timestamp()", [axes[0]]
            )
            audit(database, connection, ["demo"], queries=20, seed=7)
    answer = ask(database, like={"vector": vectors[5].astype(float).tolist()}, limit=1)
    assert answer.neighbours[0].distance == pytest.approx(0, abs=1e-5)


def test_a_collection_that_grows_past_the_bound_gets_codes_and_one_new_index(
    embedded: Database, tmp_path: Path
) -> None:
    """Rows that came before there was a projection are filled in; the index in use is the newest one."""
    signer, encoder = new_signer(), DrawnEncoder(dimension=8)
    with new_database(embedded) as database:
        for number, count in enumerate((15_000, 15_000, 4_000)):
            folder = write_shard(
                tmp_path, "demo", f"s{number}", signer=signer, encoder=encoder, count=count, seed=number,
                west=number * 5.0,
            )  # fmt: skip
            register(database, [folder], policy_for(signer))
            assert len(index_names(database)) == (number > 0)
        assert fetch_all(database, "SELECT count(*) FROM eocat.chip WHERE code IS NULL") == [(0,)]
        assert fetch_all(database, "SELECT through, rows FROM eocat.vector_index") == [(3, 34_000)]
        assert index_names(database)[0].endswith("_hnsw_3")


def test_a_small_collection_has_no_index_and_no_recall(embedded: Database, tmp_path: Path) -> None:
    signer = new_signer()
    write_shard(tmp_path, "demo", "s", signer=signer, count=30)
    with new_database(embedded) as database:
        register(database, [tmp_path], policy_for(signer))
        answer = ask(database, like={"collection": "demo", "item": "s", "row": 0}, exact=False)
        assert (answer.method, answer.candidates, answer.recall) == ("exact", 30, None)
        with database.connect(autocommit=True) as connection:
            assert audit(database, connection, ["demo"], queries=5, seed=0) == []

        async def scope() -> Any:
            connection = await asyncpg.connect(
                database.asyncpg_dsn(), server_settings=database.server_settings()
            )
            try:
                return await in_space(connection, "demo")
            finally:
                await connection.close()

        assert asyncio.run(scope()).indexes == {}


@pytest.mark.parametrize("shape", [(300, 40), (300, 200), (50, 200), (1, 200)])
def test_a_projection_keeps_what_differs_most(shape: tuple[int, int]) -> None:
    """Distances between codes never exceed those between vectors, and are those where all axes are kept."""
    rows = np.random.default_rng(1).normal(size=shape) + 3
    projection = fit(rows)
    assert projection.dimension <= min(CODE_DIMENSION, shape[1])
    again = Projection.from_bytes(projection.to_bytes(), shape[1])
    np.testing.assert_array_equal(again.axes, projection.axes)
    codes, units = projection.encode(rows).astype(float), unit_length(rows).astype(float)
    short = np.linalg.norm(codes[:, None] - codes[None], axis=2)
    whole = np.linalg.norm(units[:, None] - units[None], axis=2)
    assert (short <= whole + 5e-3).all()
    if shape[1] <= CODE_DIMENSION:
        np.testing.assert_allclose(short, whole, atol=5e-3)


def test_a_zero_vector_has_a_code() -> None:
    projection = fit(np.random.default_rng(1).normal(size=(30, 8)))
    assert np.isfinite(projection.encode(np.zeros((1, 8)))).all()
