"""A page of Items as clients get it, from what pgSTAC gives: whole again, with links, hrefs absolute.

pgSTAC leaves out what an Item shares with its collection's base item. It can fill that in itself, at six
times the cost; here a Rust library does, and links are put together by hand, a thousand Items in some
milliseconds.
"""

from typing import Any
from urllib.parse import urljoin

from hydraters import hydrate
from stac_fastapi.extensions.fields.request import PostFieldsExtension
from stac_fastapi.pgstac.utils import filter_fields

from eocat.verify.history import Status

from .documents import MODELS, item_path
from .item_view import STATUS

GEOJSON = "application/geo+json"
JSON = "application/json"
DEFAULT_FIELDS = frozenset(
    {"type", "stac_version", "id", "collection", "geometry", "bbox", "links", "assets", "properties.datetime"}
)
INFERRED = ("self", "item", "parent", "collection", "root", "items", "child")  # never the stored ones


def asked_fields(fields: PostFieldsExtension | None, *, posted: bool) -> tuple[set[str], set[str]]:
    """(include, exclude) of a search. posted: an `include` that is null or empty was really written so.

    Then `exclude` takes from the default set; without an `include` it takes from the whole Item (Fields
    Extension, "Include/Exclude Semantics", 3 and 4).
    """
    if fields is None:
        return set(), set()
    include, exclude = fields.include or set(), fields.exclude or set()
    if posted and exclude and not include and "include" in fields.model_fields_set:
        return set(DEFAULT_FIELDS - exclude), set()
    return include, exclude


def complete_item(
    item: dict[str, Any], base_item: dict[str, Any], base_url: str, include: set[str], exclude: set[str]
) -> dict[str, Any]:
    """One Item, hydrated, with the fields that were asked for. base_url: of the API, with its slash."""
    shared = {name: value for name, value in base_item.items() if value is not None}
    whole: dict[str, Any] = hydrate(shared, item, strip_unmatched_markers=True)
    collection, name = whole.get("collection"), whole.get("id")
    properties = whole.get("properties") or {}
    if "start_datetime" in properties:
        properties.setdefault("datetime", None)  # pgSTAC drops nulls, STAC wants this one
    for asset in (whole.get("assets") or {}).values():
        if asset.get("href", "").startswith("collections/"):
            asset["href"] = base_url + asset["href"]
    if collection and name and "links" not in exclude and (not include or "links" in include):
        withdrawn = properties.get(STATUS) == Status.WITHDRAWN.value
        whole["links"] = _links(collection, name, whole.get("links") or [], base_url, rows=not withdrawn)
    if include or exclude:
        whole = filter_fields(whole, include, exclude)
    return whole


def _links(
    collection: str, item: str, stored: list[dict[str, Any]], base_url: str, *, rows: bool
) -> list[dict[str, Any]]:
    """Of an Item. rows: whether the catalogue still has its rows, and so their proofs."""
    parent = f"{base_url}collections/{collection}"
    own = base_url + item_path(collection, item)
    links = [
        {"rel": "self", "type": GEOJSON, "href": own},
        {"rel": "parent", "type": JSON, "href": parent},
        {"rel": "collection", "type": JSON, "href": parent},
        {"rel": "root", "type": JSON, "href": base_url},
    ]
    links += [
        {**link, "href": _absolute(link["href"], base_url)} for link in stored if link["rel"] not in INFERRED
    ]
    if collection != MODELS:
        proofs = [
            ("history", "history", JSON, "Signed history"),
            ("proof", "rows/0/proof", GEOJSON, "Proof of the first row"),
            ("log-proof", "log-proof", JSON, "Place in the transparency log"),
        ]
        links += [
            {"rel": rel, "href": f"{own}/{path}", "type": kind, "title": title}
            for rel, path, kind, title in proofs
            if rows or rel != "proof"
        ]
    return links


def _absolute(href: str, base_url: str) -> str:
    if href.startswith("collections/"):  # what documents.py stores; the general way takes ten times as long
        return base_url + href
    return href if "://" in href[:12] else urljoin(base_url, href)
