"""STAC's own endpoints: stac-fastapi-pgstac's client, with what we serve otherwise.

One hook, which search, items and item share, bounds filters and brings boxes to what pgSTAC understands
before it sees them, and completes Items after it (item_page.py); they are answered as ready bytes.
"""

from typing import Any

import attr
import orjson
from asyncpg import Connection
from fastapi import Request
from fastapi.responses import Response
from geojson_pydantic import MultiPolygon
from stac_fastapi.pgstac.core import CoreCrudClient
from stac_fastapi.pgstac.models.links import PagingLinks
from stac_fastapi.pgstac.types.search import PgstacSearch
from stac_fastapi.types.requests import get_base_url
from starlette.concurrency import run_in_threadpool

from eocat.verify.errors import Malformed

from .cql2 import check_filter, parse_filter
from .geoparquet import MEDIA_TYPE as PARQUET
from .geoparquet import accepts_parquet, format_items
from .item_page import GEOJSON, asked_fields, complete_item
from .item_view import PREDECESSOR, SUCCESSOR
from .landing import landing_html, prefers_html
from .nearest_items import Ranked, in_order, rank_items, restrict, split_similar
from .query import check_geometry, split_bbox
from .query_extension import parse_query, with_query
from .queryables import check_properties
from .routes import SIMILARITY

# What is served beyond what the library says: pystac-client 0.9 knows sort by 1.0 only, newer ones by 1.1.
CONFORMANCE = [
    SIMILARITY,
    "http://www.opengis.net/spec/cql2/1.0/conf/basic-spatial-functions",
    "https://api.stacspec.org/v1.0.0/item-search#sort",
    "https://api.stacspec.org/v1.0.0/ogcapi-features#sort",
]


NONE_FOUND: dict[str, Any] = {
    "type": "FeatureCollection", "features": [], "links": [], "numberMatched": 0, "numberReturned": 0
}  # fmt: skip

HELD = """
SELECT c.id, pgstac.get_collection(c.id) ->> 'title' AS title, c.encoder,
       count(s.shard_id) AS items, coalesce(sum(s.row_count), 0)::bigint AS rows
  FROM eocat.collection c LEFT JOIN eocat.shard s ON s.collection = c.id AND s.status <> 'withdrawn'
 GROUP BY c.id ORDER BY c.id
"""


