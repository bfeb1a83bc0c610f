"""Each class that `/conformance` names is held to by the live API; one without a check fails."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from catalogue import new_database, running
from log_world import LogWorld

from eocat.catalog.database import Database

FEATURES, COMMON = (
    "http://www.opengis.net/spec/ogcapi-features-",
    "http://www.opengis.net/spec/ogcapi-common-2",
)
CQL2, STAC = "http://www.opengis.net/spec/cql2/1.0/conf/", "https://api.stacspec.org/v1.0.0"
ITEM_SEARCH, ITEMS = f"{STAC}/item-search", f"{STAC}/ogcapi-features"
COLLECTION_SEARCH = "https://api.stacspec.org/v1.0.0-rc.1/collection-search"
GEOJSON = "application/geo+json"
BOX = {"type": "Polygon", "coordinates": [[[10.9, 40], [11.9, 40], [11.9, 50], [10.9, 50], [10.9, 40]]]}


@pytest.fixture(scope="module")
def url(embedded: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Items a, b and c of `demo`, eastward from 11°, with 10, 20 and 30 % of clouds, and x of `other`."""
    with new_database(embedded) as database:
        world = LogWorld(database, tmp_path_factory.mktemp("out"))
        for number, item in enumerate("abc"):
            world.add(item, seed=number, west=11.0 + number, properties={"eo:cloud_cover": 10 + 10 * number})
        world.add("x", "other", seed=9, west=15.0)
        with running(database) as address:
            yield address


