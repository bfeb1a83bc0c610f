"""bundle.py: one file that verifies offline; nothing in it is trusted, nothing of it is read in two ways."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_events import event_after, signed
from make_log import proof_bytes
from make_shard import NOW, PRODUCER, STRANGER, Made, entry, make_shard, policy
from make_world import ITEM, World, fresh, make_world, trust
from test_verify_cli import run
from trust_maker import ALICE, BOB, CAROL, root_of, signed_policy

from eocat.verify import canonical
from eocat.verify.bundle import (
    HEADER,
    MAX_BUNDLE_BYTES,
    Bundle,
    evidence_of,
    format_bundle,
    is_bundle,
    parse_bundle,
    with_local_names,
)
from eocat.verify.check import check
from eocat.verify.edge.bundling import bundle_of
from eocat.verify.errors import Malformed
from eocat.verify.evidence import read_folder
from eocat.verify.policy import Policy
from eocat.verify.report import Outcome, Report
from eocat.verify.root import format_root
from eocat.verify.trust_store import TrustStore


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An item with its CREATE and REGISTER, logged; the folder holds all of it."""
    world = make_world(tmp_path / "scene")
    world.made.attestation.write_bytes(b"".join(line + b"\n" for line in world.envelopes))
    (world.made.folder / "log-proof.json").write_bytes(proof_bytes(fresh(world)))
    return world


@pytest.fixture
def whole(world: World, tmp_path: Path) -> Bundle:
    return bundle_of(read_folder(world.made.folder), None, TrustStore(tmp_path / "no-trust"))


def judge(bundle: Bundle | bytes, files: Path | None = None, trusted: Policy | None = None) -> Report:
    made = bundle if isinstance(bundle, Bundle) else parse_bundle(bundle)
    return check(evidence_of(made, "x.eocat", files), trusted or trust(), now=NOW)


def test_a_bundle_with_its_files_is_what_its_folder_is(world: World, whole: Bundle) -> None:
    data = format_bundle(whole)
    assert data.startswith(HEADER)
    assert parse_bundle(data) == whole
    report = judge(data, world.made.folder)
    assert (report.outcome, report.level) == (Outcome.VERIFIED, 3), report.to_text()


def test_without_its_files_it_is_authentic_and_reaches_no_level(whole: Bundle) -> None:
    """Bytes and rows were not looked at, so nothing is said of them; all else is."""
    report = judge(whole)
    assert (report.outcome, report.level) == (Outcome.INCOMPLETE, 0), report.to_text()
    marks = {step.name: step.mark for step in report.steps}
    assert marks == {
        "bytes": "--", "rows": "--", "item": "ok", "signature": "ok", "history": "ok", "log": "ok",
        "lineage": "--", "recompute": "--",
    }  # fmt: skip
    assert "a bundle holds no data (--files DIR)" in report.to_text()


def test_files_may_lie_under_the_names_that_the_bundle_gives(world: World, whole: Bundle) -> None:
    """As where they were downloaded one by one: no item.json beside them."""
    (world.made.folder / "item.json").unlink()
    assert judge(whole, world.made.folder).level == 3
    world.made.file("thumbnail").write_bytes(b"another")
    assert judge(whole, world.made.folder).outcome is Outcome.TAMPERED
    world.made.file("thumbnail").unlink()
    assert judge(whole, world.made.folder).outcome is Outcome.UNAVAILABLE


def test_addresses_become_names_of_files(world: World) -> None:
    item = world.made.item
    for key, asset in item["assets"].items():
        asset["href"] = f"https://example.org/collections/s2/items/scene/assets/{key}"
    assets = json.loads(with_local_names(json.dumps(item).encode()))["assets"]
    assert {key: asset["href"] for key, asset in assets.items()} == {
        "attestation": "./attestation.jsonl", "embeddings": "./embeddings.parquet",
        "row-hashes": "./row-hashes.bin", "thumbnail": "./thumbnail.png",
    }  # fmt: skip


@pytest.mark.parametrize("twin", ["thumbnail.png", "THUMBNAIL.PNG", "item.json", "Item.JSON"])
def test_attack_61_two_assets_that_would_be_one_file(world: World, twin: str) -> None:
    item = world.made.item
    item["assets"]["embeddings"]["href"] = f"./{twin}"
    with pytest.raises(Malformed, match="one file"):
        with_local_names(json.dumps(item).encode())