@attr.s
class StacClient(CoreCrudClient):  # type: ignore[misc]  # the library ships no types
    """The catalogue's client. Answers about Items are GeoJSON bytes, never models."""

    def conformance_classes(self) -> list[str]:
        return sorted({*super().conformance_classes(), *CONFORMANCE})

    async def landing_page(self, **kwargs: Any) -> Any:
        request = kwargs["request"]
        if prefers_html(request.headers.get("accept", "")):
            async with request.app.state.get_connection(request, "r") as connection:
                held = await connection.fetch(HELD)
            return landing_html(get_base_url(request), [dict(record) for record in held])
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
        own = search_request.filter_expr
        if own is not None:
            check_filter(own, similar=True)
        search_request.filter_expr = with_query(own, search_request.query)
        search_request.query = None
        return await _page(request, await super().post_search(search_request, request=request, **kwargs))

    async def get_search(self, request: Request, **kwargs: Any) -> Response:
        return await _page(
            request, await super().get_search(request=request, **_bounded(kwargs, similar=True))
        )

    async def item_collection(self, collection_id: str, request: Request, **kwargs: Any) -> Response:
        bounded = _bounded(kwargs, similar=True)
        found = await super().item_collection(collection_id, request=request, **bounded)
        return await _page(request, found)

    async def get_item(self, item_id: str, collection_id: str, request: Request, **kwargs: Any) -> Response:
        item = await super().get_item(item_id, collection_id, request=request, **kwargs)
        return Response(orjson.dumps(item), media_type=GEOJSON, headers=_versions(item))

    async def all_collections(self, request: Request, **kwargs: Any) -> Any:
        return await super().all_collections(request=request, **_bounded(kwargs))

    async def _search_base(self, search_request: PgstacSearch, request: Request) -> Any:
        """The hook: before pgSTAC the request is bounded, after it the Items get their links."""
        search_request.conf = None  # pgSTAC's own switches are not for callers
        limit, ranked = search_request.limit, await self._ranked(search_request, request)
        if ranked is not None and not ranked:
            return NONE_FOUND
        if (given := getattr(search_request, "filter_expr", None)) is not None:
            check_filter(given, any_pattern=True)  # where it is the caller's own, it was held to less
            async with request.app.state.get_connection(request, "r") as connection:
                await check_properties(connection, given, search_request.collections)
        if search_request.intersects is not None:
            _refuse_value_error(check_geometry, search_request.intersects.model_dump())
        if search_request.bbox is not None:
            _flatten_box(search_request)
        async with request.app.state.get_connection(request, "r") as connection:
            if search_request.collections is None and search_request.ids is None:
                search_request.collections = await _embedded_collections(connection)
            search_request.conf = {"nohydrate": True}
            asked = search_request.model_dump_json(exclude_none=True, by_alias=True)
            found = await connection.fetchval("SELECT * FROM search($1::text::jsonb)", asked)
        fields = getattr(search_request, "fields", None)
        include, exclude = asked_fields(fields, posted=request.method == "POST")
        base_url = get_base_url(request)
        features = [
            complete_item(item, item.pop("pgstac:base_item", {}), base_url, include, exclude)
            for item in found["features"]
        ]
        if ranked is not None:
            features = in_order(features, ranked, limit)
            found |= {"numberMatched": len(ranked), "numberReturned": len(features), "links": []}
        tokens = {link["rel"]: link["href"].partition(f"token={link['rel']}:")[2] for link in found["links"]}
        links = PagingLinks(request=request, next=tokens.get("next"), prev=tokens.get("prev"))
        return {**found, "features": features, "links": await links.get_links()}

    async def _ranked(self, search: PgstacSearch, request: Request) -> Ranked | None:
        """The Items nearest to what `similar` in the filter names; the search is restricted to them."""
        if (given := getattr(search, "filter_expr", None)) is None:
            return None
        arguments, rest = split_similar(given)
        if arguments is None:
            return None
        async with (
            request.app.state.get_connection(request, "r") as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            ranked = await rank_items(connection, arguments, search, rest)
        restrict(search, ranked)
        return ranked


async def _embedded_collections(connection: Connection) -> list[str] | None:
    """Where a search looks that names neither collections nor ids: encoders are found by asking for them."""
    found: list[str] = await connection.fetchval("SELECT array_agg(id) FROM eocat.collection") or []
    return found or None


def new_client(search_model: type[PgstacSearch]) -> StacClient:
    build: Any = StacClient  # attrs makes its __init__ from a base that ships no types
    client: StacClient = build(pgstac_search_model=search_model, landing_page_id="eocat")
    return client


def _bounded(arguments: dict[str, Any], *, similar: bool = False) -> dict[str, Any]:
    """Query parameters with the filter checked and as CQL2 JSON: the library parses text without bounds."""
    text, language, query = (arguments.get(name) for name in ("filter_expr", "filter_lang", "query"))
    parsed = None
    if text is not None:
        value = text if language in (None, "cql2-text") else _refuse_value_error(orjson.loads, text)
        parsed = parse_filter(value, language, similar=similar)
    both = with_query(parsed, None if query is None else parse_query(query))
    if both is None:
        return {**arguments, "query": None}
    check_filter(both, any_pattern=True, similar=similar)
    filter_ = orjson.dumps(both).decode()
    return {**arguments, "query": None, "filter_expr": filter_, "filter_lang": "cql2-json"}


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


async def _page(request: Request, value: Any) -> Response:
    """A page of Items as GeoJSON or, where that is asked for, as GeoParquet.

    A table has no place for links: the next page's is a header.
    """
    if isinstance(value, Response):  # with `fields`, the library has made one
        value = orjson.loads(value.body)
    if not accepts_parquet(request.headers.get("accept", "")):
        return Response(orjson.dumps(value), media_type=GEOJSON, headers={"Vary": "Accept"})
    data = await run_in_threadpool(format_items, value["features"])
    headers = {"Vary": "Accept", "OGC-NumberReturned": str(len(value["features"]))}
    if "numberMatched" in value:
        headers["OGC-NumberMatched"] = str(value["numberMatched"])
    following = next((link for link in value["links"] if link["rel"] == "next"), None)
    if following and request.method == "GET":
        headers["Link"] = f'<{following["href"]}>; rel="next"; type="{PARQUET}"'
    return Response(data, media_type=PARQUET, headers=headers)


def _versions(item: dict[str, Any]) -> dict[str, str]:
    """Headers that lead from an Item to the one before or after it, for clients that read no links."""
    links = [
        f'<{link["href"]}>; rel="{link["rel"]}"'
        for link in item.get("links", [])
        if link["rel"] in (SUCCESSOR, PREDECESSOR)
    ]
    return {"Link": ", ".join(links)} if links else {}
