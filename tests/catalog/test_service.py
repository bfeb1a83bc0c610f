"""The service as its clients meet it: an unmodified STAC client, similarity, proofs, histories and files."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pystac
import pytest
import requests
from catalogue import new_database, running
from pystac_client import Client
from shard_maker import DrawnEncoder, new_signer, policy_for, write_shard
from stac_validation import StacSchemas

from eocat.catalog.admission import register
from eocat.verify.check import check
from eocat.verify.dsse import parse_envelope
from eocat.verify.edge.fetch import fetch_item
from eocat.verify.hit import check_hit, format_hit
from eocat.verify.policy import Policy
from eocat.verify.report import Outcome

DIMENSION = 16


@dataclass(frozen=True)
class Site:
    """A running catalogue with two shards, s1 and s2, and what was put into it."""

    url: str
    policy: Policy
    folders: dict[str, Path]

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(f"{self.url}/{path}", timeout=30, **options)

    def similar(self, **request: Any) -> dict[str, Any]:
        answer = requests.post(f"{self.url}/search/similar", json=request, timeout=30)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/geo+json"
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture(scope="module")
def site(embedded: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    out, signer = tmp_path_factory.mktemp("out"), new_signer()
    encoder, policy = DrawnEncoder(dimension=DIMENSION), policy_for(signer)
    folders = {
        "s1": write_shard(out, "demo", "s1", signer=signer, encoder=encoder, seed=1),
        "s2": write_shard(
            out, "demo", "s2", signer=signer, encoder=encoder, seed=2, west=20.123456789, count=300,
            start=datetime(2024, 6, 1, tzinfo=UTC), end=datetime(2024, 6, 2, 0, 0, 0, 1, tzinfo=UTC),
            properties={"platform": "sentinel-2b"},
        ),
    }  # fmt: skip
    with new_database(embedded) as database:
        assert {a.status for a in register(database, [out], policy)} == {"registered"}
        with running(database) as url:
            yield Site(url, policy, folders)


def test_an_unmodified_client_finds_its_way(site: Site) -> None:
    client = Client.open(site.url)
    assert sorted(collection.id for collection in client.get_collections()) == ["demo", "models"]
    searches = {
        "box": {"bbox": [10, 45, 12, 47]},
        "six numbers": {"bbox": [10, 45, 0, 12, 47, 100]},
        "time": {"datetime": "../2024-05-15T00:00:00Z"},
        "CQL2 text": {"filter": "platform = 'sentinel-2a' AND gsd > 5"},
        "CQL2 JSON": {"filter": {"op": "=", "args": [{"property": "platform"}, "sentinel-2a"]}},
        "CQL2 geometry": {"filter": "S_INTERSECTS(geometry, POLYGON((10 45,12 45,12 47,10 47,10 45)))"},
        "CQL2 time": {"filter": "T_BEFORE(datetime, TIMESTAMP('2024-05-15T00:00:00Z'))"},
        "ids": {"ids": ["s1"]},
        "query": {"query": {"platform": {"eq": "sentinel-2a"}}},
    }
    for name, search in searches.items():
        found = client.search(collections=["demo"], **search)  # type: ignore[arg-type]
        assert [item.id for item in found.items()] == ["s1"], name
        assert found.matched() == 1, name
    ordered = client.search(collections=["demo"], sortby=["-properties.platform"], limit=1)
    assert [item.id for item in ordered.items()] == ["s2", "s1"]  # over two pages


def test_items_stay_valid_and_verify_after_the_round_trip(site: Site, tmp_path: Path) -> None:
    """STAC 1.1 as pystac bundles it; and the projection survives pgSTAC, whose JSON has its own spellings."""
    for name in site.folders:
        url = f"{site.url}/collections/demo/items/{name}"
        answer = requests.get(url, timeout=30)
        assert answer.headers["content-type"] == "application/geo+json"
        item = answer.json()
        pystac.Item.from_dict({**item, "stac_extensions": []}, preserve_dict=True).validate()
        assert {"self", "collection", "root", "history", "proof", "derived_from", "emb:model"} <= {
            link["rel"] for link in item["links"]
        }
        folder = tmp_path / name
        folder.mkdir()
        report = check(fetch_item(url, folder), site.policy, now=datetime.now(UTC))
        assert report.outcome is Outcome.VERIFIED, report.to_text()


def test_documents_are_valid_against_their_extensions(site: Site, shared_data: Path) -> None:
    schemas = StacSchemas(shared_data / "stac_schemas")
    model = next(link for link in site.get("collections/demo").json()["links"] if link["rel"] == "emb:model")
    for url in ("collections/demo", "collections/demo/items/s2", model["href"].removeprefix(f"{site.url}/")):
        document = site.get(url).json()
        assert schemas.errors(document) == []


def test_pages_follow_each_other(site: Site) -> None:
    first = site.get("search?limit=1&collections=demo").json()
    assert (first["numberMatched"], first["numberReturned"]) == (2, 1)
    link = next(link for link in first["links"] if link["rel"] == "next")
    second = requests.get(link["href"], timeout=30).json()
    assert [first["features"][0]["id"], second["features"][0]["id"]] == ["s2", "s1"]
    assert len(site.get("search?limit=100000").json()["features"]) == 2  # limits are cut, not refused


def test_a_box_across_the_antimeridian_is_two(site: Site) -> None:
    for box, found in (("170,40,-170,50", []), ("15,40,12,50", ["s1", "s2"]), ("15,40,-170,50", ["s2"])):
        answer = site.get(f"search?collections=demo&bbox={box}").json()
        assert sorted(item["id"] for item in answer["features"]) == found, box


def test_landing_page_and_conformance_promise_what_is_served(site: Site) -> None:
    page = site.get("").json()
    assert (page["id"], page["stac_version"]) == ("eocat", "1.1.0")
    links = {link["rel"]: link for link in page["links"]}
    assert links["service-desc"]["type"] == "application/vnd.oai.openapi+json;version=3.0"
    for rel in (
        "service-desc",
        "service-doc",
        "data",
        "conformance",
        "http://www.opengis.net/def/rel/ogc/1.0/queryables",
    ):
        assert requests.get(links[rel]["href"], timeout=30).status_code == 200, rel
    assert links["similar"]["href"] == f"{site.url}/search/similar"
    promised = set(site.get("conformance").json()["conformsTo"])
    assert promised == set(page["conformsTo"])
    item_search = "https://api.stacspec.org/v1.0.0/item-search"
    for wanted in (
        "https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/collections",
        "https://api.stacspec.org/v1.0.0/ogcapi-features", item_search, f"{item_search}#fields",
        f"{item_search}#query", f"{item_search}#sort", "https://api.stacspec.org/v1.0.0-rc.2/item-search#filter",
        "https://api.stacspec.org/v1.1.0/item-search#sort", "urn:eocat:similarity:v1",
        "http://www.opengis.net/spec/cql2/1.0/conf/cql2-text", "http://www.opengis.net/spec/cql2/1.0/conf/basic-cql2",
        "http://www.opengis.net/spec/cql2/1.0/conf/basic-spatial-functions",
        "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson",
    ):  # fmt: skip
        assert wanted in promised
    assert not any("transaction" in one for one in promised)


def test_no_route_writes(site: Site) -> None:
    """Every route of the published API is a read; an unsafe method on any of them is refused."""
    paths = site.get("api").json()["paths"]
    posts = {path for path, methods in paths.items() if "post" in methods}
    assert posts == {"/search", "/search/similar"}
    assert all(set(methods) <= {"get", "post"} for methods in paths.values())
    for path in paths:
        place = path.format(
            collection_id="demo", item_id="s1", collection="demo", item="s1", row=0, key="thumbnail",
            path="0/000.p/6", digest="0" * 64,
        )  # fmt: skip
        for method in ("PUT", "PATCH", "DELETE"):
            assert requests.request(method, site.url + place, json={}, timeout=30).status_code == 405, place


def test_health_and_request_ids(site: Site) -> None:
    assert site.get("_mgmt/ping").status_code == 200
    health = site.get("_mgmt/health")
    assert health.json() == {"status": "UP", "collections": 1}
    assert len(health.headers["x-request-id"]) == 16
    answer = site.get("collections", headers={"Origin": "https://example.org"})
    assert answer.headers["access-control-allow-origin"] == "*"


def test_a_similar_answer_says_what_it_is(site: Site) -> None:
    found = site.similar(like={"collection": "demo", "item": "s2", "row": 7}, limit=3)
    assert (found["type"], found["method"], found["candidates"], found["numberReturned"]) == (
        "FeatureCollection", "exact", 360, 3,
    )  # fmt: skip
    assert len(found["space"]) == 64
    first = found["features"][0]
    row = first["properties"]
    assert (row["collection"], row["item"], row["row"], row["row_count"]) == ("demo", "s2", 7, 300)
    assert row["distance"] == pytest.approx(0, abs=1e-6)
    assert (row["datetime"], row["start_datetime"], row["end_datetime"]) == (
        None, "2024-06-01T00:00:00Z", "2024-06-02T00:00:00.000001Z",
    )  # fmt: skip
    assert (row["license"], row["source"], row["grid_cell"]) == ("CC-BY-4.0", "s2", None)
    assert "eocat:proof" not in row
    assert "vector" not in row
    west = first["geometry"]["coordinates"][0][0][0]
    assert west == round(20.123456789 + 7 * 0.01, 9)  # the signed double itself


def test_the_get_forms_answer_the_same(site: Site) -> None:
    body = {"like": {"collection": "demo", "item": "s1", "row": 3}, "limit": 4, "bbox": [10, 40, 12, 50]}
    posted = site.similar(**body, filter="gsd = 10", include_vector=True)
    got = site.get(
        "search/similar?like=demo/s1/3&limit=4&bbox=10,40,12,50&filter=gsd=10&include_vector=true"
    ).json()
    assert got["features"] == posted["features"]
    assert len(got["features"][0]["properties"]["vector"]) == DIMENSION
    point = site.get("search/similar?like=11.005,46.005&limit=1").json()
    assert point["features"][0]["properties"]["row"] == 0
    vector = {"vector": got["features"][0]["properties"]["vector"]}
    again = site.similar(like=vector, limit=1)["features"][0]["properties"]
    assert (again["item"], again["row"]) == ("s1", 3)


def test_every_hit_comes_with_a_proof_that_holds_offline(site: Site) -> None:
    found = site.similar(like={"collection": "demo", "item": "s2", "row": 7}, limit=40, include_proof=True)
    assert {feature["properties"]["item"] for feature in found["features"]} == {"s1", "s2"}
    for feature in found["features"]:
        report = check_hit(format_hit(feature), site.policy, target="hit", now=datetime.now(UTC))
        assert report.outcome is Outcome.VERIFIED, report.to_text()


@pytest.mark.parametrize(
    "lie",
    [
        lambda f: f["properties"].update(row=f["properties"]["row"] ^ 1),
        lambda f: f["properties"].update(item="s2"),
        lambda f: f.update(id="another"),
        lambda f: f["geometry"]["coordinates"][0][1].__setitem__(0, 11.999),
        lambda f: f["properties"].update(start_datetime="2020-01-01T00:00:00Z", datetime=None),
        lambda f: f["properties"]["eocat:proof"]["path"].pop(),
        lambda f: f["properties"]["eocat:proof"]["leaf"].update(input_digest="0" * 64),
    ],
    ids=["row", "item", "id", "geometry", "time", "path", "input digest"],
)
def test_a_hit_that_was_changed_does_not_verify(site: Site, lie: Any) -> None:
    (feature,) = site.similar(
        like={"collection": "demo", "item": "s1", "row": 4}, limit=1, include_proof=True
    )["features"]
    lie(feature)
    report = check_hit(format_hit(feature), site.policy, target="hit", now=datetime.now(UTC))
    assert report.outcome in (Outcome.TAMPERED, Outcome.MALFORMED)


def test_a_row_s_proof_has_an_address_and_a_tag(site: Site) -> None:
    path = "collections/demo/items/s2/rows/299/proof"
    answer = site.get(path)
    report = check_hit(format_hit(answer.json()), site.policy, target="hit", now=datetime.now(UTC))
    assert report.outcome is Outcome.VERIFIED, report.to_text()
    again = site.get(path, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for absent in ("s2/rows/300", "s2/rows/2147483647", "s9/rows/0"):
        assert site.get(f"collections/demo/items/{absent}/proof").status_code == 404


def test_the_history_holds_the_envelopes_as_they_were_signed(site: Site) -> None:
    history = site.get("collections/demo/items/s1/history").json()
    signed = (site.folders["s1"] / "attestation.jsonl").read_bytes()
    assert [(event["seq"], event["event"]) for event in history["events"]] == [
        (0, "CREATE"),
        (1, "REGISTER"),
    ]
    assert history["events"][0]["envelope"] == json.loads(signed)
    assert history["events"][0]["payload_sha256"] == parse_envelope(signed[:-1]).payload_digest
    served = site.get("collections/demo/items/s1/assets/attestation").content.splitlines(keepends=True)
    assert served[0] == signed
    assert [json.loads(line) for line in served] == [event["envelope"] for event in history["events"]]
    assert site.get("collections/demo/items/absent/history").status_code == 404


def test_assets_are_the_signed_files_with_ranges(site: Site) -> None:
    item = site.get("collections/demo/items/s1").json()
    for key, name in (
        ("embeddings", "embeddings.parquet"),
        ("row-hashes", "row-hashes.bin"),
        ("thumbnail", "thumbnail.png"),
    ):
        asset, data = item["assets"][key], (site.folders["s1"] / name).read_bytes()
        assert asset["href"] == f"{site.url}/collections/demo/items/s1/assets/{key}"
        whole = requests.get(asset["href"], timeout=30, headers={"Accept-Encoding": "identity"})
        assert (whole.content, whole.headers["content-type"]) == (data, asset["type"])
        assert whole.headers["etag"] == f'"{asset["file:checksum"][4:]}"'
        assert whole.headers["x-content-type-options"] == "nosniff"
        part = requests.get(asset["href"], timeout=30, headers={"Range": "bytes=8-39"})
        assert (part.status_code, part.content) == (206, data[8:40])
    host = urlsplit(site.url).netloc
    for key in (
        "item",
        "..",
        "../item.json",
        "..%2Fitem.json",
        "%2Fetc%2Fpasswd",
        "embeddings.parquet",
        "%00",
    ):
        connection = HTTPConnection(host, timeout=30)  # requests would tidy the path before it sends it
        connection.request("GET", f"/collections/demo/items/s1/assets/{key}")
        assert connection.getresponse().status in (400, 404), key
        connection.close()


def test_files_that_are_gone_are_said_to_be(embedded: Any, tmp_path: Path) -> None:
    signer = new_signer()
    folder = write_shard(tmp_path / "out", "demo", "s", signer=signer, count=10)
    with new_database(embedded) as database:
        register(database, [folder], policy_for(signer))
        with running(database) as url:
            (tmp_path / "out").rename(tmp_path / "elsewhere")
            for path in ("assets/embeddings", "rows/3/proof"):
                answer = requests.get(f"{url}/collections/demo/items/s/{path}", timeout=30)
                assert answer.status_code == 503
                assert "not where" in answer.json()["description"]
                assert str(tmp_path) not in answer.text