@pytest.mark.parametrize(
    "href",
    ["../x", "/etc/passwd", "file:///etc/passwd", "C:\\x", "\\\\host\\x", "a/b", "%2e%2e%2fx", "x" * 300, ""],
)
def test_attack_61_an_href_of_a_bundle_leads_nowhere_else(world: World, whole: Bundle, href: str) -> None:
    item = json.loads(whole.item)
    item["assets"]["thumbnail"]["href"] = href
    bad = replace(whole, item=canonical.encode(item))
    (world.made.folder / "item.json").unlink()
    with pytest.raises(Malformed, match="not a file name"):
        judge(bad, world.made.folder)


def test_attack_61_a_link_among_the_files_is_refused(world: World, whole: Bundle, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    world.made.file("thumbnail").rename(secret)
    world.made.file("thumbnail").symlink_to(secret)
    with pytest.raises(Malformed, match="symbolic link"):
        judge(whole, world.made.folder)


# --- Row 66: events dropped, doubled, injected; another item; unknown lines


def edited(whole: Bundle, *envelopes: bytes) -> Bundle:
    return replace(whole, envelopes=envelopes)


def test_attack_66_events_dropped_or_doubled_or_injected(world: World, whole: Bundle, tmp_path: Path) -> None:
    create, register = whole.envelopes
    other = make_shard(tmp_path / "other", item_id="other")
    foreign = other.attestation.read_bytes().splitlines()[0]
    files = world.made.folder
    for envelopes, expected in {
        (create,): Outcome.HISTORY_BROKEN,  # the head map knows event 1
        (register,): Outcome.HISTORY_BROKEN,
        (create, create): Outcome.HISTORY_BROKEN,
        (create, register, register): Outcome.HISTORY_BROKEN,
        (register, create): Outcome.HISTORY_BROKEN,
        (create, register, foreign): Outcome.HISTORY_BROKEN,
        (create, foreign): Outcome.HISTORY_BROKEN,
        (): Outcome.UNSIGNED,
    }.items():
        report = judge(edited(whole, *envelopes), files)
        failed = {step.outcome for step in report.steps}
        assert expected in failed or report.outcome is Outcome.LOG_VIOLATION, report.to_text()
        assert report.outcome.value in (10, 24, 25)


def test_attack_66_a_withdrawal_that_was_left_out(world: World, tmp_path: Path) -> None:
    world.envelopes.append(signed(event_after(world.envelopes, "WITHDRAW", reason="a wrong scene"), PRODUCER))
    world.log.add(world.envelopes[-1])
    world.log.publish("2026-07-01T11:00:00+00:00")
    (world.made.folder / "log-proof.json").write_bytes(proof_bytes(fresh(world)))
    whole = bundle_of(
        replace(read_folder(world.made.folder), envelopes=tuple(world.envelopes)), None, TrustStore(tmp_path)
    )
    assert judge(whole, world.made.folder).outcome is Outcome.WITHDRAWN
    cut = json.loads(whole.log_proof or b"")
    cut["events"].pop()
    cut["checkpoints"].pop(-2)
    held_back = replace(whole, envelopes=whole.envelopes[:2], log_proof=canonical.encode(cut))
    assert judge(held_back, world.made.folder).outcome is Outcome.HISTORY_BROKEN


def test_attack_66_a_bundle_of_another_item(world: World, whole: Bundle, tmp_path: Path) -> None:
    other = make_shard(tmp_path / "other", item_id="other")
    assert judge(whole, other.folder).outcome is Outcome.TAMPERED
    swapped = replace(whole, item=with_local_names((other.folder / "item.json").read_bytes()))
    assert judge(swapped, world.made.folder).outcome is Outcome.TAMPERED
    assert "projection of s2/scene as signed" in judge(whole).to_text(), "the report names what it is about"


@pytest.mark.parametrize("line", [b'{"x":1}\n', b'{"note":"trust me"}\n', b'{"outcome": VERIFIED\n'])
def test_attack_66_unknown_lines_are_not_read_and_the_report_says_so(
    world: World, whole: Bundle, line: bytes
) -> None:
    data = format_bundle(whole)
    for at in (len(HEADER), data.index(b'{"envelope"'), len(data)):
        report = judge(data[:at] + line + data[at:], world.made.folder)
        assert (report.outcome, report.level) == (Outcome.VERIFIED, 3)
        assert "not read: 1 lines of unknown kind" in report.to_text()


def test_attack_41_roots_and_policy_in_a_bundle_are_no_trust(world: World, tmp_path: Path) -> None:
    """The bundle's maker trusts a stranger, and says so in it; the reader's policy decides."""
    store = TrustStore(tmp_path / "trust")
    store.pin(format_root(root_of(1, [ALICE, BOB, CAROL], 2, ALICE, BOB)))
    mine = [entry(STRANGER, collections=["*"])]
    store.update([signed_policy(ALICE, BOB, keys=mine)], NOW)
    world.made.sign(STRANGER)
    bundle = bundle_of(replace(read_folder(world.made.folder), log_proof=None), None, store)
    assert (len(bundle.roots), bundle.policy is not None) == (1, True)
    again = parse_bundle(format_bundle(bundle))
    assert again.roots[0] == format_root(store.root()), "byte for byte: others can verify and pin it"
    report = judge(again, world.made.folder)
    assert report.outcome is Outcome.UNTRUSTED
    assert "carried, not trusted: 1 trust roots, 1 signed policy" in report.to_text()
    assert judge(again, world.made.folder, policy(*mine)).outcome is Outcome.VERIFIED


def test_what_a_bundle_carries_can_renew_a_pinned_trust(world: World, tmp_path: Path) -> None:
    """For those who have no other way to it: verified under the root that they pinned, like any file."""
    first = root_of(1, [ALICE, BOB, CAROL], 2, ALICE, BOB)
    theirs, mine = TrustStore(tmp_path / "theirs"), TrustStore(tmp_path / "mine" / "trust")
    for store in (theirs, mine):
        store.pin(format_root(first))
    theirs.update([signed_policy(ALICE, BOB, version=3, expires="2100-01-01T00:00:00Z")], NOW)
    path = tmp_path / "x.eocat"
    path.write_bytes(format_bundle(bundle_of(read_folder(world.made.folder), None, theirs)))
    ran = run("trust", "update", path, cwd=tmp_path, EOCAT_HOME=str(tmp_path / "mine"))
    assert ran.returncode == 0, ran.stderr
    assert mine.load(NOW).version == 3
    stranger = TrustStore(tmp_path / "stranger" / "trust")
    stranger.pin(format_root(root_of(1, [STRANGER], 1, STRANGER)))
    ran = run("trust", "update", path, cwd=tmp_path, EOCAT_HOME=str(tmp_path / "stranger"))
    assert ran.returncode == 22, ran.stderr


# --- One spelling, and limits


def lines(whole: Bundle) -> list[bytes]:
    return format_bundle(whole).splitlines(keepends=True)


def swap(at: int, to: int) -> Callable[[list[bytes]], object]:
    return lambda rows: rows.insert(to, rows.pop(at))


BAD: dict[str, Callable[[list[bytes]], object]] = {
    "no header": lambda rows: rows.pop(0),
    "another version": lambda rows: rows.__setitem__(0, b'{"bundle":"eocat-bundle/v2"}\n'),
    "no item": lambda rows: rows.pop(1),
    "two items": lambda rows: rows.insert(1, rows[1]),
    "two log proofs": lambda rows: rows.append(rows[-1]),
    "envelope before item": swap(2, 1),
    "log proof before envelopes": swap(-1, 2),
    "no newline at the end": lambda rows: rows.__setitem__(-1, rows[-1][:-1]),
    "an empty line": lambda rows: rows.insert(2, b"\n"),
    "a byte order mark": lambda rows: rows.__setitem__(0, b"\xef\xbb\xbf" + rows[0]),
    "CRLF": lambda rows: rows.__setitem__(1, rows[1][:-1] + b"\r\n"),
    "whitespace": lambda rows: rows.__setitem__(1, rows[1].replace(b'":', b'": ', 1)),
    "two members": lambda rows: rows.__setitem__(1, rows[1][:-2] + b',"x":1}\n'),
    "a key twice": lambda rows: rows.__setitem__(1, rows[1][:-2] + b',"item":{}}\n'),
    "an item of text": lambda rows: rows.__setitem__(1, b'{"item":"x"}\n'),
    "an envelope of text": lambda rows: rows.__setitem__(2, b'{"envelope":"x"}\n'),
    "a list": lambda rows: rows.append(b"[]\n"),
    "no JSON": lambda rows: rows.append(b"hello\n"),
    "a kind with a dot": lambda rows: rows.append(b'{"a.b":1}\n'),
    "traces without content": lambda rows: rows.append(b'{"traces":{"source":"x"}}\n'),
    "traces that are no base64": lambda rows: rows.append(b'{"traces":{"content":"=","source":"x"}}\n'),
    "traces of one source twice": lambda rows: rows.extend([b'{"traces":{"content":"","source":"x"}}\n'] * 2),
    "traces out of order": lambda rows: rows.extend(
        [b'{"traces":{"content":"","source":"y"}}\n', b'{"traces":{"content":"","source":"x"}}\n']
    ),
    "traces with a member more": lambda rows: rows.append(b'{"traces":{"content":"","source":"x","x":1}}\n'),
    "traces of lists": lambda rows: rows.append(
        b'{"traces":{"content":[' + b"[]," * 4000 + b'[]],"source":"x"}}\n'
    ),
    "an item too long": lambda rows: rows.__setitem__(1, b'{"item":{"x":"' + b"x" * (1 << 20) + b'"}}\n'),
    "too many lines": lambda rows: rows.extend([b'{"x":\n'] * 20_000),
}


@pytest.mark.parametrize("defect", BAD)
def test_attack_24_and_66_a_bundle_has_one_spelling(whole: Bundle, defect: str) -> None:
    rows = lines(whole)
    BAD[defect](rows)
    with pytest.raises(Malformed):
        parse_bundle(b"".join(rows))


def test_attack_64_a_bundle_too_long_is_refused_before_it_is_read(whole: Bundle) -> None:
    line = b'{"x":"' + b"x" * MAX_BUNDLE_BYTES + b'"}\n'
    with pytest.raises(Malformed, match="at most"):
        parse_bundle(format_bundle(whole) + line)


def test_attack_24_hostile_lines_take_little_memory(whole: Bundle, tmp_path: Path) -> None:
    """Lists of lists take twenty times their text once they are parsed: a line at a time, and few in all."""
    text = b'{"envelope":{"x":[' + b"[]," * 600_000 + b"[]]}}\n"
    (tmp_path / "x.eocat").write_bytes(b"".join(lines(whole)[:2]) + text * 30)
    code = """
from pathlib import Path
from eocat.verify.bundle import parse_bundle
from eocat.verify.errors import Malformed
try:
    parse_bundle(Path("x.eocat").read_bytes())
except Malformed as error:
    assert "more than" in str(error), error
    # VmHWM, in KiB: ru_maxrss would begin at the parent's peak
    status = Path("/proc/self/status").read_text()
    print(int(status.partition("VmHWM:")[2].split()[0]) >> 10)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert int(ran.stdout) < 512, ran.stderr


def test_source_evidence_goes_along(world: World, tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "scene.traces.json").write_bytes(b"[ ]")
    bundle = bundle_of(read_folder(world.made.folder), sources, TrustStore(tmp_path / "no-trust"))
    assert bundle.traces == {"scene": b"[ ]"}
    report = judge(parse_bundle(format_bundle(bundle)), world.made.folder)
    (lineage,) = [step for step in report.steps if step.name == "lineage"]
    assert lineage.outcome is not None, "traces that came with it are judged, and an empty list is none"


def test_an_item_file_is_no_bundle(made: Made, tmp_path: Path, whole: Bundle) -> None:
    path = tmp_path / "x.eocat"
    path.write_bytes(format_bundle(whole))
    assert is_bundle(path)
    assert not is_bundle(made.folder / "item.json")


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_shard(tmp_path / "made")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    world = make_world(tmp_path_factory.mktemp("bundle") / "scene")
    evidence = replace(
        read_folder(world.made.folder),
        envelopes=tuple(world.envelopes),
        log_proof=proof_bytes(world.log.proof(ITEM)),
    )
    return format_bundle(bundle_of(evidence, None, TrustStore(Path("none"))))


@given(st.data())
def test_any_damage_is_an_outcome_and_never_more_than_authentic(good: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(len(HEADER), len(good) - 1))
    cut = data.draw(st.integers(0, 40))
    splice = data.draw(st.binary(max_size=8))
    changed = good[:at] + splice + good[at + cut :]
    try:
        bundle = parse_bundle(changed)
    except Malformed:
        return
    if not bundle.unknown:
        assert format_bundle(bundle) == changed, "what is read is written alike"
    report = judge(bundle)
    assert report.outcome is not Outcome.VERIFIED
    if report.outcome is Outcome.INCOMPLETE:
        before = parse_bundle(good)
        assert bundle.envelopes == before.envelopes


def test_the_maker_and_the_readers_share_no_more_than_the_format(whole: Bundle) -> None:
    """A second reader, written from docs/format.md in a few lines."""
    first, *rest = format_bundle(whole).decode().split("\n")[:-1]
    assert json.loads(first) == {"bundle": "eocat-bundle/v1"}
    kinds = [next(iter(json.loads(line))) for line in rest]
    assert kinds == ["item", "envelope", "envelope", "logProof"]
    payload = json.loads(base64.b64decode(json.loads(rest[1])["envelope"]["payload"]))
    assert payload["predicate"]["item"] == ITEM
    assert payload["predicate"]["actor"] == "producer"
