"""A short run of the mutation fuzzer, each time from another seed; and the fuzzer's own judge judged."""

import json
import time
from pathlib import Path

import pytest
from allowed import bundle_is_allowed, folder_is_allowed, hit_is_allowed
from fuzz import Fuzzer, fuzz, judge
from signed_world import World, make_world


def test_some_hundred_mutations_accept_nothing(tmp_path: Path) -> None:
    seed = str(int(time.time()))
    tally, slowest, peak = fuzz(tmp_path, seed, count=600)
    done = sum(tally.outcomes.values())
    print(f"{done} mutated artefacts, seed {seed}, slowest batch {slowest:.2f} s, peak {peak:.0f} MiB")
    assert not tally.failures
    assert done == 600


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world") / "w")


def test_the_fuzzer_starts_from_what_verifies(tmp_path: Path) -> None:
    fuzzer = Fuzzer(tmp_path, "x")
    found = {}
    for number, state in enumerate([*fuzzer.world.honest, *fuzzer.world.hostile]):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, data in state.files.items():
            (folder / name).write_bytes(data)
        [report] = judge([str(folder)], trust=fuzzer.policies[True])
        found[state.name] = report["outcome"]
        assert folder_is_allowed(state.files, fuzzer.world, logged=True) == (report["outcome"] == "VERIFIED")
    assert found == {
        **{f"{name} at first": "VERIFIED" for name in ("alpha", "beta", "gamma", "delta")},
        "alpha at last": "VERIFIED", "beta at last": "VERIFIED",
        "gamma at last": "WITHDRAWN", "delta at last": "SUPERSEDED",
        "alpha of a stranger": "UNTRUSTED",
    }  # fmt: skip


def test_a_mutation_is_made_again_by_its_name(tmp_path: Path) -> None:
    one, two = Fuzzer(tmp_path / "a", "7"), Fuzzer(tmp_path / "b", "7")
    for batch, place in ((0, 3), (5, 0), (9, 39)):
        assert one.make(batch, place).files == two.make(batch, place).files


def test_the_judge_sees_what_is_not_as_signed(world: World) -> None:
    """A verifier that took all of these would be caught."""
    state = world.honest[0]
    item = json.loads(state.files["item.json"])
    item["properties"]["title"], item["assets"]["thumbnail"]["href"] = "another", "./other.png"
    item["properties"]["start_datetime"] = "2024-05-01T11:30:31+02:00"
    free = state.files | {"item.json": json.dumps(item).encode()}
    assert folder_is_allowed(free, world, logged=True)
    for name in ("embeddings.parquet", "row-hashes.bin", "thumbnail.png"):
        spoilt = state.files | {name: state.files[name][:-1] + b"x"}
        assert not folder_is_allowed(spoilt, world, logged=True)
    item["bbox"][0] += 1e-9
    assert not folder_is_allowed(state.files | {"item.json": json.dumps(item).encode()}, world, logged=True)
    older = state.files | {"attestation.jsonl": state.lines[0] + b"\n"}
    assert folder_is_allowed(older, world, logged=False)
    assert not folder_is_allowed(older, world, logged=True)
    hit = json.loads(world.hits[0])
    assert hit_is_allowed(json.dumps(hit | {"links": [1]}).encode(), world, logged=True)
    assert not hit_is_allowed(json.dumps(hit | {"id": "x"}).encode(), world, logged=True)
    hit["properties"]["eocat:proof"].pop("log_proof")
    assert hit_is_allowed(json.dumps(hit).encode(), world, logged=False)
    assert bundle_is_allowed(state.bundle + b'{"unknown":1}\n', world)
    assert not bundle_is_allowed(state.bundle.replace(b'"seq":1', b'"seq":2'), world)
