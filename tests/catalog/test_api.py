"""The API beyond single answers: tags, HEAD, tables, pages that grow, versions, and what browsers get."""

import json
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import geopandas
import pyarrow.parquet as pq
import pytest
import requests
import rustac
import stac_geoparquet.arrow
from catalogue import new_database, running
from log_world import LogWorld
from pystac.errors import DeprecatedWarning
from pystac_client import Client

from eocat.catalog.database import Database
from eocat.catalog.documents import MODELS

PARQUET = "application/vnd.apache.parquet"


@pytest.fixture(scope="module")
def world(embedded: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LogWorld]:
    with new_database(embedded) as database:
        made = LogWorld(database, tmp_path_factory.mktemp("out"))
        for item, west in (("a", 11.0), ("b", 12.0), ("c", 13.0), ("d", 14.0)):
            made.add(item, west=west, properties={"eo:cloud_cover": west})
        made.add("x", "other", west=15.0)
        made.register(made.sign("a", "SUPERSEDE", successor="demo/b"))
        made.register(made.sign("c", "WITHDRAW", reason="a licence that never was"))
        yield made


@pytest.fixture(scope="module")
def url(world: LogWorld) -> Iterator[str]:
    with running(world.database) as address:
        yield address


def get(url: str, path: str, **headers: str) -> requests.Response:
    return requests.get(f"{url}/{path}", headers=headers, timeout=30)


def ids(answer: requests.Response) -> list[str]:
    return [item["id"] for item in answer.json()["features"]]


