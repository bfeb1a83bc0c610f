"""Attack 75: who owns database and log files edits a row, an Item, an event, a tile, and verify sees it."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
from catalogue import new_database, running
from fuzz import judge
from kill_registrations import policy_of
from log_world import LogWorld, without_triggers
from make_notes import Signer, note_of
from witnesses import served

from eocat.catalog.cosign import witnesses_path
from eocat.catalog.database import Database
from eocat.catalog.keyring import ensure_keyring
from eocat.verify.check import check
from eocat.verify.edge.fetch import fetch_item
from eocat.verify.errors import Malformed, Unavailable
from eocat.verify.hit import check_hit
from eocat.verify.log.checkpoint import parse_checkpoint
from eocat.verify.log.note import ED25519, parse_note
from eocat.verify.policy import Policy
from eocat.verify.report import Outcome


@dataclass(frozen=True)
class Site:
    world: LogWorld
    url: str
    policy: Policy
    folder: Path

    def item(self, name: str) -> int:
        """The exit code for an item as it is now served."""
        place = self.folder / f"{len(list(self.folder.iterdir()))}"
        place.mkdir()
        try:
            evidence = fetch_item(f"{self.url}/collections/demo/items/{name}", place)
        except (Malformed, Unavailable) as error:
            return error.exit_code
        return check(evidence, self.policy, now=datetime.now(UTC)).outcome.value

    def hit(self, name: str, row: int) -> int:
        answer = requests.get(f"{self.url}/collections/demo/items/{name}/rows/{row}/proof", timeout=60)
        if answer.status_code != 200:
            return Outcome.UNAVAILABLE.value
        now = datetime.now(UTC)  # the row's own proof carries no log proof
        return check_hit(answer.content, self.policy, target="hit", now=now, require=2).outcome.value


@pytest.fixture(scope="module")
def site(embedded: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("insider")
    with new_database(embedded) as database, ExitStack() as stack:
        world = LogWorld(database, folder / "out")
        key = ensure_keyring(world.home).verifier
        witnesses = [stack.enter_context(served(folder / n, [key], f"{n}.example")) for n in ("w0", "w1")]
        policy = policy_of(world, witnesses)
        assert policy.log is not None
        witnesses_path(world.home).write_text(policy.log.policy)
        for name in ("s0", "s1", "s2", "s3"):
            world.add(name)
        (folder / "fetched").mkdir()
        yield Site(world, stack.enter_context(running(database)), policy, folder / "fetched")


def test_what_nobody_edited_verifies(site: Site) -> None:
    assert [site.item(name) for name in ("s0", "s1", "s2", "s3")] == [0] * 4
    assert site.hit("s0", 2) == 0


ROW: dict[str, str] = {
    "its vector": "UPDATE eocat.chip SET half = (SELECT half FROM eocat.chip WHERE row = 3 LIMIT 1)",
    "its time": "UPDATE eocat.chip SET end_time = end_time + interval '1 second'",
    "its place": "UPDATE eocat.chip SET geometry = ST_Translate(geometry, 0.001, 0)",
    "its digest": "UPDATE eocat.chip SET input_digest = sha256('x')",
}


@pytest.mark.parametrize("what", ROW)
def test_attack_75_a_row_is_edited(site: Site, what: str) -> None:
    of_row = "WHERE row = {} AND shard_id = (SELECT shard_id FROM eocat.shard WHERE item_id = 's0')"
    row = list(ROW).index(what)
    without_triggers(
        site.world.database, f"SET search_path = eocat, public, pgstac; {ROW[what]} {of_row.format(row)}"
    )
    assert site.hit("s0", row) in (Outcome.TAMPERED.value, Outcome.UNAVAILABLE.value)
    assert site.hit("s0", 5) == 0, "the others still prove"


def test_attack_75_an_item_is_edited(site: Site) -> None:
    without_triggers(
        site.world.database,
        "SET search_path = pgstac, public;"
        "UPDATE pgstac.items SET content = jsonb_set(content, '{bbox}', '[10, 45, 12, 47]') WHERE id = 's1'",
    )
    assert site.item("s1") == Outcome.TAMPERED.value


def test_attack_75_an_event_is_edited(site: Site) -> None:
    """The signed envelope of another item's event, and one edited under its signature."""
    other = site.world.held("s3")[1]
    edited = json.loads(site.world.held("s2")[1])
    edited["payload"] = edited["payload"][:-8] + "AAAAfQ=="
    for envelope in (other, json.dumps(edited, separators=(",", ":"), sort_keys=True).encode()):
        without_triggers(
            site.world.database,
            f"UPDATE eocat.event SET envelope = '\\x{envelope.hex()}' WHERE item_id = 's2' AND seq = 1",
        )
        assert site.item("s2") in {outcome.value for outcome in LIES}


