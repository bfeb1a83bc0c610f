"""The database is a view: lost or restored from an old backup, it comes back from log, keys and shards."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from catalogue import fetch_all, new_database, running
from log_world import LogWorld, without_triggers
from witnesses import served

from eocat.catalog.client import Catalogue
from eocat.catalog.cosign import witnesses_path
from eocat.catalog.database import Database
from eocat.catalog.keyring import ensure_keyring
from eocat.catalog.log import advance
from eocat.catalog.log_restore import missing_items, restore_log
from eocat.verify.edge.fetch import fetch_bytes
from eocat.verify.errors import ConfigError, LogViolation
from eocat.verify.log.note import format_vkey

LOG_TABLES = {
    "log_entry": "index, entry, leaf_hash, collection, item_id, seq, status",
    "log_hash": "level, index, hash",
    "log_collection": "collection, index, items, root",
    "log_tree": "size, root",
    "log_cosigned": "size, note",
    "log_key": "origin, verifier_key",
    "event": "collection, item_id, seq, event, payload_sha256, envelope",
}


@pytest.fixture
def world(embedded: Database, tmp_path: Path) -> Iterator[LogWorld]:
    """Two collections and a witness; one item superseded by another, one withdrawn, one updated."""
    with new_database(embedded) as database:
        world = LogWorld(database, tmp_path / "out")
        log = ensure_keyring(world.home).verifier
        with served(tmp_path / "witness", [log], "w.example") as witness:
            lines = f"log {format_vkey(log)}\n{witness.line('w')}quorum w\n"
            witnesses_path(world.home).write_text(lines)
            for item in ("a", "b", "c", "d"):
                world.add(item)
            world.add("x", "other")
            world.register(world.sign("a", "SUPERSEDE", successor="demo/b"))
            world.register(world.sign("c", "WITHDRAW", reason="clouds"))
            later = dict.fromkeys(("datetime", "start_datetime", "end_datetime"), "2024-05-02T00:00:00Z")
            world.register(world.update("d", "drawn embeddings of d", **later))
            yield world


@pytest.fixture
def rebuilt(world: LogWorld, embedded: Database) -> Iterator[LogWorld]:
    """The same home and shards with an empty database."""
    with new_database(embedded) as empty:
        yield LogWorld(replace(empty, home=world.home), world.out, world.signer)


def rebuild(world: LogWorld) -> None:
    restore_log(world.database)
    for collection in sorted(world.out.iterdir()):
        for folder in sorted(path.parent for path in collection.glob("*/item.json")):
            assert world.register(folder).status in ("registered", "already registered")


def tables(world: LogWorld) -> dict[str, Any]:
    return {
        table: fetch_all(world.database, f"SELECT {columns} FROM eocat.{table} ORDER BY 1, 2, 3, 4")
        if columns.count(",") > 2
        else sorted(fetch_all(world.database, f"SELECT {columns} FROM eocat.{table}"))
        for table, columns in LOG_TABLES.items()
    }


def answers(world: LogWorld) -> dict[str, Any]:
    """What readers get: Items, log proofs and neighbours."""
    with running(world.database) as url:
        client = Catalogue(url)
        items = {item["id"]: item for item in client.search(collections=["demo", "other"], limit=100)}
        proofs = {
            item: json.loads(fetch_bytes(f"{url}/collections/demo/items/{item}/log-proof", 1 << 20))
            for item in "abcd"
        }
        similar = client.similar({"like": {"collection": "demo", "item": "b", "row": 2}, "limit": 30})
    return json.loads(json.dumps([items, proofs, similar["features"]]).replace(url, ""))


def test_an_empty_database_comes_back_from_log_and_shards(world: LogWorld, rebuilt: LogWorld) -> None:
    before, told = tables(world), answers(world)
    rebuild(rebuilt)
    assert tables(rebuilt) == before
    for now, then in zip(answers(rebuilt), told, strict=True):
        assert now == then
    assert missing_items(rebuilt.database) == []
    size = rebuilt.checkpoint().size
    assert advance(rebuilt.database).size == size  # nothing was added on the way
    rebuilt.add("e")
    assert rebuilt.checkpoint().size > size


def test_a_second_rebuild_changes_nothing(world: LogWorld, rebuilt: LogWorld) -> None:
    rebuild(rebuilt)
    before = tables(rebuilt)
    again = restore_log(rebuilt.database)
    assert again is not None
    assert (again.entries, again.events) == (0, 0)
    rebuild(rebuilt)
    assert tables(rebuilt) == before


def test_items_whose_shards_are_not_named_are_missing(world: LogWorld, rebuilt: LogWorld) -> None:
    restore_log(rebuilt.database)
    assert missing_items(rebuilt.database) == ["demo/a", "demo/b", "demo/d", "other/x"]  # c is withdrawn


def test_an_old_backup_is_noticed_and_brought_up_to_date(
    world: LogWorld, rebuilt: LogWorld, tmp_path: Path
) -> None:
    """ATTACKS row 75: the database of yesterday beside the log of today."""
    old = tmp_path / "old-log"
    new = tmp_path / "new-log"
    shutil.copytree(world.home / "log", old)
    world.add("later")
    shutil.copytree(world.home / "log", new)

    put_log(world.home, old)
    rebuild_known(rebuilt)  # the backup: a database that ends where `old` ends
    put_log(world.home, new)
    more = rebuilt.write("more")
    with pytest.raises(LogViolation, match="does not begin with the checkpoint"):
        rebuilt.register(more)
    restored = restore_log(rebuilt.database)
    assert restored is not None
    assert restored.events == 2  # CREATE and REGISTER of `later`
    rebuild(rebuilt)
    assert rebuilt.audit(tmp_path).items == 7  # `more` was committed, and is logged after what came before


def rebuild_known(world: LogWorld) -> None:
    restore_log(world.database)
    for item in "abcd":
        world.register(world.out / "demo" / item)


def put_log(home: Path, log: Path) -> None:
    shutil.rmtree(home / "log")
    shutil.copytree(log, home / "log")


def test_an_old_copy_of_the_log_is_refused(world: LogWorld, tmp_path: Path) -> None:
    old = tmp_path / "old-log"
    shutil.copytree(world.home / "log", old)
    world.add("later")
    put_log(world.home, old)
    with pytest.raises(LogViolation, match="do not begin with"):
        restore_log(world.database)


def test_a_kept_note_of_another_tree_is_refused(world: LogWorld, rebuilt: LogWorld) -> None:
    kept = sorted((world.home / "log" / "cosigned").iterdir(), key=lambda path: int(path.name))
    kept[0].write_bytes(kept[1].read_bytes())
    with pytest.raises(LogViolation, match="of another tree"):
        restore_log(rebuilt.database)


def test_a_log_without_its_key_is_refused(world: LogWorld, rebuilt: LogWorld) -> None:
    shutil.rmtree(world.home / "catalogue-keys")
    with pytest.raises(ConfigError, match="not its key"):
        restore_log(rebuilt.database)
    assert not (world.home / "catalogue-keys").exists()  # and none was made


@pytest.mark.parametrize("what", ["entries", "envelope"])
def test_files_that_were_edited_are_refused(world: LogWorld, rebuilt: LogWorld, what: str) -> None:
    log = world.home / "log"
    bundle = log / f"tile/entries/000.p/{world.checkpoint().size}"
    path = bundle if what == "entries" else min((log / "envelope").iterdir())
    data = path.read_bytes()
    path.write_bytes(data.replace(b"demo", b"dem0", 1) if what == "entries" else data[:-2] + b" }")
    with pytest.raises(LogViolation):
        restore_log(rebuilt.database)
    assert fetch_all(rebuilt.database, "SELECT count(*) FROM eocat.event") == [(0,)]


def test_another_event_in_the_database_is_refused(world: LogWorld, rebuilt: LogWorld) -> None:
    """A backup that holds an event which its log does not."""
    envelope = world.held("b")[1].replace(b'"', b"'", 1)
    payload = fetch_all(
        world.database, "SELECT payload_sha256 FROM eocat.event WHERE item_id = 'b' AND seq = 0"
    )
    with rebuilt.database.connect() as connection:
        connection.execute(
            "INSERT INTO eocat.event (collection, item_id, seq, event, payload_sha256, envelope)"
            " VALUES ('demo', 'b', 0, 'CREATE', %s, %s)",
            [payload[0][0], envelope],
        )
    with pytest.raises(LogViolation, match="another CREATE 0 of demo/b"):
        restore_log(rebuilt.database)
    without_triggers(rebuilt.database, "DELETE FROM eocat.event")
    assert restore_log(rebuilt.database) is not None
