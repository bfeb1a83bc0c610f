"""`similar(…)` in a filter, asked by an unmodified pystac-client: Items by their nearest row."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from catalogue import new_database, running
from pystac_client import Client
from shard_maker import DrawnEncoder, draw_vectors, new_signer, policy_for, write_shard

from eocat.catalog.admission import register

DIMENSION, ITEMS = 8, 4


@pytest.fixture(scope="module")
def site(embedded: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any]]:
    """Four items of 30 rows, 10° apart; item i0 is asked for."""
    out, signer = tmp_path_factory.mktemp("out"), new_signer()
    vectors = [draw_vectors(30, DIMENSION, seed=number, clusters=3) for number in range(ITEMS)]
    for number, drawn in enumerate(vectors):
        write_shard(
            out, "demo", f"i{number}", signer=signer, encoder=DrawnEncoder(dimension=DIMENSION),
            vectors=drawn, west=10.0 * number, properties={"platform": "a" if number % 2 else "b"},
        )  # fmt: skip
    with new_database(embedded) as database:
        register(database, [out], policy_for(signer))
        with running(database) as url:
            yield url, vectors


def nearest(url: str, **request: Any) -> list[str]:
    """Items in the order of their nearest rows, from the answer with rows."""
    like = {"collection": "demo", "item": "i0", "row": 3}
    answer = requests.post(f"{url}/search/similar", json={"like": like, "limit": 120, **request}, timeout=30)
    return list(dict.fromkeys(feature["properties"]["item"] for feature in answer.json()["features"]))


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_items_come_in_the_order_of_their_nearest_row(site: Any, method: str) -> None:
    url, _ = site
    found = Client.open(url).search(method=method, filter="similar('demo/i0/3', 120)", limit=10)
    items = list(found.items())
    assert [item.id for item in items] == nearest(url)
    assert items[0].properties["eocat:row"] == 3
    distances = [item.properties["eocat:distance"] for item in items]
    assert distances == sorted(distances)
    assert found.matched() == ITEMS
    path = f"{url}/collections/demo/items"
    page = requests.get(path, params={"filter": "similar('demo/i0/3', 120)"}, timeout=30).json()
    assert [item["id"] for item in page["features"]] == [item.id for item in items]


def test_the_rest_of_the_search_filters_the_rows(site: Any) -> None:
    url, vectors = site
    client = Client.open(url)
    asked: dict[str, Any] = {
        "op": "and",
        "args": [
            {"op": "similar", "args": [[float(x) for x in vectors[0][3]], 120]},
            {"op": "=", "args": [{"property": "platform"}, "a"]},
        ],
    }
    items = list(client.search(filter=asked).items())
    assert [item.id for item in items] == nearest(url, filter="platform = 'a'")
    assert {item.id for item in items} == {"i1", "i3"}
    boxed = client.search(filter="similar('demo/i0/3', 120)", bbox=[9, 40, 21, 50], collections=["demo"])
    assert [item.id for item in boxed.items()] == nearest(url, bbox=[9, 40, 21, 50])
    assert [item.id for item in client.search(filter="similar('0.05,46.05')", max_items=1).items()] == ["i0"]
    assert list(client.search(filter="similar('demo/i0/3')", datetime="1999-01-01/1999-02-01").items()) == []


@pytest.mark.parametrize(
    "asked",
    [
        {"op": "not", "args": [{"op": "similar", "args": ["demo/i0/3"]}]},
        {"op": "and", "args": [{"op": "similar", "args": ["demo/i0/3"]}] * 2},
        {"op": "similar", "args": []},
        {"op": "similar", "args": ["demo/i0/3", 5000]},
        {"op": "similar", "args": ["demo"]},
        {"op": "similar", "args": [{"property": "platform"}]},
        {"op": "similar", "args": [[1.0, 2.0]]},
        {"op": "similar", "args": ["demo/i0/3", 10, 10]},
    ],
)
def test_what_similar_cannot_mean_is_refused_in_a_sentence(site: Any, asked: dict[str, Any]) -> None:
    url, _ = site
    answer = requests.post(f"{url}/search", json={"filter": asked, "filter-lang": "cql2-json"}, timeout=30)
    assert answer.status_code == 400, answer.text
    assert set(answer.json()) == {"code", "description"}
    assert requests.post(
        f"{url}/search/similar", timeout=30,
        json={"like": {"point": [0, 0]}, "filter": asked, "filter-lang": "cql2-json"},
    ).status_code == 400  # fmt: skip


def test_an_order_of_another_kind_is_refused(site: Any) -> None:
    url, _ = site
    request = {"filter": {"op": "similar", "args": ["demo/i0/3"]}, "filter-lang": "cql2-json",
               "sortby": [{"field": "datetime", "direction": "asc"}]}  # fmt: skip
    assert requests.post(f"{url}/search", json=request, timeout=30).status_code == 400
