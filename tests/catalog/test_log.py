"""The transparency log: every admitted event is in it once, under keys of its own, and none is taken back."""

import json
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests
from catalogue import fetch_all, new_database, running
from log_world import LogWorld, without_triggers

from eocat.catalog.database import Database
from eocat.catalog.keyring import ensure_keyring, keys_folder, read_keyring
from eocat.catalog.log import advance, log_folder
from eocat.catalog.log_store import tree_at
from eocat.producer.signer import KeyFile
from eocat.verify.errors import ConfigError, LogViolation
from eocat.verify.history import Status
from eocat.verify.keys import parse_key
from eocat.verify.log.absence import check_absence, parse_absence
from eocat.verify.log.cosignature import cosigned_message, format_cosignature
from eocat.verify.log.entry import entry_of, parse_entry
from eocat.verify.log.item_proof import check_log_proof, parse_item_proof
from eocat.verify.log.note import COSIGNATURE, Signature, VerifierKey, format_vkey
from eocat.verify.log.quorum import parse_log_policy
from eocat.verify.log.tiles import parse_bundle, parse_tile_path, tiles_between, tree_from_tiles


@pytest.fixture
def world(embedded: Database, tmp_path: Path) -> Iterator[LogWorld]:
    with new_database(embedded) as database:
        yield LogWorld(database, tmp_path / "out")


def test_admission_puts_create_and_register_into_the_log(world: LogWorld) -> None:
    world.add("s1")
    assert world.entries() == [(0, "s1", 0), (1, "s1", 1), (2, None, None)]
    world.add("s2")
    assert world.entries()[3:] == [(3, "s2", 0), (4, "s2", 1), (5, None, None)]
    assert world.checkpoint().size == 6
    for envelope in (*world.held("s1"), *world.held("s2")):
        entry = entry_of(envelope)
        assert (world.home / "log" / "envelope" / entry.envelope).read_bytes() == envelope
    rows = fetch_all(world.database, "SELECT entry FROM eocat.log_entry ORDER BY index")
    assert [parse_entry(bytes(row[0])) for row in rows[:2]] == [entry_of(one) for one in world.held("s1")]


def test_the_register_event_is_the_registrars(world: LogWorld) -> None:
    from eocat.verify.dsse import parse_envelope
    from eocat.verify.events import parse_event

    world.add("s1")
    envelope = parse_envelope(world.held("s1")[1])
    statement = parse_event(envelope.payload)
    registrar = parse_key((keys_folder(world.home) / "registrar.pub").read_text().split()[0])
    assert envelope.verdicts({registrar.key_id: registrar}) == {registrar.key_id: True}
    assert (statement.predicate.event, statement.predicate.seq) == ("REGISTER", 1)
    assert statement.predicate.model_dump()["log"] == world.checkpoint().origin


def test_the_second_time_nothing_is_logged(world: LogWorld) -> None:
    world.add("s1")
    before = log_folder(world.home).read_checkpoint()
    assert world.register(world.out / "demo" / "s1").status == "already registered"
    assert log_folder(world.home).read_checkpoint() == before
    assert advance(world.database).size == 3


def test_an_event_queued_again_while_it_is_logged_is_dropped(world: LogWorld) -> None:
    """What is left where one loader queues on a snapshot from before another's sequencing committed."""
    world.add("first")
    with world.database.connect() as connection:
        connection.execute(
            """INSERT INTO eocat.log_pending (collection, item_id, seq, status)
               SELECT collection, item_id, seq, status FROM eocat.log_entry WHERE item_id = 'first'"""
        )
    assert world.add("second").status == "registered"
    logged = [(item, seq) for _, item, seq in world.entries() if item]
    assert logged == [("first", 0), ("first", 1), ("second", 0), ("second", 1)]
    assert fetch_all(world.database, "SELECT count(*) FROM eocat.log_pending") == [(0,)]


def test_an_empty_catalogue_has_a_log_of_one_head_map(world: LogWorld) -> None:
    assert advance(world.database).size == 1
    world.add("s1")
    assert world.entries() == [(0, None, None), (1, "s1", 0), (2, "s1", 1), (3, None, None)]


