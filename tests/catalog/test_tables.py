"""Schema `eocat`: the migrations make what is declared, the triggers keep rows and history as promised."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from catalogue import counts, fetch_all, new_database
from psycopg.types.json import Jsonb
from shard_maker import DrawnEncoder, new_signer, policy_for, write_shard

from eocat.catalog.admission import register
from eocat.catalog.database import Database
from eocat.catalog.schema import alembic_config

ROWS = 12


@pytest.fixture
def filled(embedded: Database, tmp_path: Path) -> Iterator[Database]:
    """A database with one collection of two shards."""
    signer = new_signer()
    for item in ("one", "two"):
        write_shard(tmp_path, "demo", item, signer=signer, count=ROWS)
    with new_database(embedded) as database:
        assert {a.status for a in register(database, [tmp_path], policy_for(signer))} == {"registered"}
        yield database


def test_migrations_make_what_is_declared(filled: Database) -> None:
    """`alembic check` finds nothing to do, with a collection's partition there."""
    config = alembic_config()
    with filled.engine().begin() as connection:
        config.attributes["connection"] = connection
        command.check(config)


def test_migrations_only_go_forward(filled: Database) -> None:
    config = alembic_config()
    with filled.engine().begin() as connection:
        config.attributes["connection"] = connection
        with pytest.raises(NotImplementedError, match="forward only"):
            command.downgrade(config, "base")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE eocat.event SET envelope = '\\x00'",
        "UPDATE eocat.event SET recorded_at = now() WHERE false",
        "DELETE FROM eocat.event",
        "TRUNCATE eocat.event CASCADE",  # plain, the queue of the log stands in its way before our trigger
    ],
)
def test_the_history_is_append_only_even_for_the_owner(filled: Database, statement: str) -> None:
    with filled.connect() as connection, pytest.raises(psycopg.errors.RestrictViolation, match="append-only"):
        connection.execute(statement)


def test_rows_survive_an_update_of_their_item(filled: Database) -> None:
    """pgSTAC updates by delete and insert; what it does to the item must not reach our rows."""
    before = counts(filled)
    item = fetch_all(filled, "SELECT pgstac.get_item('one', 'demo')")[0][0]
    for function in ("update_item", "upsert_item"):
        item["properties"]["title"] = function
        _call(filled, f"SELECT pgstac.{function}(%s)", Jsonb(item))
        stored = fetch_all(filled, "SELECT pgstac.get_item('one', 'demo')")[0][0]
        assert stored["properties"]["title"] == function
    assert counts(filled) == before


def test_rows_survive_a_change_of_partitions(filled: Database) -> None:
    before = counts(filled)
    _call(filled, "UPDATE pgstac.collections SET partition_trunc = 'month' WHERE id = 'demo'")
    assert counts(filled) == before


def test_a_deleted_item_takes_its_rows_and_leaves_its_history(filled: Database) -> None:
    _call(filled, "SELECT pgstac.delete_item('one', 'demo')")
    assert counts(filled) == {"collection": 1, "shard": 1, "chip": ROWS, "event": 4, "item": 1}


def test_a_deleted_collection_takes_everything_but_the_history(filled: Database) -> None:
    _call(filled, "SELECT pgstac.delete_collection('demo')")
    assert counts(filled) == {"collection": 0, "shard": 0, "chip": 0, "event": 4, "item": 0}


def test_a_collection_can_come_back_with_another_dimension(filled: Database, tmp_path: Path) -> None:
    _call(filled, "SELECT pgstac.delete_collection('demo')")
    signer, out = new_signer(), tmp_path / "again"
    write_shard(out, "demo", "three", signer=signer, count=ROWS, encoder=DrawnEncoder(dimension=8))
    assert [a.status for a in register(filled, [out], policy_for(signer))] == ["registered"]
    assert fetch_all(filled, "SELECT DISTINCT vector_dims(half) FROM eocat.chip") == [(8,)]


@pytest.mark.parametrize(
    ("half", "single"),
    [(None, None), ("[1]", "[1]"), (None, "[1]"), ("[1,2]", None)],
    ids=["no vector", "two vectors", "the other dtype", "another dimension"],
)
def test_a_row_has_exactly_one_vector_of_its_collection(filled: Database, half: Any, single: Any) -> None:
    with filled.connect() as connection, pytest.raises(psycopg.errors.CheckViolation):
        connection.execute(
            """INSERT INTO eocat.chip
               SELECT collection, shard_id, 1000, 'x', geometry, start_time, end_time, NULL, source,
                      input_digest, %s::halfvec, %s::vector
                 FROM eocat.chip LIMIT 1""",
            [half, single],
        )


def test_the_reader_reads_and_cannot_write(filled: Database) -> None:
    with filled.connect("reader") as connection:
        assert connection.execute("SELECT count(*) FROM eocat.chip").fetchone() == (2 * ROWS,)
        assert connection.execute("SELECT count(*) FROM eocat.items_matching('{}')").fetchone() == (3,)
    for statement in (
        "DELETE FROM eocat.chip",
        "INSERT INTO eocat.event DEFAULT VALUES",
        "TRUNCATE eocat.shard",
    ):
        with filled.connect("reader") as connection:
            connection.execute("SET default_transaction_read_only = off")  # anybody may: it is no protection
            connection.commit()
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def _call(database: Database, statement: str, *parameters: Any) -> None:
    with database.connect() as connection:
        connection.execute("SET search_path TO pgstac, public")
        connection.execute(statement, parameters or None)
