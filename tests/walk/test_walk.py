"""The whole way with real Sentinel-2 scenes, a real PostgreSQL and a real server (docs/walk.md)."""

import base64
import json
import subprocess
import sys
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pystac
import pytest
from numpy.typing import NDArray
from pystac_client import Client
from stac_validation import StacSchemas
from world import World, can_unshare

from eocat.verify.check import check
from eocat.verify.edge.fetch import fetch_item
from eocat.verify.hit import check_hit, format_hit
from eocat.verify.report import Outcome


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(scope="session")
def vectors(world: World) -> dict[str, NDArray[np.float64]]:
    """Item → its vectors, from the shards themselves, of unit length."""
    found = {}
    for shard in world.shards:
        column = pq.read_table(shard.folder / "embeddings.parquet")["embedding"].combine_chunks()
        values = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1).astype(np.float64)
        found[shard.item] = values / np.linalg.norm(values, axis=1, keepdims=True)
    return found


@pytest.fixture(scope="session")
def hit(world: World) -> dict[str, Any]:
    """A hit with its proof, as the service answered it."""
    like = {"collection": "places", "item": world.shards[3].item, "row": 2}
    answer = world.api.similar({"like": like, "limit": 3, "include_proof": True})
    feature: dict[str, Any] = answer["features"][0]
    assert (feature["properties"]["item"], feature["properties"]["row"]) == (like["item"], 2)
    return feature


def test_pystac_client_lists_and_searches(world: World) -> None:
    client = Client.open(world.url)
    assert "places" in {collection.id for collection in client.get_collections()}
    shard = json.loads((world.shards[0].folder / "item.json").read_text())
    found = client.search(collections=["places"], bbox=shard["bbox"], datetime="2020-01-01/2020-12-31")
    assert [item.id for item in found.items()] == [shard["id"]]
    assert client.search(collections=["places"], datetime="1999-01-01/2000-01-01").matched() == 0
    everything = client.search(collections=["places"], limit=4)
    assert everything.matched() == len(world.shards)
    assert {item.id for item in everything.items()} == {shard.item for shard in world.shards}


def test_served_documents_are_valid_stac(world: World, shared_data: Path) -> None:
    schemas = StacSchemas(shared_data / "stac_schemas")
    client = Client.open(world.url)
    documents = [
        item.to_dict(transform_hrefs=False) for item in client.search(collections=["places"]).items()
    ]
    documents += [collection.to_dict(transform_hrefs=False) for collection in client.get_collections()]
    documents += list(world.api.search(collections=["models"]))
    assert len(documents) == len(world.shards) + 2 + 1
    for document in documents:
        assert schemas.errors({"stac_extensions": [], **document}) == [], document["id"]


def test_each_place_finds_itself_first_and_its_nearest_by_exact_cosine(
    world: World, vectors: dict[str, NDArray[np.float64]]
) -> None:
    names = [(item, row) for item, rows in vectors.items() for row in range(len(rows))]
    matrix = np.concatenate(list(vectors.values()))
    for item in vectors:
        query = {"collection": "places", "item": item, "row": 0}
        answer = world.api.similar({"like": query, "limit": 5, "exact": True})
        found = [(f["properties"]["item"], f["properties"]["row"]) for f in answer["features"]]
        distances = 1 - matrix @ vectors[item][0]
        assert found[0] == (item, 0)
        expected = np.sort(distances)[:5]
        np.testing.assert_allclose([distances[names.index(name)] for name in found], expected, atol=1e-6)
        reported = [f["properties"]["distance"] for f in answer["features"]]
        np.testing.assert_allclose(reported, expected, atol=1e-5)


def test_index_and_exact_search_agree(world: World, vectors: dict[str, NDArray[np.float64]]) -> None:
    """recall@10 of HNSW against exact search, over every row of every place."""
    agreed = asked = 0
    for item, rows in vectors.items():
        for row in range(len(rows)):
            like = {"collection": "places", "item": item, "row": row}
            exact, index = (
                world.api.similar({"like": like, "limit": 10, "exact": way})["features"]
                for way in (True, False)
            )
            agreed += len({feature["id"] for feature in exact} & {feature["id"] for feature in index})
            asked += 10
    assert agreed / asked >= 0.95, f"recall@10 is {agreed / asked:.3f}"


def test_similar_obeys_space_time_and_cql2(world: World) -> None:
    shard = json.loads((world.shards[5].folder / "item.json").read_text())
    like = {"like": {"collection": "places", "item": world.shards[0].item, "row": 0}, "limit": 50}
    inside = world.api.similar(like | {"bbox": shard["bbox"]})["features"]
    assert {feature["properties"]["item"] for feature in inside} == {shard["id"]}
    assert len(inside) == world.shards[5].rows
    by_id = world.api.similar(like | {"filter": f"id = '{shard['id']}'"})["features"]
    assert {feature["id"] for feature in by_id} == {feature["id"] for feature in inside}
    assert (
        world.api.similar(like | {"datetime": "1999-01-01T00:00:00Z/2000-01-01T00:00:00Z"})["features"] == []
    )