@pytest.mark.parametrize(
    "path",
    ["", "conformance", "collections", "collections/demo", "collections/demo/items",
     "collections/demo/items/b", "search?collections=demo", "queryables", "collections/demo/queryables",
     "api",
     "collections/demo/items/b/history", "collections/demo/items/b/log-proof",
     "collections/demo/items/b/rows/1/proof", "collections/demo/items/b/assets/embeddings",
     "collections/demo/items/b/assets/attestation"],
)  # fmt: skip
def test_documents_have_tags_and_who_has_them_is_told_so(url: str, path: str) -> None:
    first = get(url, path)
    tag = first.headers["etag"]
    for known in (tag, f'"other", {tag}', "*", tag.removeprefix("W/"), f"W/{tag.removeprefix('W/')}"):
        again = get(url, path, **{"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b""), known
        assert again.headers["etag"] == tag
    assert get(url, path, **{"If-None-Match": '"other"'}).status_code == 200
    head = requests.head(f"{url}/{path}", timeout=30)
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", tag)
    assert head.headers["content-type"] == first.headers["content-type"]


def test_head_of_a_file_gives_its_size(url: str) -> None:
    place = f"{url}/collections/demo/items/b/assets/embeddings"
    size = len(requests.get(place, timeout=30).content)
    head = requests.head(place, timeout=30)
    assert (int(head.headers["content-length"]), head.headers["accept-ranges"]) == (size, "bytes")
    assert requests.head(f"{url}/collections/demo/items/b/assets/nothing", timeout=30).status_code == 404


def test_search_answers_are_tables_where_tables_are_asked_for(url: str, tmp_path: Path) -> None:
    """Read by three readers that know nothing of us; the same Items as the JSON has."""
    query = {"collections": ["demo"], "sortby": [{"field": "id", "direction": "asc"}]}
    answer = requests.post(f"{url}/search", json=query, headers={"Accept": PARQUET}, timeout=30)
    assert answer.headers["content-type"] == PARQUET
    assert (answer.headers["ogc-numbermatched"], answer.headers["ogc-numberreturned"]) == ("4", "4")
    items = requests.post(f"{url}/search", json=query, timeout=30).json()["features"]
    frame = geopandas.read_parquet(BytesIO(answer.content))
    assert list(frame["id"]) == ["a", "b", "c", "d"]
    assert frame.crs == "EPSG:4326"
    assert [tuple(row) for row in frame.geometry.bounds.to_numpy()] == [tuple(item["bbox"]) for item in items]
    table = pq.read_table(BytesIO(answer.content))
    again = list(stac_geoparquet.arrow.stac_table_to_items(table))
    assert [item["assets"].get("embeddings") for item in again] == [
        item["assets"].get("embeddings") for item in items
    ]
    path = tmp_path / "items.parquet"
    path.write_bytes(answer.content)
    assert [item["id"] for item in rustac.read_sync(str(path))["features"]] == ["a", "b", "c", "d"]


def test_tables_come_in_pages_and_are_not_forced_on_anybody(url: str) -> None:
    first = get(url, "search?collections=demo&limit=3&sortby=id", Accept=PARQUET)
    assert pq.read_table(BytesIO(first.content))["id"].to_pylist() == ["a", "b", "c"]
    second = requests.get(first.links["next"]["url"], headers={"Accept": PARQUET}, timeout=30)
    assert pq.read_table(BytesIO(second.content))["id"].to_pylist() == ["d"]
    assert "next" not in second.links
    none = get(url, "collections/demo/items?bbox=-10,-10,-9,-9", Accept=PARQUET)
    assert len(geopandas.read_parquet(BytesIO(none.content))) == 0
    for accept in (
        "*/*",
        f"application/geo+json, {PARQUET};q=0.5",
        f"{PARQUET};q=0",
        "text/html",
        f"{PARQUET};q=x",
    ):
        assert (
            get(url, "search?collections=demo", Accept=accept).headers["content-type"]
            == "application/geo+json"
        )
    refused = get(url, "search?collections=demo&fields=id", Accept=PARQUET)
    assert refused.status_code == 400
    assert "without `fields`" in refused.json()["description"]


def test_pages_stay_whole_while_items_are_added(world: LogWorld, url: str) -> None:
    """Keyset paging: what comes in before the place that a token names neither repeats nor hides an item."""
    made = [f"p{number}" for number in range(6)]
    for item in made:
        world.add(item, "paged", count=2)
    seen: list[str] = []
    address = f"{url}/search?collections=paged&limit=2&sortby=id"
    while address:
        answer = requests.get(address, timeout=30)
        seen += ids(answer)
        address = next((link["href"] for link in answer.json()["links"] if link["rel"] == "next"), "")
        if len(seen) == 2:
            world.add("p00", "paged", count=2)  # before
            world.add("p45", "paged", count=2)  # after
    assert seen == [*made[:5], "p45", "p5"]


def test_a_search_that_names_nothing_finds_embeddings_and_not_encoders(url: str) -> None:
    assert not [item for item in get(url, "search").json()["features"] if item["collection"] == MODELS]
    models = get(url, f"search?collections={MODELS}").json()["features"]
    assert [item["properties"]["mlm:name"] for item in models] == ["drawn"]
    assert ids(get(url, f"search?ids={models[0]['id']}")) == [models[0]["id"]]
    found = Client.open(url).get_collection(MODELS)
    assert [item.id for item in found.get_items()] == [models[0]["id"]]


@pytest.mark.parametrize("include", [None, []])
def test_an_include_that_is_empty_asks_for_the_default_set(url: str, include: list[str] | None) -> None:
    """Fields Extension, semantics 4; without any `include` the rest is whole (3)."""
    asked = {"ids": ["b"], "collections": ["demo"], "fields": {"exclude": ["geometry"], "include": include}}
    [less] = requests.post(f"{url}/search", json=asked, timeout=60).json()["features"]
    assert {"type", "stac_version", "id", "bbox", "links", "assets", "properties"} <= set(less)
    assert "geometry" not in less
    assert set(less["properties"]) <= {"datetime"}
    asked["fields"] = {"exclude": ["geometry"]}
    [whole] = requests.post(f"{url}/search", json=asked, timeout=60).json()["features"]
    assert "eocat:row_root" in whole["properties"]
    refused = requests.post(f"{url}/search", json=asked | {"fields": None}, timeout=60)
    assert (refused.status_code, "fields is null" in refused.json()["description"]) == (400, True)


def test_fields_leave_out_what_was_not_asked_for(url: str) -> None:
    one = get(url, "search?ids=b&collections=demo&fields=id,properties.platform").json()["features"][0]
    assert one.keys() - {"id", "collection", "links"} == {"properties"}
    assert one["properties"] == {"platform": "sentinel-2a"}
    less = get(url, "search?ids=b&collections=demo&fields=-assets,-links").json()["features"][0]
    assert not less.keys() & {"assets", "links"}
    assert {"geometry", "bbox", "properties", "type", "id"} <= less.keys()


def test_versions_lead_from_one_to_the_other(url: str) -> None:
    old, new = get(url, "collections/demo/items/a"), get(url, "collections/demo/items/b")
    assert old.json()["properties"]["deprecated"] is True
    assert old.json()["properties"]["eocat:status"] == "superseded"
    assert old.links["successor-version"]["url"] == f"{url}/collections/demo/items/b"
    assert new.links["predecessor-version"]["url"] == f"{url}/collections/demo/items/a"
    assert ids(get(url, "search?collections=demo&filter=deprecated=TRUE&sortby=id")) == ["a", "c"]


def test_a_withdrawn_item_keeps_its_history_and_loses_its_files(url: str) -> None:
    item = get(url, "collections/demo/items/c")
    assert (item.status_code, item.json()["properties"]["eocat:status"]) == (200, "withdrawn")
    for key in ("embeddings", "row-hashes", "thumbnail"):
        gone = get(url, f"collections/demo/items/c/assets/{key}")
        assert (gone.status_code, gone.json()["code"]) == (410, "Gone")
    for path in ("history", "log-proof", "assets/attestation"):
        assert get(url, f"collections/demo/items/c/{path}").status_code == 200
    assert get(url, "collections/demo/items/c/rows/0/proof").status_code == 404


def test_a_withdrawn_item_links_to_nothing_that_is_gone(url: str) -> None:
    """However it is asked for; and STAC's own client reads it."""
    searched = get(url, "search?ids=c").json()["features"]
    chosen = get(url, "search?ids=c&fields=id,links,assets").json()["features"]
    for item in (get(url, "collections/demo/items/c").json(), *searched, *chosen):
        assert list(item["assets"]) == ["attestation"]
        hrefs = [one["href"] for one in (*item["links"], *item["assets"].values()) if url in one["href"]]
        assert len(hrefs) > 5
        for href in hrefs:
            assert requests.get(href, timeout=30).status_code == 200, href
    with pytest.warns(DeprecatedWarning):
        [item] = Client.open(url).search(ids=["c"]).items()
    assert list(item.assets) == ["attestation"]
    assert {"embeddings", "thumbnail"} <= get(url, "collections/demo/items/b").json()["assets"].keys()


def test_collections_are_found_by_free_text_and_place(world: LogWorld, url: str) -> None:
    def found(query: str) -> list[str]:
        return [one["id"] for one in get(url, f"collections?{query}").json()["collections"]]

    everything = set(found(""))
    assert {"demo", "other", MODELS} <= everything
    assert found("q=MLM") == [MODELS]
    assert set(found("q=drawn")) >= {"demo", "other"}
    assert found("q=nothingofthekind") == []
    assert "other" in found("bbox=14.9,45,16,47")
    assert "demo" not in found("bbox=14.99,45,16,47")
    assert set(found("limit=1")) < everything
    assert found("filter=id='other'&filter-lang=cql2-text") == ["other"]
    assert found("sortby=-id")[0] == max(everything)


def test_queryables_are_a_collection_s_own(url: str) -> None:
    for path in ("queryables", "collections/demo/queryables"):
        answer = get(url, path)
        assert answer.headers["content-type"] == "application/schema+json"
        schema = answer.json()
        assert schema["$id"] == f"{url}/{path}"
        assert schema["properties"]["eo:cloud_cover"]["type"] == "number"
        assert schema["properties"]["id"]["type"] == "string"
        assert "$ref" not in answer.text  # STAC Browser would fetch what it leads to
    assert get(url, "collections/absent/queryables").status_code == 404


def test_browsers_get_a_page_and_clients_json(url: str) -> None:
    browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    page = get(url, "", Accept=browser)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<script" not in page.text
    assert '<a href="collections/demo">' in page.text
    for accept in ("*/*", "application/json", "application/json, text/html"):
        assert get(url, "", Accept=accept).json()["id"] == "eocat"


def test_what_publishers_write_is_text_on_that_page(
    world: LogWorld, embedded: Database, tmp_path: Path
) -> None:
    with new_database(embedded) as database:
        other = LogWorld(database, tmp_path)
        folder = other.write("a", "hostile")
        path = folder.parent / "collection.json"
        document = json.loads(path.read_text()) | {"title": "<script>alert(1)</script>\"'"}
        path.write_text(json.dumps(document))
        assert other.register(folder).status == "registered"
        with running(database) as address:
            page = get(address, "", Accept="text/html").text
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;" in page


@pytest.mark.parametrize(
    "path", ["", "collections", "search", "absent", "collections/demo/items/b/assets/thumbnail"]
)
def test_every_answer_has_the_headers_that_guard_a_browser(url: str, path: str) -> None:
    headers = get(url, path, Origin="https://example.org").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in headers
    assert "server" not in headers


def test_qgis_finds_its_way(url: str) -> None:
    """What QGIS's STAC provider asks: the root, a POST search with a box, the next page's body."""
    root = get(url, "", **{"User-Agent": "Mozilla/5.0 QGIS/34400"}).json()
    search = next(link for link in root["links"] if link["rel"] == "search" and link.get("method") == "POST")
    body = {
        "collections": ["demo"],
        "bbox": [-180, -90, 180, 90],
        "limit": 2,
        "datetime": "2024-01-01T00:00:00Z/..",
    }
    first = requests.post(search["href"], json=body, timeout=30).json()
    following = next(link for link in first["links"] if link["rel"] == "next")
    assert (following["method"], following["type"]) == ("POST", "application/geo+json")
    second = requests.post(following["href"], json=following["body"], timeout=30).json()
    assert len({item["id"] for item in first["features"] + second["features"]}) == 4
    for item in first["features"]:
        assert all(urlsplit(asset["href"]).scheme == "http" for asset in item["assets"].values())


READ_BY_GDAL = """
import sys
import pyogrio
place = f"OAPIF:{sys.argv[1]}"
assert {"demo", "other"} <= {name for name, _ in pyogrio.list_layers(place)}
frame = pyogrio.read_dataframe(place, layer="demo", PAGE_SIZE="2")
near = pyogrio.read_dataframe(place, layer="demo", bbox=(11.9, -90, 12.1, 90))
print(sorted(frame["id"]), sorted(near["id"]))
"""


def test_gdal_reads_it_as_ogc_api_features(url: str) -> None:
    """GDAL's driver of OGC API - Features, as QGIS and GeoPandas have it: layers, boxes, pages.

    In a process of its own: it holds Python's lock while it waits for the answers of this one.
    """
    command = [sys.executable, "-c", READ_BY_GDAL, url]
    read = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert read.stdout == "['a', 'b', 'c', 'd'] ['b']\n", read.stderr[-2000:]


def relations(document: dict[str, Any]) -> set[str]:
    return {link["rel"] for link in document["links"]}


def test_links_lead_on_from_everywhere(url: str) -> None:
    assert {"self", "root", "data", "search", "conformance", "service-desc", "similar"} <= relations(
        get(url, "").json()
    )
    assert {"self", "root", "parent", "items", "emb:model"} <= relations(get(url, "collections/demo").json())
    item = get(url, "collections/demo/items/b").json()
    assert {
        "self",
        "root",
        "parent",
        "collection",
        "history",
        "proof",
        "log-proof",
        "emb:model",
    } <= relations(item)
    own = [link for link in item["links"] if link["href"].startswith(url)]
    for link in own:
        assert requests.get(link["href"], timeout=30).status_code == 200, link


QUERIES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "eq": ({"eo:cloud_cover": {"eq": 12}}, ["b"]),
    "neq": ({"eo:cloud_cover": {"neq": 12}}, ["a", "c", "d"]),
    "a range": ({"eo:cloud_cover": {"gt": 11, "lte": 13}}, ["b", "c"]),
    "two properties": ({"eo:cloud_cover": {"gte": 13}, "platform": {"eq": "sentinel-2a"}}, ["c", "d"]),
    "startsWith": ({"title": {"startsWith": "drawn embeddings of b"}}, ["b"]),
    "endsWith": ({"title": {"endsWith": "of c"}}, ["c"]),
    "contains": ({"title": {"contains": "embeddings"}}, ["a", "b", "c", "d"]),
    "in": ({"eo:cloud_cover": {"in": [11, 14]}}, ["a", "d"]),
    "a percent sign is itself": ({"title": {"contains": "%"}}, []),
    "an underscore, too": ({"title": {"startsWith": "drawn_"}}, []),
}


@pytest.mark.parametrize("name", QUERIES)
def test_the_query_extension_has_all_its_operators(url: str, name: str) -> None:
    query, found = QUERIES[name]
    body = {"collections": ["demo"], "query": query, "sortby": [{"field": "id", "direction": "asc"}]}
    assert ids(requests.post(f"{url}/search", json=body, timeout=30)) == found
    text = {"query": json.dumps(query), "sortby": "id"}
    for path in ("search?collections=demo", "collections/demo/items"):
        assert ids(requests.get(f"{url}/{path}", params=text, timeout=30)) == found
    both = body | {"filter": {"op": "<", "args": [{"property": "eo:cloud_cover"}, 13]}}
    answer = requests.post(f"{url}/search", json=both, timeout=30)
    assert ids(answer) == [item for item in found if item in "ab"]


def test_the_description_has_every_route_and_its_refusals(url: str) -> None:
    paths = get(url, "api").json()["paths"]
    for path, operations in paths.items():
        for method, operation in operations.items():
            assert "422" not in operation["responses"], (method, path)
            assert "default" in operation["responses"], (method, path)
    body = paths["/search/similar"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["required"] == ["like"]


def test_a_method_that_is_not_served_says_which_are(url: str) -> None:
    answer = requests.delete(f"{url}/search", timeout=30)
    assert (answer.status_code, "GET" in answer.headers["allow"] or "POST" in answer.headers["allow"]) == (
        405,
        True,
    )
