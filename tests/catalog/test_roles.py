"""The role that admits over HTTP does all that admission needs, and cannot touch what is signed."""

from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest
from catalogue import new_database
from log_world import LogWorld

from eocat.catalog.database import Database
from eocat.catalog.schema import migrate

REFUSED = [
    "UPDATE eocat.event SET envelope = 'x'",
    "DELETE FROM eocat.event",
    "TRUNCATE eocat.event CASCADE",
    "ALTER TABLE eocat.event DISABLE TRIGGER ALL",
    "DROP TABLE eocat.event CASCADE",
    "UPDATE eocat.log_entry SET entry = 'x'",
    "DELETE FROM eocat.log_checkpoint",
    "ALTER TABLE eocat.log_entry DISABLE TRIGGER ALL",
    "SET session_replication_role = replica",
    "DELETE FROM eocat.log_key",
    "CREATE TABLE public.x (y int)",
    "CREATE ROLE another SUPERUSER",
    "COPY eocat.event TO PROGRAM 'cat'",
    "SELECT pg_read_file('/etc/passwd')",
    "UPDATE eocat.collection SET space = space",
]


@pytest.fixture(scope="module")
def world(embedded: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LogWorld]:
    with new_database(embedded) as database:
        yield LogWorld(database, tmp_path_factory.mktemp("out"))


def test_the_writer_admits_what_the_owner_began_and_the_other_way_round(world: LogWorld) -> None:
    writer = replace(world, database=world.database.as_writer())
    assert writer.add("a").status == "registered"
    assert world.add("b").status == "registered"
    assert world.add("c", "other").status == "registered"
    assert writer.add("d", "other", count=70).status == "registered"
    assert writer.register(writer.sign("a", "SUPERSEDE", successor="demo/b")).status == "updated"
    assert writer.register(writer.sign("b", "WITHDRAW", reason="a test")).status == "updated"
    migrate(world.database)
    assert writer.add("e", "third").status == "registered"


@pytest.mark.parametrize("statement", REFUSED)
def test_the_writer_cannot_change_what_is_signed(world: LogWorld, statement: str) -> None:
    with (
        world.database.as_writer().connect(autocommit=True) as connection,
        pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.RestrictViolation)),
    ):
        connection.execute(statement)


def test_the_writer_s_tables_can_be_read_by_the_service(world: LogWorld) -> None:
    with world.database.connect("reader") as connection:
        assert connection.execute("SELECT count(*) > 0 FROM eocat.chip").fetchone() == (True,)