class Api:
    """The live API. Answers are 200, else the test fails with what was said."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **query: Any) -> Any:
        return self._json(requests.get(f"{self.url}/{path}", params=query, timeout=30))

    def post(self, path: str, **body: Any) -> Any:
        return self._json(requests.post(f"{self.url}/{path}", json=body, timeout=30))

    def ids(self, path: str, **query: Any) -> list[str]:
        return ids(self.get(path, **query))

    def _json(self, answer: requests.Response) -> Any:
        assert answer.status_code == 200, answer.text
        return answer.json()


def ids(page: Any) -> list[str]:
    return [one["id"] for one in page["features" if "features" in page else "collections"]]


def link(document: Any, rel: str) -> Any:
    [found] = [one for one in document["links"] if one["rel"] == rel and one.get("method", "GET") == "GET"]
    return found


CHECKS: dict[str, Callable[[Api], None]] = {}


def holds(*uris: str) -> Callable[[Callable[[Api], None]], Callable[[Api], None]]:
    """What follows is the behaviour of these classes."""

    def note(check: Callable[[Api], None]) -> Callable[[Api], None]:
        assert not CHECKS.keys() & set(uris)
        CHECKS.update(dict.fromkeys(uris, check))
        return check

    return note


@holds(f"{STAC}/core")
def landing_page_leads_on(api: Api) -> None:
    page = api.get("")
    assert (page["type"], page["stac_version"]) == ("Catalog", "1.1.0")
    for rel in ("root", "self", "service-desc", "service-doc"):
        assert requests.get(link(page, rel)["href"], timeout=30).status_code == 200, rel


@holds(f"{STAC}/collections")
def collections_are_listed_and_each_has_an_address(api: Api) -> None:
    listed = {one["id"]: one for one in api.get("collections")["collections"]}
    assert {"demo", "other"} <= listed.keys()
    assert requests.get(link(listed["demo"], "self")["href"], timeout=30).json()["id"] == "demo"
    assert requests.get(f"{api.url}/collections/absent", timeout=30).status_code == 404


@holds(ITEM_SEARCH)
def items_are_searched_by_get_and_post_and_come_in_pages(api: Api) -> None:
    assert api.ids("search", collections="demo", bbox="10.9,40,11.9,50") == ["a"]
    assert ids(api.post("search", collections=["demo"], intersects=BOX)) == ["a"]
    assert ids(api.post("search", ids=["b", "x"])) == ids(api.post("search", ids=["x", "b"]))
    found, page = [], api.get("search", collections="demo", limit=2)
    while True:
        found += ids(page)
        if not any(one["rel"] == "next" for one in page["links"]):
            break
        page = requests.get(link(page, "next")["href"], timeout=30).json()
    assert sorted(found) == ["a", "b", "c"]


@holds(ITEMS, f"{FEATURES}1/1.0/conf/core")
def a_collection_s_items_are_selected_by_place_time_and_limit(api: Api) -> None:
    place = "collections/demo/items"
    assert sorted(api.ids(place)) == ["a", "b", "c"]
    assert api.ids(place, bbox="10.9,40,11.9,50") == ["a"]
    assert api.ids(place, datetime="1999-01-01T00:00:00Z/2000-01-01T00:00:00Z") == []
    page = api.get(place, limit=1)
    assert (page["numberReturned"], page["numberMatched"]) == (1, 3)
    assert api.get(f"{place}/b")["id"] == "b"
    assert requests.get(f"{api.url}/{place}", params={"bbox": "1,2,3"}, timeout=30).status_code == 400


@holds(f"{FEATURES}1/1.0/conf/geojson")
def features_are_geojson(api: Api) -> None:
    for path, kind in (
        ("collections/demo/items", "FeatureCollection"),
        ("collections/demo/items/a", "Feature"),
    ):
        answer = requests.get(f"{api.url}/{path}", timeout=30)
        assert answer.headers["content-type"] == GEOJSON
        assert answer.json()["type"] == kind


@holds(f"{FEATURES}1/1.0/conf/oas30")
def the_api_is_described_by_openapi(api: Api) -> None:
    described = requests.get(link(api.get(""), "service-desc")["href"], timeout=30)
    assert described.headers["content-type"] == "application/vnd.oai.openapi+json;version=3.0"
    assert described.json()["openapi"].startswith("3.")
    assert {"/search", "/collections/{collection_id}/items", "/conformance"} <= described.json()[
        "paths"
    ].keys()


@holds(f"{FEATURES}3/1.0/conf/filter")
def filters_are_taken_and_queryables_say_by_what(api: Api) -> None:
    schema = api.get("collections/demo/queryables")
    assert "eo:cloud_cover" in schema["properties"]
    assert schema["type"] == "object"
    assert api.ids("collections/demo/items", filter='"eo:cloud_cover" < 15') == ["a"]
    unknown = requests.get(f"{api.url}/search", params={"filter": "nothing_of_the_kind = 1"}, timeout=30)
    assert unknown.status_code == 400


@holds(f"{FEATURES}3/1.0/conf/features-filter")
def features_are_filtered(api: Api) -> None:
    assert api.ids(
        "collections/demo/items", filter='"eo:cloud_cover" > 25', **{"filter-lang": "cql2-text"}
    ) == ["c"]


@holds("https://api.stacspec.org/v1.0.0-rc.2/item-search#filter")
def a_search_is_filtered_by_get_and_post(api: Api) -> None:
    over = {"op": ">", "args": [{"property": "eo:cloud_cover"}, 15]}
    assert sorted(api.ids("search", filter='"eo:cloud_cover" > 15')) == ["b", "c"]
    assert sorted(ids(api.post("search", filter=over, **{"filter-lang": "cql2-json"}))) == ["b", "c"]


@holds(f"{CQL2}cql2-text")
def cql2_is_read_as_text(api: Api) -> None:
    filter_ = "collection = 'demo' AND (id = 'a' OR NOT \"eo:cloud_cover\" <= 25)"
    assert sorted(api.ids("search", filter=filter_, **{"filter-lang": "cql2-text"})) == ["a", "c"]


@holds(f"{CQL2}cql2-json")
def cql2_is_read_as_json(api: Api) -> None:
    filter_ = {"op": "=", "args": [{"property": "id"}, "b"]}
    assert ids(api.post("search", filter=filter_, **{"filter-lang": "cql2-json"})) == ["b"]
    assert api.ids("search", filter=json.dumps(filter_), **{"filter-lang": "cql2-json"}) == ["b"]


@holds(f"{CQL2}basic-cql2")
def cql2_has_its_comparisons_and_logic(api: Api) -> None:
    for filter_, found in {
        "\"eo:cloud_cover\" = 20": ["b"], "\"eo:cloud_cover\" <> 20": ["a", "c"],
        "\"eo:cloud_cover\" < 20": ["a"], "\"eo:cloud_cover\" <= 20": ["a", "b"],
        "\"eo:cloud_cover\" > 20": ["c"], "\"eo:cloud_cover\" >= 20": ["b", "c"],
        "\"eo:cloud_cover\" IS NULL": [], "NOT (id = 'a')": ["b", "c"],
        "id = 'a' OR id = 'c'": ["a", "c"], "id = 'a' AND id = 'c'": [],
    }.items():  # fmt: skip
        assert sorted(api.ids("search", collections="demo", filter=filter_)) == found, filter_


@holds(f"{CQL2}basic-spatial-functions")
def cql2_has_s_intersects(api: Api) -> None:
    filter_ = "S_INTERSECTS(geometry, POLYGON((10.9 40, 11.9 40, 11.9 50, 10.9 50, 10.9 40)))"
    assert api.ids("search", filter=filter_) == ["a"]
    as_json = {"op": "s_intersects", "args": [{"property": "geometry"}, BOX]}
    assert ids(api.post("search", filter=as_json, **{"filter-lang": "cql2-json"})) == ["a"]


@holds(f"{ITEM_SEARCH}#fields", f"{ITEMS}#fields")
def fields_are_chosen(api: Api) -> None:
    for path in ("search", "collections/demo/items"):
        [item] = api.get(path, fields="id,properties.eo:cloud_cover", filter="id='a'")["features"]
        assert item["properties"]["eo:cloud_cover"] == 10
        assert "assets" not in item
        [item] = api.get(path, fields="-assets", filter="id='a'")["features"]
        assert "assets" not in item
        assert item["bbox"]


@holds(f"{ITEM_SEARCH}#sort", f"{ITEMS}#sort", "https://api.stacspec.org/v1.1.0/item-search#sort",
       "https://api.stacspec.org/v1.1.0/ogcapi-features#sort")  # fmt: skip
def items_are_sorted(api: Api) -> None:
    for path in ("search", "collections/demo/items"):
        assert api.ids(path, sortby="-properties.eo:cloud_cover", filter="collection='demo'") == [
            "c",
            "b",
            "a",
        ]
        assert api.ids(path, sortby="+eo:cloud_cover", filter="collection='demo'") == ["a", "b", "c"]
    order = [{"field": "id", "direction": "desc"}]
    assert ids(api.post("search", collections=["demo"], sortby=order)) == ["c", "b", "a"]


@holds(f"{ITEM_SEARCH}#query", f"{ITEMS}#query")
def items_are_queried(api: Api) -> None:
    query = {"eo:cloud_cover": {"gt": 15, "lt": 25}}
    assert ids(api.post("search", query=query)) == ["b"]
    for path in ("search", "collections/demo/items"):
        assert api.ids(path, query=json.dumps(query)) == ["b"]


@holds(COLLECTION_SEARCH, f"{COMMON}/1.0/conf/simple-query")
def collections_are_searched_by_place_time_and_limit(api: Api) -> None:
    found = api.ids("collections", bbox="14.9,40,15.9,50")
    assert "other" in found
    assert "demo" not in found
    assert "demo" not in api.ids("collections", datetime="1999-01-01T00:00:00Z/2000-01-01T00:00:00Z")
    assert api.get("collections", limit=1)["numberReturned"] == 1


@holds(f"{COLLECTION_SEARCH}#fields")
def fields_of_collections_are_chosen(api: Api) -> None:
    for one in api.get("collections", fields="id,title")["collections"]:
        assert "extent" not in one
        assert one["id"]


@holds(f"{COLLECTION_SEARCH}#filter")
def collections_are_filtered(api: Api) -> None:
    assert api.ids("collections", filter="id = 'other'") == ["other"]


@holds(f"{COLLECTION_SEARCH}#query")
def collections_are_queried(api: Api) -> None:
    assert api.ids("collections", query=json.dumps({"id": {"eq": "other"}})) == ["other"]


@holds(f"{COLLECTION_SEARCH}#free-text")
def collections_are_found_by_text(api: Api) -> None:
    assert api.ids("collections", q="MLM") == ["models"]
    assert api.ids("collections", q="nothing-like-this-anywhere") == []


@holds("https://api.stacspec.org/v1.1.0/collection-search#sort")
def collections_are_sorted(api: Api) -> None:
    rising = api.ids("collections", sortby="id")
    assert rising == sorted(rising)
    assert api.ids("collections", sortby="-id") == rising[::-1]


@holds("urn:eocat:similarity:v1")
def rows_are_found_by_similarity(api: Api) -> None:
    answer = api.post("search/similar", like={"collection": "demo", "item": "b", "row": 2}, limit=2)
    assert answer["features"][0]["properties"]["item"] == "b"
    assert answer["features"][0]["properties"]["distance"] == pytest.approx(0, abs=1e-5)
    assert (answer["numberReturned"], answer["method"]) == (2, "exact")


def test_every_class_that_is_promised_has_a_check_here(url: str) -> None:
    promised = Api(url).get("conformance")["conformsTo"]
    assert len(promised) == len(set(promised))
    assert set(promised) == CHECKS.keys()


@pytest.mark.parametrize("uri", sorted(CHECKS))
def test_a_class_is_held_to(url: str, uri: str) -> None:
    CHECKS[uri](Api(url))
