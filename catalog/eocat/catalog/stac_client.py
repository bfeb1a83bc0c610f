"""STAC's own endpoints: stac-fastapi-pgstac's client, with what we serve otherwise.

Items are hydrated here rather than in the database and answered as ready bytes (4 to 6 times faster pages);
links and asset hrefs are made absolute in one hook, which search, items and item share; filters are bounded
and boxes brought to what pgSTAC understands before it sees them.
"""

from typing import Any

import attr
import orjson
from fastapi import Request
from fastapi.responses import Response
from geojson_pydantic import MultiPolygon
from stac_fastapi.pgstac.core import CoreCrudClient
from stac_fastapi.pgstac.types.search import PgstacSearch
from stac_fastapi.types.requests import get_base_url

from eocat.verify.errors import Malformed

from .cql2 import check_filter, parse_filter
from .documents import MODELS, item_path
from .query import check_geometry, split_bbox
from .queryables import check_properties
from .routes import GEOJSON, SIMILARITY

# What is served beyond what the library says: pystac-client 0.9 knows sort by 1.0 only, newer ones by 1.1.
CONFORMANCE = [
    SIMILARITY,
    "http://www.opengis.net/spec/cql2/1.0/conf/basic-spatial-functions",
    "https://api.stacspec.org/v1.0.0/item-search#sort",
    "https://api.stacspec.org/v1.0.0/ogcapi-features#sort",
]


@attr.s
class StacClient(CoreCrudClient):  # type: ignore[misc]  # the library ships no types
    """The catalogue's client. Answers about Items are GeoJSON bytes, never models."""

    def conformance_classes(self) -> list[str]:
        return sorted({*super().conformance_classes(), *CONFORMANCE})

    async def landing_page(self, **kwargs: Any) -> Any:
        page = await super().landing_page(**kwargs)
        href = f"{get_base_url(kwargs['request'])}search/similar"
        for method in ("POST", "GET"):
            link = {
                "rel": "similar",
                "type": GEOJSON,
                "title": "Nearest rows",
                "href": href,
                "method": method,
            }
            page["links"].append(link)
        return page

    async def post_search(self, search_request: PgstacSearch, request: Request, **kwargs: Any) -> Response:
        return _geojson(await super().post_search(search_request, request=request, **kwargs))

    async def get_search(self, request: Request, **kwargs: Any) -> Response:
        return _geojson(await super().get_search(request=request, **_bounded(kwargs)))

    async def item_collection(self, collection_id: str, request: Request, **kwargs: Any) -> Response:
        return _geojson(await super().item_collection(collection_id, request=request, **_bounded(kwargs)))

    async def get_item(self, item_id: str, collection_id: str, request: Request, **kwargs: Any) -> Response:
        return _geojson(await super().get_item(item_id, collection_id, request=request, **kwargs))

    async def all_collections(self, request: Request, **kwargs: Any) -> Any:
        return await super().all_collections(request=request, **_bounded(kwargs))

    async def _search_base(self, search_request: PgstacSearch, request: Request) -> Any:
        """The hook: before pgSTAC the request is bounded, after it the Items get their links."""
        search_request.conf = None  # pgSTAC's own switches are not for callers
        if (given := getattr(search_request, "filter_expr", None)) is not None:
            check_filter(given)
            async with request.app.state.get_connection(request, "r") as connection:
                await check_properties(connection, given, search_request.collections)
        if search_request.intersects is not None:
            _refuse_value_error(check_geometry, search_request.intersects.model_dump())
        if search_request.bbox is not None:
            _flatten_box(search_request)
        found = await super()._search_base(search_request, request=request)
        for item in found["features"]:
            _complete(item, get_base_url(request))
        return found


def new_client(search_model: type[PgstacSearch]) -> StacClient:
    build: Any = StacClient  # attrs makes its __init__ from a base that ships no types
    client: StacClient = build(pgstac_search_model=search_model, landing_page_id="eocat")
    return client


def _bounded(arguments: dict[str, Any]) -> dict[str, Any]:
    """Query parameters with the filter checked and as CQL2 JSON: the library parses text without bounds."""
    text, language = arguments.get("filter_expr"), arguments.get("filter_lang")
    if text is None:
        return arguments
    value = text if language in (None, "cql2-text") else _refuse_value_error(orjson.loads, text)
    parsed = parse_filter(value, language)
    return {**arguments, "filter_expr": orjson.dumps(parsed).decode(), "filter_lang": "cql2-json"}


def _refuse_value_error(check: Any, value: Any) -> Any:
    try:
        return check(value)
    except ValueError as error:
        raise Malformed(str(error)) from None


def _flatten_box(search: PgstacSearch) -> None:
    """Drop heights, and turn a box across the antimeridian into two: pgSTAC reads neither."""
    boxes = _refuse_value_error(split_bbox, list(search.bbox))
    if len(boxes) == 1:
        search.bbox = boxes[0]
        return
    search.bbox = None
    search.intersects = MultiPolygon(
        type="MultiPolygon",
        coordinates=[[[(w, s), (e, s), (e, n), (w, n), (w, s)]] for w, s, e, n in boxes],
    )


def _complete(item: dict[str, Any], base_url: str) -> None:
    """Make asset hrefs absolute, and add links to the Item's history and proof unless `fields` drops them."""
    if "start_datetime" in item.get("properties", {}):
        item["properties"].setdefault("datetime", None)  # pgSTAC drops nulls, STAC wants this one
    if "start_datetime" in item.get("properties", {}):
        item["properties"].setdefault("datetime", None)  # pgSTAC drops nulls, STAC wants this one
    for asset in item.get("assets", {}).values():
        if asset.get("href", "").startswith("collections/"):
            asset["href"] = base_url + asset["href"]
    if "links" in item and item.get("collection") not in (None, MODELS):
        own = base_url + item_path(item["collection"], item["id"])
        item["links"] += [
            {
                "rel": "history",
                "href": f"{own}/history",
                "type": "application/json",
                "title": "Signed history",
            },
            {
                "rel": "proof",
                "href": f"{own}/rows/0/proof",
                "type": GEOJSON,
                "title": "Proof of the first row",
            },
            {
                "rel": "log-proof",
                "href": f"{own}/log-proof",
                "type": "application/json",
                "title": "Place in the transparency log",
            },
        ]


def _geojson(value: Any) -> Response:
    if isinstance(value, Response):  # with `fields`, the library has made one
        value.headers["content-type"] = GEOJSON
        return value
    return Response(orjson.dumps(value), media_type=GEOJSON)