def test_every_item_verifies_over_http(world: World, tmp_path: Path) -> None:
    for number, shard in enumerate(world.shards):
        (tmp_path / str(number)).mkdir()
        evidence = fetch_item(f"{world.url}/collections/places/items/{shard.item}", tmp_path / str(number))
        report = check(evidence, world.policy, now=now())
        assert report.outcome is Outcome.VERIFIED, report.to_text()


def test_an_item_that_pystac_wrote_again_still_verifies(world: World, tmp_path: Path) -> None:
    """The projection survives pgSTAC and a client's rewriting; hrefs and links may change."""
    from eocat.verify.evidence import read_item_file

    item = next(Client.open(world.url).search(ids=[world.shards[0].item]).items())
    assert isinstance(item, pystac.Item)
    for path in world.shards[0].folder.iterdir():
        if path.name != "item.json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    for key, name in {"embeddings": "embeddings.parquet", "row-hashes": "row-hashes.bin"}.items():
        item.assets[key].href = f"./{name}"
    item.assets["thumbnail"].href, item.assets["attestation"].href = "./thumbnail.png", "./attestation.jsonl"
    (tmp_path / "item.json").write_text(json.dumps(item.to_dict(transform_hrefs=False)))
    report = check(read_item_file(tmp_path / "item.json"), world.policy, now=now())
    assert report.outcome is Outcome.VERIFIED, report.to_text()


def test_a_saved_hit_verifies_offline_in_another_process(
    world: World, hit: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "hit.json").write_bytes(format_hit(hit))
    command = [
        sys.executable,
        "-m",
        "eocat.verify",
        "verify",
        "hit.json",
        "--trust",
        world.policy_file,
        "--json",
    ]
    unshared = ["unshare", "--net", "--map-root-user"] if can_unshare() else []
    done = subprocess.run([*unshared, *command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (report,) = json.loads(done.stdout)
    assert (report["outcome"], report["level"]) == ("VERIFIED", 2)


def _flipped_vector(hit: dict[str, Any]) -> None:
    leaf = hit["properties"]["eocat:proof"]["leaf"]
    data = bytearray(base64.b64decode(leaf["vector"]))
    data[100] ^= 1
    leaf["vector"] = base64.b64encode(data).decode()


def _flipped_geometry(hit: dict[str, Any]) -> None:
    point = hit["geometry"]["coordinates"][0][1]
    point[0] = float(np.nextafter(point[0], 200))


def _later(hit: dict[str, Any]) -> None:
    hit["properties"]["end_datetime"] = "2025-12-31T00:00:00.000001Z"


def _renamed(hit: dict[str, Any]) -> None:
    hit["id"] = hit["id"][:-1] + chr(ord(hit["id"][-1]) ^ 1)


@pytest.mark.parametrize("change", [_flipped_vector, _flipped_geometry, _later, _renamed])
def test_a_hit_with_one_bit_changed_is_refused(world: World, hit: dict[str, Any], change: Any) -> None:
    assert check_hit(format_hit(hit), world.policy, target="hit", now=now()).outcome is Outcome.VERIFIED
    changed = deepcopy(hit)
    change(changed)
    report = check_hit(json.dumps(changed).encode(), world.policy, target="hit", now=now())
    assert report.outcome.value == 20, report.to_text()


def test_an_insiders_edit_in_the_database_shows(world: World, hit: dict[str, Any]) -> None:
    """The row's time in the database is moved by one microsecond: the service answers, its proof fails."""
    place = hit["properties"]
    move = """UPDATE eocat.chip SET start_time = start_time + %s * interval '1 microsecond'
              WHERE collection = 'places' AND row = %s
              AND shard_id = (SELECT shard_id FROM eocat.shard WHERE item_id = %s)"""
    like = {"collection": "places", "item": place["item"], "row": place["row"]}
    with world.database.connect(autocommit=True) as connection:
        connection.execute(move, [1, place["row"], place["item"]])
        try:
            answer = world.api.similar({"like": like, "limit": 1, "include_proof": True})
        finally:
            connection.execute(move, [-1, place["row"], place["item"]])
    moved = answer["features"][0]
    assert moved["id"] == hit["id"]
    report = check_hit(json.dumps(moved).encode(), world.policy, target="hit", now=now())
    assert report.outcome is Outcome.TAMPERED
