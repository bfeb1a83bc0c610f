"""Attacks 48 to 52 and 75 on the log's own files, by the command with `--log`.

The log: 300 entries of others, the item's CREATE and REGISTER, 300 of others, a head map: two full tiles and
a partial one at level 0, one partial at level 1.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fuzz import judge
from make_log import MadeLog, proof_bytes
from make_log_files import write_log
from make_notes import LOG, W1, W2, W3, Signer, cosigned
from make_shard import make_rows, make_shard
from signed_world import REGISTRAR, policy_bytes, sign_next

from eocat.verify.log.checkpoint import parse_checkpoint
from eocat.verify.log.entry import Entry, format_entry
from eocat.verify.log.note import ED25519, parse_note

NOW = datetime.now(UTC).replace(microsecond=0).isoformat()
FULL, PARTIAL, UPPER = "tile/0/001", "tile/0/002.p/91", "tile/1/000.p/2"
BUNDLES = ["tile/entries/001", "tile/entries/002.p/91"]


@dataclass(frozen=True)
class Site:
    """An item with its log proof, and the log's files, at two sizes of one log."""

    item: Path
    files: Path
    later_item: Path
    later_files: Path
    trust: Path
    log: MadeLog

    def code(self, *, later: bool = False) -> int:
        item, files = (self.later_item, self.later_files) if later else (self.item, self.files)
        [report] = judge([str(item)], trust=self.trust, log=str(files))
        code: int = report["exitCode"]
        return code


def others(start: int, count: int) -> list[bytes]:
    names = [f"other{number}" for number in range(start, start + count)]
    digests = [hashlib.sha256(name.encode()).hexdigest() for name in names]
    return [
        format_entry(Entry("others", name, 0, "CREATE", digest, digest))
        for name, digest in zip(names, digests, strict=True)
    ]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("EOCAT_HOME", str(tmp_path / "home"))
    log = MadeLog(LOG)
    log.entries += others(0, 300)
    places = []
    for name in ("now", "later"):
        made = make_shard(tmp_path / name / "s2" / "alpha", make_rows(5), item_id="alpha")
        sign_next(made, "REGISTER", REGISTRAR, log=LOG.name)
        if name == "now":
            log.add(*made.attestation.read_bytes().splitlines())
        log.entries += others(len(log.entries), 300)
        log.publish(NOW)
        (made.folder / "log-proof.json").write_bytes(proof_bytes(log.proof("s2/alpha")))
        places += [made.folder, write_log(tmp_path / name / "log", log.entries, log.published[-1].note)]
    trust = tmp_path / "policy.json"
    trust.write_bytes(policy_bytes(logged=True))
    return Site(places[0], places[1], places[2], places[3], trust, log)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_the_files_agree_and_are_remembered(site: Site) -> None:
    assert site.code() == 0
    [memory] = (site.trust.parent / "home" / "log-seen").iterdir()
    assert memory.read_bytes() == (site.files / "checkpoint").read_bytes()
    assert site.code(later=True) == 0
    assert memory.read_bytes() == (site.later_files / "checkpoint").read_bytes()


@pytest.mark.parametrize("name", [FULL, PARTIAL, UPPER, *BUNDLES])
@pytest.mark.parametrize("at", [0, 40, -1])
def test_attacks_52_and_75_a_bit_of_a_tile(site: Site, name: str, at: int) -> None:
    flip(site.files / name, at)
    assert site.code() == 25


@pytest.mark.parametrize("name", [FULL, PARTIAL, UPPER, *BUNDLES])
def test_attack_52_a_tile_that_is_cut_or_too_wide(site: Site, name: str) -> None:
    path = site.files / name
    whole = path.read_bytes()
    for edited in (whole[:-32], whole + whole[:32], b""):
        path.write_bytes(edited)
        assert site.code() == 25, len(edited)


def test_attack_52_a_tile_of_another_tree(site: Site) -> None:
    """All of another log's tiles and entries, under the checkpoint that was signed."""
    entries = [*others(1_000, 602), site.log.entries[602]]
    note = (site.files / "checkpoint").read_bytes()
    write_log(site.files, entries, note)
    assert site.code() == 25


@pytest.mark.parametrize("name", ["checkpoint", FULL, PARTIAL, UPPER, *BUNDLES])
def test_attack_75_a_file_that_is_gone_is_named(site: Site, name: str) -> None:
    (site.files / name).unlink()
    [report] = judge([str(site.item)], trust=site.trust, log=str(site.files))
    [step] = [step for step in report["steps"] if step["name"] == "tiles"]
    assert (report["exitCode"], step["outcome"]) == (60, "UNAVAILABLE")
    assert name.partition(".p/")[0] in step["text"]


def test_attack_52_a_partial_tile_may_have_grown(site: Site) -> None:
    """The specification lets a log drop partial tiles when the full one is there: its beginning counts."""
    for name in (PARTIAL, BUNDLES[1]):
        full = name.partition(".p/")[0]
        (site.files / name).unlink()
        (site.files / full).write_bytes((site.later_files / full).read_bytes())
    assert site.code() == 0
    flip(site.files / "tile/0/002", 64)
    assert site.code() == 25


def test_attacks_48_and_49_a_checkpoint_edited_of_another_key_or_cut(site: Site) -> None:
    path = site.files / "checkpoint"
    note = path.read_bytes()
    checkpoint = parse_checkpoint(parse_note(note).text)
    lines = note.split(b"\n")
    path.write_bytes(b"\n".join([lines[0], b"602", *lines[2:]]))
    assert site.code() == 21
    stranger = Signer(LOG.name, ED25519, 77)
    now = int(datetime.fromisoformat(NOW).timestamp())
    path.write_bytes(cosigned(checkpoint, (W1, W2, W3), now, stranger))
    assert site.code() == 22
    path.write_bytes(note[:40])
    assert site.code() == 50


def test_attack_50_files_older_than_the_proof(site: Site) -> None:
    [report] = judge([str(site.later_item)], trust=site.trust, log=str(site.files))
    [step] = [step for step in report["steps"] if step["name"] == "tiles"]
    assert (report["exitCode"], step["outcome"]) == (25, "LOG_VIOLATION")
    assert "turned back" in step["text"]


def test_attack_50_a_catalogue_turned_back_as_a_whole(site: Site) -> None:
    """Item, proof and files of before agree with each other: only who has seen more can tell."""
    assert site.code() == 0
    assert site.code(later=True) == 0
    assert site.code() == 25


def test_attack_50_and_51_another_history_of_the_log(site: Site) -> None:
    """Cosigned by a quorum, of the remembered size and larger; it does not begin with what was seen."""
    fork = [*others(5_000, 300), *site.log.entries[300:602]]
    assert site.code() == 0
    for more in (0, 40):
        log = MadeLog(LOG)
        log.entries += [*fork, *others(9_000, more)]
        log.held = {path: list(held) for path, held in site.log.held.items()}
        log.publish(NOW)
        assert len(log.entries) == 603 + more
        (site.item / "log-proof.json").write_bytes(proof_bytes(log.proof("s2/alpha")))
        write_log(site.files, log.entries, log.published[-1].note)
        assert site.code() == 25


def test_a_memory_that_cannot_be_written_is_an_error_with_a_way_out(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = site.trust.parent / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv("EOCAT_HOME", str(blocked / "home"))
    [report] = judge([str(site.item)], trust=site.trust, log=str(site.files))
    assert report["outcome"] == "ConfigError (exit 5)"
