"""projection.py: what is signed of an Item survives clients and mirrors, and an edit of it is named."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pystac
import pytest
from make_shard import Made, make_shard

from eocat.verify.errors import Malformed
from eocat.verify.projection import differences, project
from eocat.verify.statement import parse_statement

Item = dict[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_shard(tmp_path_factory.mktemp("projection") / "scene")


def changed(made: Made, item: Any) -> list[str]:
    return differences(parse_statement(made.payload).predicate.projection, project(item))


def edited(made: Made, edit: Callable[[Item], Any]) -> Item:
    item = deepcopy(made.item)
    edit(item)
    return item


def test_the_item_as_published_has_no_difference(made: Made) -> None:
    assert changed(made, made.item) == []


def test_a_round_trip_through_pystac_changes_nothing_signed(made: Made) -> None:
    item = pystac.Item.from_dict(made.item).to_dict(include_self_link=False)
    assert item["stac_version"] == "1.1.0"
    assert changed(made, item) == []


def test_pystac_rewrites_1_0_to_1_1_and_nothing_signed(made: Made) -> None:
    old = made.item | {"stac_version": "1.0.0"}
    new = pystac.Item.from_dict(deepcopy(old)).to_dict(include_self_link=False)
    assert new["stac_version"] != old["stac_version"]
    assert changed(made, new) == changed(made, old) == []


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-01T09:30:31Z", "2024-05-01T09:30:31.000000Z", "2024-05-01T09:30:31.000000000Z",
        "2024-05-01T09:30:31+00:00", "2024-05-01T11:30:31+02:00", "2024-05-01T00:00:31.0-09:30",
        "2024-05-01T09:30:31-00:00", "2024-05-01 09:30:31Z", "2024-05-01t09:30:31z",
    ],
)  # fmt: skip
def test_a_time_may_be_spelled_as_clients_do(made: Made, text: str) -> None:
    assert changed(made, edited(made, lambda item: item["properties"].update(start_datetime=text))) == []


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-01T09:30:31", "2024-05-01", "20240501T093031Z", "2024-W18-3T09:30:31Z", "1714555831",
        1714555831,
        "2024-05-01T09:30:31.0000001Z", "2024-05-01T09:30:31,0Z", "2024-05-01T09:30Z", "2024-05-01T24:00:00Z",
        "2024-05-01T09:30:31+00:00:00", "", [], True, "٢024-05-01T09:30:31Z",
    ],
)  # fmt: skip
def test_a_time_that_could_be_read_in_two_ways_is_refused(made: Made, text: Any) -> None:
    with pytest.raises(Malformed, match="time"):
        changed(made, edited(made, lambda item: item["properties"].update(start_datetime=text)))


SIGNED: dict[str, Callable[[Item], Any]] = {
    "id": lambda item: item.update(id="other"),
    "collection": lambda item: item.update(collection="other"),
    "geometry": lambda item: item["geometry"]["coordinates"][0][1].__setitem__(0, 11.050000001),
    "bbox": lambda item: item["bbox"].__setitem__(2, 11.06),
    "datetime": lambda item: item["properties"].update(datetime="2024-05-01T09:30:31Z"),
    "start_datetime": lambda item: item["properties"].update(start_datetime="2024-05-01T09:30:31.000001Z"),
    "end_datetime": lambda item: item["properties"].update(end_datetime=None),
    "rows": lambda item: item["properties"].update({"table:row_count": 6}),
    "space": lambda item: item["properties"].update({"eocat:space": "00" * 32}),
    "assets.embeddings": lambda item: item["assets"]["embeddings"].update(
        {"file:checksum": "1220" + "00" * 32}
    ),
    "assets.row-hashes": lambda item: item["assets"]["row-hashes"].update({"file:size": 1}),
    "assets.thumbnail": lambda item: item["assets"].pop("thumbnail"),
    "assets.extra": lambda item: item["assets"].update(extra=item["assets"]["thumbnail"]),
}


@pytest.mark.parametrize("name", SIGNED)
def test_an_edit_of_a_signed_member_is_named(made: Made, name: str) -> None:
    assert changed(made, edited(made, SIGNED[name])) == [name]


@pytest.mark.parametrize("member", ["eocat:row_root", "eocat:dtype", "eocat:dimension"])
def test_every_part_of_the_rows_is_signed(made: Made, member: str) -> None:
    other = {"eocat:row_root": "00" * 32, "eocat:dtype": "float32", "eocat:dimension": 8}[member]
    assert changed(made, edited(made, lambda item: item["properties"].update({member: other}))) == ["rows"]


@pytest.mark.parametrize("member", ["type", "roles"])
def test_media_type_and_roles_of_an_asset_are_signed(made: Made, member: str) -> None:
    other = {"type": "text/html", "roles": ["data", "metadata"]}[member]
    item = edited(made, lambda item: item["assets"]["thumbnail"].update({member: other}))
    assert changed(made, item) == ["assets.thumbnail"]


def test_all_differences_are_named(made: Made) -> None:
    def edit(item: Item) -> None:
        for name in ("space", "bbox", "assets.thumbnail"):
            SIGNED[name](item)

    assert changed(made, edited(made, edit)) == ["assets.thumbnail", "bbox", "space"]


FREE: dict[str, Callable[[Item], Any]] = {
    "hrefs": lambda item: [
        asset.update(href="https://mirror.example/x") for asset in item["assets"].values()
    ],
    "links": lambda item: item.update(links=[{"rel": "self", "href": "https://mirror.example"}]),
    "titles": lambda item: item["assets"]["thumbnail"].update(title="Another"),
    "properties": lambda item: item["properties"].update({"eo:cloud_cover": 99, "title": "Another"}),
    "attestation": lambda item: item["assets"]["attestation"].update(href="./other.jsonl", roles=["data"]),
    "extensions": lambda item: item.update(stac_extensions=["https://example.org/x.json"]),
    "order of roles": lambda item: item["assets"]["thumbnail"]["roles"].reverse(),
    "integers as floats": lambda item: item.update(bbox=[11, 46.0, 11.05, 46.05]),
}


@pytest.mark.parametrize("name", FREE)
def test_the_rest_of_an_item_is_free(made: Made, name: str) -> None:
    assert changed(made, edited(made, FREE[name])) == []


@pytest.mark.parametrize(
    "item", [None, [], "x", 5, {}, {"type": "Feature"}, {"type": "Feature", "properties": [], "assets": {}}]
)
def test_what_is_no_item_is_refused(item: Any) -> None:
    with pytest.raises(Malformed, match="not a STAC Item"):
        project(item)


UNREADABLE: dict[str, Callable[[Item], Any]] = {
    "no geometry": lambda item: item.update(geometry=None),
    "a point": lambda item: item.update(geometry={"type": "Point", "coordinates": [0, 0]}),
    "foreign member": lambda item: item["geometry"].update(crs="EPSG:32633"),
    "no checksum": lambda item: item["assets"]["thumbnail"].pop("file:checksum"),
    "MD5": lambda item: item["assets"]["thumbnail"].update({"file:checksum": "d50110" + "00" * 16}),
    "BLAKE3": lambda item: item["assets"]["thumbnail"].update({"file:checksum": "1e20" + "00" * 32}),
    "float size": lambda item: item["assets"]["thumbnail"].update({"file:size": 27.0}),
    "boolean size": lambda item: item["assets"]["thumbnail"].update({"file:size": True}),
    "no roles": lambda item: item["assets"]["thumbnail"].pop("roles"),
    "no list of roles": lambda item: item["assets"]["thumbnail"].update(roles="thumbnail"),
    "asset of text": lambda item: item["assets"].update(thumbnail="x"),
    "asset key": lambda item: item["assets"].update({"../x": item["assets"]["thumbnail"]}),
    "id": lambda item: item.update(id="a/b"),
    "confusable id": lambda item: item.update(id="ѕcene"),
    "bbox of six": lambda item: item.update(bbox=[0, 0, 0, 1, 1, 1]),
    "no rows": lambda item: item["properties"].pop("table:row_count"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_projected_is_refused(made: Made, name: str) -> None:
    with pytest.raises(Malformed, match="^(item|geometry|multihash)"):
        project(edited(made, UNREADABLE[name]))
