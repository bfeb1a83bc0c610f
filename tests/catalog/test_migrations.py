"""Migrations on a database that holds data: from the first one on, nothing is lost, and all of it works."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from alembic import command
from catalogue import fetch_all, running
from log_world import LogWorld
from psycopg.types.json import Jsonb

from eocat.catalog.client import Catalogue
from eocat.catalog.database import Database
from eocat.catalog.documents import load_collection, load_item, read_documents
from eocat.catalog.histories import read_event
from eocat.catalog.partitions import Partition
from eocat.catalog.schema import alembic_config, ensure_extensions, ensure_reader, migrate, migrate_pgstac
from eocat.verify import canonical
from eocat.verify.content import EMBEDDINGS
from eocat.verify.evidence import read_folder
from eocat.verify.shard import Shard
from eocat.verify.statement import Create


@pytest.fixture
def first(fresh_database: Database, short_home: Path, tmp_path: Path) -> LogWorld:
    """A database as the first migration made it, with one registered shard, as that version stored it."""
    database = replace(fresh_database, home=short_home)
    with database.connect(autocommit=True) as connection:
        ensure_extensions(connection)
        migrate_pgstac(database, connection, lambda *_: None)
        connection.execute("CREATE SCHEMA eocat")
        ensure_reader(database, connection)
    with database.engine().begin() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    world = LogWorld(database, tmp_path / "out")
    store_as_first(world, world.write("old"))
    return world


def store_as_first(world: LogWorld, folder: Path) -> None:
    evidence = read_folder(folder)
    assert evidence.envelopes is not None
    event = read_event(evidence.envelopes[0])
    create = event.statement.predicate
    assert isinstance(create, Create)
    partition = Partition("demo", create.rows.dtype, create.rows.dimension)
    documents = read_documents(folder.parent, create)
    with world.database.connect() as connection:
        connection.execute("SET search_path TO pgstac, public")
        load_collection(connection, documents)
        connection.execute(
            """INSERT INTO eocat.collection (id, space, dtype, dimension, encoder)
               VALUES ('demo', %s, %s, %s, 'drawn 1')""",
            [bytes.fromhex(create.space), partition.dtype, partition.dimension],
        )
        connection.execute(
            f"CREATE TABLE eocat.{partition.name} PARTITION OF eocat.chip FOR VALUES IN ('demo')"
        )
        assets = {
            key: {"name": evidence.files[key].name, "type": asset.type, "sha256": asset.sha256}
            for key, asset in create.projection.assets.items()
        }
        row = connection.execute(
            """INSERT INTO eocat.shard (collection, item_id, row_count, row_root, location, assets)
               VALUES ('demo', 'old', %s, %s, %s, %s) RETURNING shard_id""",
            [create.rows.count, bytes.fromhex(create.rows.root), str(folder), Jsonb(assets)],
        ).fetchone()
        assert row is not None
        for batch in Shard.open(evidence.files[EMBEDDINGS], create.rows).batches():
            for index, values in enumerate(batch.table.to_pylist()):
                vector = np.asarray(batch.vectors[index], np.float64).tolist()
                connection.execute(
                    """INSERT INTO eocat.chip (collection, shard_id, row, id, geometry, start_time, end_time,
                                               source, pixel_window, input_digest, leaf_hash, half)
                       VALUES ('demo', %s, %s, %s, public.ST_GeomFromWKB(%s, 4326), %s, %s, %s, '{0,0,64,64}',
                               %s, %s, %s::text::public.halfvec)""",
                    [
                        row[0], batch.first + index, values["id"], values["geometry"],
                        values["start_datetime"], values["end_datetime"], values["source"],
                        values["input_digest"], bytes(32), str(vector),
                    ],
                )  # fmt: skip
        connection.execute(
            """INSERT INTO eocat.event (collection, item_id, seq, event, payload_sha256, envelope)
               VALUES ('demo', 'old', 0, 'CREATE', %s, %s)""",
            [bytes.fromhex(event.payload), event.envelope],
        )
        load_item(connection, canonical.parse(evidence.item), documents)


def test_from_the_first_migration_on_with_data(first: LogWorld, tmp_path: Path) -> None:
    rows = "SELECT collection, row, id, half::text FROM eocat.chip ORDER BY row"
    before = fetch_all(first.database, rows)
    assert len(before) == 6
    migrate(first.database)
    assert fetch_all(first.database, rows) == before
    assert first.register(first.out / "demo" / "old").status in ("updated", "already registered")
    first.add("new")
    assert first.audit(tmp_path).items == 2
    with running(first.database) as url:
        client = Catalogue(url)
        found = client.similar({"like": {"collection": "demo", "item": "old", "row": 0}, "limit": 12})
        assert found["features"][0]["properties"]["item"] == "old"
        assert len(found["features"]) == 12
        assert {item["id"] for item in client.search(collections=["demo"])} == {"old", "new"}