LIES = (Outcome.TAMPERED, Outcome.FORGED, Outcome.HISTORY_BROKEN, Outcome.LOG_VIOLATION, Outcome.MALFORMED)


@pytest.fixture
def command(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple[int, str]]:
    """`eocat verify URL` of s3: the exit code, and what the step `tiles` says."""
    monkeypatch.setenv("EOCAT_HOME", str(tmp_path / "home"))
    trust = tmp_path / "policy.json"
    trust.write_text(site.policy.model_dump_json())

    def verify() -> tuple[int, str]:
        [report] = judge([f"{site.url}/collections/demo/items/s3"], trust=trust)
        return report["exitCode"], "".join(one["text"] for one in report["steps"] if one["name"] == "tiles")

    return verify


@contextmanager
def edited(path: Path, change: Callable[[bytes], bytes | None]) -> Iterator[None]:
    """The file with other bytes (None: gone), and as it was at the end."""
    data = path.read_bytes()
    mode = path.stat().st_mode
    path.unlink()
    if (changed := change(data)) is not None:
        path.write_bytes(changed)
    try:
        yield
    finally:
        path.write_bytes(data)
        path.chmod(mode)


def log_files(site: Site) -> list[Path]:
    """The tile of the log's hashes and its bundle, both partial."""
    found = [path for path in (site.world.home / "log" / "tile").rglob("*") if path.is_file()]
    newest = max(int(path.name) for path in found)
    return [path for path in found if int(path.name) == newest]


def test_attack_75_the_files_of_the_log_are_edited(
    site: Site, command: Callable[[], tuple[int, str]]
) -> None:
    """The service's proofs come from the database; the files must tell the same story."""
    code, text = command()
    assert code == 0
    assert "of the log's files" in text
    tile, bundle = sorted(log_files(site))
    assert "entries" in str(bundle)
    for path in (tile, bundle):
        for at in (3, 40, -1):
            with edited(path, lambda data, at=at: flipped(data, at)):  # type: ignore[misc]
                assert command()[0] == Outcome.LOG_VIOLATION.value, (path.name, at)
        with edited(path, lambda data: data[:-1]):
            assert command()[0] == Outcome.LOG_VIOLATION.value
        with edited(path, lambda _: None):
            code, text = command()
            assert code == Outcome.UNAVAILABLE.value
            assert "/log/tile/" in text
    note = site.world.home / "log" / "checkpoint"
    stranger = Signer(ensure_keyring(site.world.home).verifier.name, ED25519, 9)
    for change, outcome in {
        lambda data: data.replace(b"\n", b"\n1", 1): Outcome.FORGED,  # another size
        lambda data: other_key(data, stranger): Outcome.UNTRUSTED,
        lambda data: data[:60]: Outcome.MALFORMED,
        lambda _: None: Outcome.UNAVAILABLE,
    }.items():
        with edited(note, change):
            assert command()[0] == outcome.value, outcome
    older = site.world.home / "log" / "cosigned"
    first = min(older.glob("[0-9]*"), key=lambda path: int(path.name))
    with edited(note, lambda _: first.read_bytes()):
        assert command()[0] == Outcome.LOG_VIOLATION.value
    assert command()[0] == 0


def flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def other_key(note: bytes, signer: Signer) -> bytes:
    """The checkpoint as another key of that name would have signed it."""
    text = parse_note(note).text
    return note_of(parse_checkpoint(text), signer.sign(text))


def test_attack_75_hashes_of_the_log_are_edited(site: Site) -> None:
    """What is proven from a hash that lies leads to no root that witnesses saw."""
    world = site.world
    without_triggers(
        world.database,
        "UPDATE eocat.log_hash SET hash = sha256(hash)",
        "UPDATE eocat.log_entry SET leaf_hash = sha256(leaf_hash) WHERE index < 3",
    )
    assert site.item("s3") == Outcome.LOG_VIOLATION.value
