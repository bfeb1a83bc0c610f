"""`eocat log audit`: a log that lies about anything is found out, with evidence where it can be shown."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from catalogue import new_database, running
from log_world import LogWorld

from eocat.catalog.database import Database
from eocat.catalog.keyring import read_keyring, read_verifier
from eocat.catalog.log_audit import FolderSource, UrlSource, audit
from eocat.verify.errors import LogViolation, Malformed, Unavailable, Untrusted
from eocat.verify.log.checkpoint import Checkpoint, format_checkpoint
from eocat.verify.log.entry import parse_entry
from eocat.verify.log.heads import Heads, format_heads
from eocat.verify.log.note import format_vkey
from eocat.verify.log.tiles import format_bundle, parse_bundle, tiles_between
from eocat.verify.merkle import build_tiles, leaf_hash, tree_of


@pytest.fixture(scope="module")
def begun(embedded: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LogWorld]:
    """A log of two items, of which one is withdrawn: entries 0 1 H, 3 4 H, 6 H."""
    with new_database(embedded) as database:
        world = LogWorld(database, tmp_path_factory.mktemp("out"))
        world.add("s1")
        world.add("s2")
        world.register(world.sign("s1", "WITHDRAW", reason="clouds"))
        yield world


@pytest.fixture
def log(begun: LogWorld, tmp_path: Path) -> Path:
    """A copy of the log's files, for an attacker to edit."""
    return Path(shutil.copytree(begun.home / "log", tmp_path / "log"))


def follow(world: LogWorld, folder: Path, home: Path) -> int:
    return audit(FolderSource(folder), read_verifier(world.home), home).checkpoint.size


def entries_of(log: Path, size: int) -> list[bytes]:
    return list(parse_bundle((log / f"tile/entries/000.p/{size}").read_bytes(), size))


def rewrite(world: LogWorld, log: Path, entries: list[bytes]) -> None:
    """A whole log over these entries, signed with the real log key: what a dishonest operator can make."""
    shutil.rmtree(log / "tile")
    size = len(entries)
    tiles = build_tiles(b"".join(map(leaf_hash, entries)))
    for tile in tiles_between(0, size):
        path = log / tile.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(format_bundle(entries) if tile.level is None else tiles)
    keyring = read_keyring(world.home)
    text = format_checkpoint(Checkpoint(keyring.origin, size, tree_of(tiles, size).root()))
    (log / "checkpoint").write_bytes(keyring.sign_note(text))


def test_an_honest_log_passes_and_is_remembered(begun: LogWorld, log: Path, tmp_path: Path) -> None:
    key = read_verifier(begun.home)
    first = audit(FolderSource(log), key, tmp_path)
    assert (first.checkpoint.size, first.before, first.events, first.items) == (8, 0, 5, 2)
    assert audit(FolderSource(log), key, tmp_path).before == 8
    with running(begun.database) as url:
        assert audit(UrlSource(f"{url}/log"), key, tmp_path).checkpoint == first.checkpoint


def test_attack_50_a_rollback_is_found_with_evidence(begun: LogWorld, log: Path, tmp_path: Path) -> None:
    newest = (log / "checkpoint").read_bytes()
    follow(begun, log, tmp_path)
    rewrite(begun, log, entries_of(log, 8)[:6])
    with pytest.raises(LogViolation, match="shows size 6, .* 8: a rollback"):
        follow(begun, log, tmp_path)
    [evidence] = (tmp_path / "log-evidence").iterdir()
    assert newest in evidence.read_bytes()
    assert (log / "checkpoint").read_bytes() in evidence.read_bytes()


@pytest.mark.parametrize("more", [0, 1], ids=["attack 51: the same size", "attack 50: a larger size"])
def test_attacks_50_and_51_a_fork_is_found_with_evidence(
    begun: LogWorld, log: Path, tmp_path: Path, more: int
) -> None:
    """The operator shows somebody a log in which the item was never withdrawn."""
    follow(begun, log, tmp_path)
    honest = entries_of(log, 8)
    rewrite(begun, log, [*honest[:6], *honest[3:5], *[honest[5]] * more])
    with pytest.raises(LogViolation, match="a fork"):
        follow(begun, log, tmp_path)
    assert len(list((tmp_path / "log-evidence").iterdir())) == 1
    shutil.rmtree(log)
    shutil.copytree(begun.home / "log", log)
    assert follow(begun, log, tmp_path) == 8  # the memory is of the honest log still


def edit(path: str, change: Callable[[bytes], bytes]) -> Callable[[LogWorld, Path], None]:
    def edited(_: LogWorld, log: Path) -> None:
        (log / path).write_bytes(change((log / path).read_bytes()))

    return edited


def without(*indexes: int) -> Callable[[LogWorld, Path], None]:
    def removed(world: LogWorld, log: Path) -> None:
        rewrite(world, log, [entry for at, entry in enumerate(entries_of(log, 8)) if at not in indexes])

    return removed