def test_the_files_are_the_tree(world: LogWorld) -> None:
    """From tiles and bundles alone the signed root comes out, over more than one level of tiles."""
    for number in range(4):
        world.add(f"s{number}")
    many = 300
    with world.database.connect() as connection:
        connection.execute(
            """INSERT INTO eocat.event (collection, item_id, seq, event, payload_sha256, envelope)
               SELECT 'bulk', 'i' || n, 0, 'CREATE', sha256(('p' || n)::bytea), ('e' || n)::bytea
                 FROM generate_series(1, %s) n""",
            [many],
        )
        connection.execute(
            """INSERT INTO eocat.log_pending (collection, item_id, seq, status)
               SELECT 'bulk', 'i' || n, 0, 'active' FROM generate_series(1, %s) n""",
            [many],
        )
    partial = log_folder(world.home).path / "tile/entries/000.p"
    assert partial.is_dir()
    checkpoint = advance(world.database)
    assert checkpoint.size == 4 * 3 + many + 1
    folder = log_folder(world.home)
    assert tree_from_tiles(checkpoint.size, folder.read_tile).root() == checkpoint.root
    assert not partial.exists(), "the complete bundle replaces the partial ones"
    for size in (3, 6, 9, 12, checkpoint.size):  # older sizes can still be read: the complete tile holds them
        assert tree_from_tiles(size, folder.read_tile).root() == tree_root(world.database, size)
    bundles = [tile for tile in tiles_between(0, checkpoint.size) if tile.level is None]
    entries = [entry for tile in bundles for entry in parse_bundle(folder.read_tile(tile), tile.width)]
    assert len(entries) == checkpoint.size
    assert (folder.path / "tile/1/000.p/1").stat().st_size == 32


def tree_root(database: Database, size: int) -> bytes:
    with database.connect() as connection:
        return tree_at(connection, size).root()


