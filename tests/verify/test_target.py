"""target.py and bringing.py: documents are judged before a file is downloaded, folders brought up to date."""

import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from make_events import event_after, signed
from make_log import proof_bytes
from make_shard import NOW, PRODUCER, STRANGER, Made, entry, make_shard, policy
from make_world import TODAY, World, fresh, make_world, trust
from test_fetch import Answer, Server, send

from eocat.verify.edge.bringing import bring
from eocat.verify.edge.target import Question, judge
from eocat.verify.errors import Unavailable, UsageError
from eocat.verify.policy import Policy
from eocat.verify.report import Outcome, Report

FILES = ("/embeddings.parquet", "/row-hashes.bin", "/thumbnail.png")
API = "http://127.0.0.1:1"


def served(folder: Path) -> Iterator[Server]:
    running = Server(folder)
    yield running
    running.http.shutdown()
    running.http.server_close()


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_shard(tmp_path / "scene")


@pytest.fixture
def server(made: Made) -> Iterator[Server]:
    yield from served(made.folder)


def question(trusted: Policy | None = None, **options: Any) -> Question:
    return Question(trusted or policy(), NOW, **options)


def ask(server: Server, trusted: Policy | None = None) -> Report:
    return judge(f"{server.url}/item.json", question(trusted), API)


def downloaded(server: Server) -> list[str]:
    return [path for path in server.asked if path in FILES]


def test_an_authentic_item_is_downloaded_and_judged_whole(server: Server) -> None:
    report = ask(server)
    assert (report.outcome, report.level) == (Outcome.VERIFIED, 2)
    assert sorted(downloaded(server)) == sorted(FILES)


def sign_as_stranger(made: Made) -> None:
    made.sign(STRANGER)


def break_signature(made: Made) -> None:
    text = made.attestation.read_text()
    made.attestation.write_text(text.replace('"sig":"', '"sig":"AAAA'))


def move_item(made: Made) -> None:
    made.write_item(made.item | {"bbox": [0, 0, 1, 1]})


def double_history(made: Made) -> None:
    made.attestation.write_bytes(made.attestation.read_bytes() * 2)


def drop_attestation(made: Made) -> None:
    item = made.item
    del item["assets"]["attestation"]
    made.write_item(item)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (sign_as_stranger, Outcome.UNTRUSTED),
        (break_signature, Outcome.FORGED),
        (move_item, Outcome.TAMPERED),
        (double_history, Outcome.HISTORY_BROKEN),
        (drop_attestation, Outcome.UNSIGNED),
    ],
    ids=["untrusted", "forged", "tampered", "broken history", "unsigned"],
)
def test_what_is_not_authentic_costs_no_download(
    made: Made, server: Server, spoil: Any, expected: Outcome
) -> None:
    spoil(made)
    report = ask(server)
    assert (report.outcome, report.level) == (expected, 0), report.to_text()
    assert downloaded(server) == []


def test_a_key_that_had_ended_costs_no_download(server: Server) -> None:
    report = ask(server, policy(entry(PRODUCER, notAfter="2026-01-01T00:00:00Z")))
    assert report.outcome is Outcome.KEY_INVALID_AT_TIME
    assert downloaded(server) == []


def test_files_belong_to_bundles(made: Made) -> None:
    with pytest.raises(UsageError, match="no bundle"):
        judge(str(made.folder), question(files=made.folder), API)


def test_nothing_of_that_name_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="no file or folder"):
        judge("./nothing", question(), API)


# --- an Item that is not there

ADDRESS = "/collections/s2/items/gone"


def absent(server: Server, proof: Any) -> Report:
    server.answers[f"{ADDRESS}/log-proof"] = send(200, proof_bytes(proof)) if proof else send(404, b"")
    return judge(server.url + ADDRESS, question(trust()), API)


def test_a_catalogue_without_the_item_and_a_log_that_agrees(world: World, server: Server) -> None:
    newest = world.log.cosign(world.log.published[-1].size, TODAY)
    report = absent(server, world.log.absence("s2/gone", newest=newest))
    assert report.outcome is Outcome.UNAVAILABLE
    assert [step.mark for step in report.steps] == ["FAILED", "ok"], report.to_text()


def test_attack_45_and_55_a_catalogue_without_the_item_and_a_log_that_knows_it(
    world: World, server: Server
) -> None:
    assert absent(server, fresh(world)).outcome is Outcome.HISTORY_BROKEN
    newest = world.log.cosign(world.log.published[-1].size, TODAY)
    lie = world.log.absence("s2/gone", newest=newest)
    lie["heads"]["absent"]["before"] = None
    lie["heads"]["absent"]["after"] = None
    assert absent(server, lie).outcome is Outcome.LOG_VIOLATION