def exchanged(index: int, make: Callable[[list[bytes]], bytes]) -> Callable[[LogWorld, Path], None]:
    def changed(world: LogWorld, log: Path) -> None:
        entries = entries_of(log, 8)
        entries[index] = make(entries)
        rewrite(world, log, entries)

    return changed


def appended(world: LogWorld, log: Path) -> None:
    rewrite(world, log, [*entries_of(log, 8), entries_of(log, 8)[3]])


def other_envelope(world: LogWorld, log: Path) -> None:
    names = [parse_entry(entry).envelope for entry in entries_of(log, 8)[:2]]
    shutil.copy(log / "envelope" / names[0], log / "envelope" / names[1])


LIES: dict[str, tuple[Callable[[LogWorld, Path], None], str]] = {
    "52: a tile of hashes": (
        edit("tile/0/000.p/8", lambda data: bytes(32) + data[32:]), "does not hold the hashes",
    ),
    "52: an entry": (
        edit("tile/entries/000.p/8", lambda data: data.replace(b"CREATE", b"CREATF")), "do not give",
    ),
    "44: an event of the history is missing": (without(1, 2, 5), "event 2 stands where"),
    "42: two events in the wrong order": (
        exchanged(0, lambda entries: entries[1]), "the first event is REGISTER",
    ),
    "43: an event twice": (exchanged(4, lambda entries: entries[3]), "a second CREATE"),
    "44: an event after the last there can be": (appended, "a second CREATE|cannot follow"),
    "55: a head map of before": (exchanged(7, lambda entries: entries[5]), "is not the head map"),
    "55: a head map with another root": (
        exchanged(7, lambda _: format_heads(Heads(1, "ab" * 32))), "is not the head map",
    ),
    "55: no head map at the end": (without(7), "is no head map"),
    "55: something else in the log": (exchanged(7, lambda _: b"noise"), "not an eocat-entry"),
    "another envelope": (other_envelope, "is not the one it names"),
}  # fmt: skip


@pytest.mark.parametrize(("lie", "sentence"), LIES.values(), ids=LIES.keys())
def test_attacks_42_to_44_52_55_a_lie_is_found(
    begun: LogWorld, log: Path, tmp_path: Path, lie: Callable[[LogWorld, Path], None], sentence: str
) -> None:
    lie(begun, log)
    with pytest.raises(LogViolation, match=sentence) as found:
        follow(begun, log, tmp_path)
    assert found.value.exit_code == 25
    assert not (tmp_path / "log-memory").exists()


def test_attack_49_another_logs_checkpoint_is_not_trusted(begun: LogWorld, log: Path, tmp_path: Path) -> None:
    key = read_verifier(begun.home)
    other = replace(key, public=read_keyring(begun.home).registrar)
    with pytest.raises(Untrusted, match="not signed by the key"):
        audit(FolderSource(log), other, tmp_path)
    with pytest.raises(Untrusted):
        audit(FolderSource(log), replace(key, name="another.example/log"), tmp_path)
    follow(begun, log, tmp_path)
    (log / "checkpoint").write_bytes(b"nothing\n")
    with pytest.raises((Untrusted, Malformed)):
        audit(FolderSource(log), key, tmp_path)


def test_what_is_not_there_is_not_said_to_be_wrong(begun: LogWorld, log: Path, tmp_path: Path) -> None:
    (log / "tile/0/000.p/8").unlink()
    with pytest.raises(Unavailable):
        follow(begun, log, tmp_path)


def test_the_command_says_it_in_one_line_and_exits_with_25(
    begun: LogWorld, log: Path, tmp_path: Path
) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "eocat.edge", "log", *arguments],
            capture_output=True, text=True, check=False, timeout=60,
            env={"EOCAT_HOME": str(tmp_path / "auditor"), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip

    shown = run("show", "--home", str(begun.home))
    vkey = shown.stdout.splitlines()[0].removeprefix("log ")
    assert vkey == format_vkey(read_verifier(begun.home))
    assert shown.stdout.splitlines()[1].startswith("registrar ed25519:")
    done = run("audit", str(log), "--key", vkey, "--json")
    assert (done.returncode, json.loads(done.stdout)["size"]) == (0, 8), done.stderr
    rewrite(begun, log, entries_of(log, 8)[:3])
    bad = run("audit", str(log), "--key", vkey)
    assert (bad.returncode, bad.stdout) == (25, "")
    assert bad.stderr.startswith("eocat: error: ")
    assert "rollback" in bad.stderr
    assert "log-evidence" in bad.stderr
    assert run("audit", str(log)).returncode == 2  # no key is taken from the log itself
    assert run("audit", str(tmp_path / "nowhere"), "--key", vkey).returncode == 2