def test_keys_are_made_once_and_kept_closed(tmp_path: Path) -> None:
    first = ensure_keyring(tmp_path, environ={"EOCAT_LOG_ORIGIN": "example.org/log"})
    again = ensure_keyring(tmp_path, environ={"EOCAT_LOG_ORIGIN": "other.example/log"})
    assert (first.verifier, first.registrar) == (again.verifier, again.registrar)
    assert again.origin == "example.org/log"
    folder = keys_folder(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == [
        "log.pem", "log.vkey", "registrar.pem", "registrar.pub",
    ]  # fmt: skip
    for name in ("log.pem", "registrar.pem"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
        assert b"PRIVATE KEY" in (folder / name).read_bytes()
    assert first.verifier.public != first.registrar
    (folder / "log.pem").chmod(0o644)
    with pytest.raises(ConfigError, match="can be read by others"):
        read_keyring(tmp_path)


@pytest.mark.parametrize("origin", ["two words", "a+b", "new\nline", "ü"])
def test_a_name_that_no_log_can_have_is_refused(tmp_path: Path, origin: str) -> None:
    with pytest.raises(ConfigError, match="EOCAT_LOG_ORIGIN"):
        ensure_keyring(tmp_path, environ={"EOCAT_LOG_ORIGIN": origin})


def test_no_other_key_ever_signs_a_log_that_has_begun(world: LogWorld, tmp_path: Path) -> None:
    """Neither a new key, where the old one is lost, nor that of another home."""
    world.add("s1")
    elsewhere = replace(world.database, home=tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="has its key elsewhere"):
        advance(elsewhere)
    assert not (tmp_path / "elsewhere").exists()
    ensure_keyring(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="has another key"):
        advance(elsewhere)


@pytest.mark.parametrize(
    "table",
    ["log_entry", "log_hash", "log_collection", "log_tree", "log_checkpoint", "log_cosigned", "log_key"],
)
def test_attack_75_the_log_is_append_only_even_for_the_owner(world: LogWorld, table: str) -> None:
    column = {"log_hash": "hash", "log_checkpoint": "note", "log_key": "origin"}.get(table, "index")
    column = "size" if table in ("log_tree", "log_cosigned") else column
    for statement in (
        f"UPDATE eocat.{table} SET {column} = {column}",
        f"DELETE FROM eocat.{table}",
        f"TRUNCATE eocat.{table} CASCADE",
    ):
        with world.database.connect() as connection, pytest.raises(psycopg.errors.RestrictViolation):
            connection.execute(statement)


def test_attack_75_an_older_backup_of_the_database_signs_nothing(world: LogWorld) -> None:
    """The last two events are gone from the database; the published checkpoint says that they were there."""
    world.add("s1")
    world.add("s2")
    without_triggers(
        world.database,
        "DELETE FROM eocat.log_checkpoint WHERE size > 3",
        "DELETE FROM eocat.log_tree WHERE size > 3",
        "DELETE FROM eocat.log_collection WHERE index > 2",
        "DELETE FROM eocat.log_entry WHERE index > 2",
        "DELETE FROM eocat.event WHERE item_id = 's2'",
    )
    published = log_folder(world.home).read_checkpoint()
    world.write("s3")
    with pytest.raises(LogViolation, match="does not begin with the checkpoint of size 6") as stopped:
        world.register(world.out / "demo" / "s3")
    assert stopped.value.exit_code == 25
    assert log_folder(world.home).read_checkpoint() == published
    [evidence] = (world.home / "log-evidence").iterdir()
    assert published is not None
    assert published in evidence.read_bytes()
    assert str(evidence) in str(stopped.value.hint)


def test_attack_75_an_older_backup_of_the_files_signs_nothing(world: LogWorld) -> None:
    world.add("s1")
    old = log_folder(world.home).read_checkpoint()
    world.add("s2")
    assert old is not None
    log_folder(world.home).write_checkpoint(old)
    with pytest.raises(LogViolation, match="size 6 is recorded as published, the file has size 3"):
        advance(world.database)
    (world.home / "log" / "checkpoint").unlink()
    with pytest.raises(LogViolation, match="has none"):
        advance(world.database)


@pytest.mark.parametrize(
    ("lie", "sentence"),
    [
        ("UPDATE eocat.log_tree SET root = sha256('x') WHERE size = 3", "does not begin with"),
        ("UPDATE eocat.log_entry SET leaf_hash = sha256('x') WHERE index = 0", "does not begin with"),
        ("UPDATE eocat.log_checkpoint SET note = 'x'", "note is not a text"),
        ("UPDATE eocat.log_entry SET entry = 'eocat-entry/v1' WHERE index = 0", "is not the one that was"),
        ("DELETE FROM eocat.log_entry WHERE index = 1", "does not begin with"),
        ("UPDATE eocat.event SET envelope = '{}' WHERE seq = 1", "is not the one that was"),
    ],
    ids=["root", "leaf hash", "checkpoint", "entry", "entry gone", "envelope"],
)
def test_attack_75_a_rewritten_log_stops(world: LogWorld, lie: str, sentence: str) -> None:
    """The triggers are switched off and a row is changed: the next event is not signed for."""
    world.add("s1")
    before = world.checkpoint()
    without_triggers(world.database, lie)
    world.write("s2")
    with pytest.raises(LogViolation, match=sentence):
        world.register(world.out / "demo" / "s2")
    assert world.checkpoint() == before


def test_a_file_of_the_log_is_never_written_twice(world: LogWorld) -> None:
    world.add("s1")
    world.write("s2")
    (world.home / "log/tile/0/000.p").mkdir(exist_ok=True)
    (world.home / "log/tile/0/000.p/6").write_bytes(b"another")
    with pytest.raises(LogViolation, match="holds other bytes"):
        world.register(world.out / "demo" / "s2")
    assert world.checkpoint().size == 3


def test_witnesses_are_asked_before_the_checkpoint_is_published(world: LogWorld) -> None:
    """The hook gets the signed note; what it returns stands below it, and a log policy accepts the quorum."""
    from datetime import UTC, datetime

    witness = KeyFile.generate("w1")
    key = VerifierKey("witness.example/w1", COSIGNATURE, witness.public)
    now = int(datetime.now(UTC).timestamp())
    asked: list[bytes] = []

    def cosign(note: bytes) -> list[Signature]:
        asked.append(note)
        assert log_folder(world.home).read_checkpoint() is None
        text = note.decode().split("\n\n")[0] + "\n"
        body = format_cosignature(now, witness.sign(cosigned_message(now, text)))
        return [Signature(key.name, key.key_id, body)]

    advance(world.database, cosign=cosign)
    note = log_folder(world.home).read_checkpoint()
    assert note is not None
    assert note.startswith(asked[0])
    log_key = (keys_folder(world.home) / "log.vkey").read_text()
    policy = parse_log_policy(f"log {log_key}witness w1 {format_vkey(key)}\nquorum w1\n".encode())
    judged = policy.judge(note, datetime.now(UTC))
    assert judged.quorum_met
    assert judged.log_key_ok


def test_the_service_shows_log_and_proofs(world: LogWorld) -> None:
    """As a verifier meets them: checkpoint, tiles, envelopes, and a log proof that holds."""
    world.add("s1")
    world.add("s2")
    with running(world.database) as url:
        answer = requests.get(f"{url}/log/checkpoint", timeout=30)
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.content == log_folder(world.home).read_checkpoint()

        def fetch(path: str) -> bytes:
            found = requests.get(f"{url}/log/{path}", timeout=30)
            assert found.status_code == 200, found.text
            assert found.headers["content-type"] == "application/octet-stream"
            assert "immutable" in found.headers["cache-control"]
            return found.content

        checkpoint = world.checkpoint()
        assert tree_from_tiles(6, lambda tile: fetch(tile.path)).root() == checkpoint.root
        bundle = parse_tile_path("tile/entries/000.p/6")
        entry = parse_entry(parse_bundle(fetch(bundle.path), 6)[0])
        envelope = requests.get(f"{url}/log/envelope/{entry.envelope}", timeout=30)
        assert envelope.content == world.held("s1")[0]
        for item in ("s1", "s2"):
            served = requests.get(f"{url}/collections/demo/items/{item}", timeout=30).json()
            assert served["properties"]["eocat:status"] == "active"
            [link] = [link for link in served["links"] if link["rel"] == "log-proof"]
            answer = requests.get(link["href"], timeout=30)
            proof = parse_item_proof(answer.content)
            assert proof.checkpoints[-1].note.encode() == log_folder(world.home).read_checkpoint()
            lines = requests.get(served["assets"]["attestation"]["href"], timeout=30).content.splitlines()
            events = [entry_of(line) for line in lines]
            assert [one.event for one in events] == ["CREATE", "REGISTER"]
            check_log_proof(proof, events, Status.ACTIVE, [checkpoint])
            assert proof.events[-1].index in (1, 4)
            again = requests.get(link["href"], headers={"If-None-Match": answer.headers["etag"]}, timeout=30)
            assert again.status_code == 304
        for collection, item in (("demo", "nothing"), ("demo", "s1a"), ("other", "s1")):
            answer = requests.get(f"{url}/collections/{collection}/items/{item}/log-proof", timeout=30)
            check_absence(parse_absence(answer.content), collection, item, checkpoint)
        for path in (
            "log/tile/0/001", "log/tile/0/000", "log/tile/0/00", "log/tile/00/000",
            "log/tile/entries/000.p/7",
            "log/tile/0/000.p/06", "log/tile/0/..%2f..%2f..%2fcatalogue-keys%2flog.pem",
            "log/envelope/" + "0" * 64, "log/envelope/..%2f..%2fcatalogue-keys%2flog.pem", "log/envelope/x",
            "log/",
        ):  # fmt: skip
            missing = requests.get(f"{url}/{path}", timeout=30)
            assert missing.status_code == 404, path
            assert str(world.home) not in missing.text
            assert json.loads(missing.text)["description"]


DAMAGED: dict[str, Any] = {
    "empty": lambda note: b"",
    "not UTF-8": lambda note: b"\xff" + note,
    "cut": lambda note: note[:-20],
    "a signature of nobody": lambda note: note[:-12] + (b"A" if note[-12:-11] != b"A" else b"B") + note[-11:],
    "another text": lambda note: note.replace(b"\n", b"\nextra\n", 1),
    "a folder": None,
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_checkpoint_file_is_not_the_client_s_fault(
    world: LogWorld, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The proof is shown at the database's own checkpoint, and it is good."""
    world.add("s1")
    checkpoint, path = world.checkpoint(), world.home / "log" / "checkpoint"
    note = path.read_bytes()
    path.unlink()
    if DAMAGED[damage] is None:
        path.mkdir()
    else:
        path.write_bytes(DAMAGED[damage](note))
    with running(world.database) as url:
        answer = requests.get(f"{url}/collections/demo/items/s1/log-proof", timeout=30)
    assert answer.status_code == 200, answer.text
    proof = parse_item_proof(answer.content)
    assert proof.checkpoints[-1].note.encode() == note
    check_log_proof(proof, [entry_of(one) for one in world.held("s1")], Status.ACTIVE, [checkpoint])
    assert "checkpoint is damaged" in caplog.text


def test_a_damaged_record_of_the_log_is_503(world: LogWorld) -> None:
    world.add("s1")
    without_triggers(world.database, "UPDATE eocat.log_checkpoint SET note = 'x'")
    with running(world.database) as url:
        answer = requests.get(f"{url}/collections/demo/items/s1/log-proof", timeout=30)
    assert (answer.status_code, answer.json()["code"]) == (503, "Unavailable")
    assert "operator" in answer.json()["description"]