def test_a_catalogue_that_says_nothing_of_its_log(world: World, server: Server) -> None:
    report = absent(server, None)
    assert report.outcome is Outcome.UNAVAILABLE
    assert [step.mark for step in report.steps] == ["FAILED", "--"]


# --- eocat fetch


def ranges(data: bytes) -> Answer:
    """A file as a server gives it that knows ranges."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        if asked is None:
            return send(200, data)(handler)
        start = int(asked[1])
        return send(206, data[start:], Content_Range=f"bytes {start}-{len(data) - 1}/{len(data)}")(handler)

    return answer


def fetch(server: Server, folder: Path, trusted: Policy | None = None) -> Report:
    return bring(f"{server.url}/item.json", folder, question(trusted))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


WHOLE = ["attestation.jsonl", "embeddings.parquet", "item.json", "row-hashes.bin", "thumbnail.png"]


def test_a_new_folder_holds_the_item_whole(server: Server, tmp_path: Path) -> None:
    report = fetch(server, tmp_path / "here")
    assert (report.outcome, report.level) == (Outcome.VERIFIED, 2)
    assert names(tmp_path / "here") == WHOLE
    server.asked.clear()
    assert fetch(server, tmp_path / "here").outcome is Outcome.VERIFIED
    assert downloaded(server) == [], "what is there is not brought again"


def test_what_nobody_trusted_signed_writes_nothing(made: Made, server: Server, tmp_path: Path) -> None:
    made.sign(STRANGER)
    assert fetch(server, tmp_path / "here").outcome is Outcome.UNTRUSTED
    assert names(tmp_path / "here") == []


def test_a_file_that_is_not_the_signed_one_is_not_named(server: Server, tmp_path: Path) -> None:
    size = 27
    server.answers["/thumbnail.png"] = send(200, b"x" * size)
    report = fetch(server, tmp_path / "here")
    assert report.outcome is Outcome.TAMPERED, report.to_text()
    assert names(tmp_path / "here") == ["embeddings.parquet", "row-hashes.bin"], "no item.json: not finished"
    del server.answers["/thumbnail.png"]
    assert fetch(server, tmp_path / "here").outcome is Outcome.VERIFIED


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_download_that_broke_off_is_resumed(
    made: Made, server: Server, tmp_path: Path, knows_ranges: bool
) -> None:
    data = made.file("embeddings").read_bytes()
    half = len(data) // 2
    server.answers["/embeddings.parquet"] = send(200, data[:half], Content_Length=str(len(data)))
    with pytest.raises(Unavailable, match="broke off"):
        fetch(server, tmp_path / "here")
    (part,) = [name for name in names(tmp_path / "here") if name.startswith(".embeddings.parquet.")]
    assert (tmp_path / "here" / part).stat().st_size == half
    assert "item.json" not in names(tmp_path / "here")
    server.answers["/embeddings.parquet"] = ranges(data) if knows_ranges else send(200, data)
    assert fetch(server, tmp_path / "here").outcome is Outcome.VERIFIED
    assert names(tmp_path / "here") == WHOLE


def test_a_part_of_something_else_is_found_out(made: Made, server: Server, tmp_path: Path) -> None:
    """Somebody wrote into the hidden part: the digest says so, it is thrown away, the next run is good."""
    data = made.file("embeddings").read_bytes()
    server.answers["/embeddings.parquet"] = send(200, data[:50], Content_Length=str(len(data)))
    with pytest.raises(Unavailable):
        fetch(server, tmp_path / "here")
    (part,) = (tmp_path / "here").glob(".embeddings*")
    part.write_bytes(b"x" * 50)
    server.answers["/embeddings.parquet"] = ranges(data)
    assert fetch(server, tmp_path / "here").outcome is Outcome.TAMPERED
    assert fetch(server, tmp_path / "here").outcome is Outcome.VERIFIED


# --- a publisher's own folder, and a log


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = make_world(tmp_path / "catalogue")
    publish(world)
    return world


def publish(world: World) -> None:
    """What the catalogue serves now."""
    world.made.attestation.write_bytes(b"".join(line + b"\n" for line in world.envelopes))
    (world.made.folder / "log-proof").write_bytes(proof_bytes(fresh(world)))
    item = world.made.item
    item["links"] = [{"rel": "log-proof", "href": "./log-proof"}]
    world.made.write_item(item)


@pytest.fixture
def catalogue(world: World) -> Iterator[Server]:
    yield from served(world.made.folder)


def test_a_publishers_folder_is_brought_to_level_three(
    world: World, catalogue: Server, tmp_path: Path
) -> None:
    own = make_shard(tmp_path / "own")  # as the producer left it: its CREATE, its own links
    before = (own.folder / "item.json").read_bytes()
    report = fetch(catalogue, own.folder, trust())
    assert (report.outcome, report.level) == (Outcome.VERIFIED, 3), report.to_text()
    assert downloaded(catalogue) == [], "the files were there"
    assert (own.folder / "item.json").read_bytes() == before, "its own Item says what is signed"
    assert names(own.folder) == sorted([*WHOLE, "log-proof.json"])


def test_later_events_are_brought(world: World, catalogue: Server, tmp_path: Path) -> None:
    fetch(catalogue, tmp_path / "here", trust())
    world.envelopes.append(signed(event_after(world.envelopes, "WITHDRAW", reason="a wrong scene"), PRODUCER))
    world.log.add(world.envelopes[-1])
    world.log.publish("2026-06-30T00:00:00+00:00")
    publish(world)
    assert fetch(catalogue, tmp_path / "here", trust()).outcome is Outcome.WITHDRAWN


def test_a_withdrawn_item_may_lack_what_is_gone_and_shows_nothing_else_than_was_signed(
    world: World, catalogue: Server, tmp_path: Path
) -> None:
    whole, lacking, edited = (world.made.item for _ in range(3))
    lacking["assets"] = {"attestation": whole["assets"]["attestation"]}
    edited["assets"]["thumbnail"]["file:checksum"] = whole["assets"]["embeddings"]["file:checksum"]
    world.made.write_item(lacking)
    assert world.judge(trust()).outcome is Outcome.TAMPERED, "it is active: nothing may be gone"
    world.then("WITHDRAW", PRODUCER, reason="a wrong scene")
    world.log.publish("2026-06-30T00:00:00+00:00")
    for item, outcome in (
        (edited, Outcome.TAMPERED),
        (whole, Outcome.WITHDRAWN),
        (lacking, Outcome.WITHDRAWN),
    ):
        world.made.write_item(item)
        assert world.judge(trust()).outcome is outcome
    publish(world)
    report = fetch(catalogue, tmp_path / "here", trust())
    assert report.outcome is Outcome.WITHDRAWN, report.to_text()
    assert names(tmp_path / "here") == ["attestation.jsonl", "item.json", "log-proof.json"]


def test_a_folder_of_another_item_is_left_alone(catalogue: Server, tmp_path: Path) -> None:
    other = make_shard(tmp_path / "other", item_id="other")
    before = {path.name: path.read_bytes() for path in other.folder.iterdir()}
    with pytest.raises(UsageError, match="another item or history"):
        fetch(catalogue, other.folder, trust())
    assert {path.name: path.read_bytes() for path in other.folder.iterdir()} == before


def test_events_that_the_catalogue_does_not_have_are_not_thrown_away(
    world: World, catalogue: Server, tmp_path: Path
) -> None:
    fetch(catalogue, tmp_path / "here", trust())
    more = signed(event_after(world.envelopes, "SUPERSEDE", successor="s2/next"), PRODUCER)
    with (tmp_path / "here" / "attestation.jsonl").open("ab") as stream:
        stream.write(more + b"\n")
    with pytest.raises(UsageError, match="has 3 events, the catalogue knows 2"):
        fetch(catalogue, tmp_path / "here", trust())


def test_an_item_with_addresses_gets_names_of_files(world: World, catalogue: Server, tmp_path: Path) -> None:
    item = world.made.item
    for key, asset in item["assets"].items():
        catalogue.answers[f"/assets/{key}"] = send(
            200, (world.made.folder / asset["href"].removeprefix("./")).read_bytes()
        )
        asset["href"] = f"{catalogue.url}/assets/{key}"
    world.made.write_item(item)
    assert fetch(catalogue, tmp_path / "here", trust()).level == 3
    assert names(tmp_path / "here") == sorted([*WHOLE, "log-proof.json"])
    written = json.loads((tmp_path / "here" / "item.json").read_bytes())
    assert written["assets"]["embeddings"]["href"] == "./embeddings.parquet"
