"""The service: stac-fastapi-pgstac with the catalogue's routes, read-only, under any ASGI server.

It reads as the database's reader role, has no route that writes, and answers an error with one sentence.
How it is run stands in serving.py.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Annotated, Any

import attr
import orjson
from brotli_asgi import BrotliMiddleware
from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, Field, PositiveInt, field_validator, model_validator
from stac_fastapi.api.app import StacApi
from stac_fastapi.api.models import (
    ItemCollectionUri,
    create_get_request_model,
    create_post_request_model,
    create_request_model,
)
from stac_fastapi.extensions import ItemCollectionFilterExtension, SearchFilterExtension
from stac_fastapi.extensions.query import QueryConformanceClasses
from stac_fastapi.pgstac.config import Settings
from stac_fastapi.pgstac.db import close_db_connection, connect_to_db
from stac_fastapi.pgstac.models.extensions import Extensions
from stac_fastapi.pgstac.types.search import PgstacSearch
from stac_fastapi.types.search import BaseSearchGetRequest
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from .api_settings import build_settings
from .conditional import Conditional
from .database import Database
from .guards import Rate, RateLimit, SecurityHeaders
from .log_routes import router as log_router
from .middleware import BodyLimit, RequestLog
from .openapi import describe
from .query import MAX_BODY_BYTES
from .query_extension import query_extension
from .queryables import Queryables
from .refusals import add_refusals
from .routes import router
from .stac_client import new_client

STAC_VERSION = "1.1.0"
DEFAULT_PAGE, MAX_PAGE = 100, 1_000

SESSION = {
    "plan_cache_mode": "force_custom_plan",  # a plan that is to fit every filter fits none
    "max_parallel_workers_per_gather": "0",  # to start workers takes longer than most answers do (20 ms)
}

EXPOSED = ["ETag", "Link", "Retry-After", "X-Request-Id", "OGC-NumberMatched", "OGC-NumberReturned"]

Limit = Annotated[PositiveInt, AfterValidator(lambda limit: min(limit, MAX_PAGE))]
PageSize = Annotated[Limit | None, Query(description=f"Items on a page, at most {MAX_PAGE}.")]


@attr.s
class SearchGet(BaseSearchGetRequest):
    limit: PageSize = attr.ib(default=DEFAULT_PAGE)


@attr.s
class ItemsGet(ItemCollectionUri):
    limit: PageSize = attr.ib(default=DEFAULT_PAGE)


class SearchPost(PgstacSearch):  # type: ignore[misc]
    limit: Limit | None = Field(DEFAULT_PAGE)

    @field_validator("filter_lang", check_fields=False)
    @classmethod
    def validate_query_uses_cql(cls, value: Any) -> Any:
        """The library refuses query and filter together; here they become one filter."""
        return value

    @model_validator(mode="before")
    @classmethod
    def _is_object(cls, value: Any) -> Any:
        """The library's own validators take it for one."""
        if not isinstance(value, dict):
            raise ValueError("is not a JSON object")
        bbox = value.get("bbox")
        numbers = [value.get("limit"), *(bbox if isinstance(bbox, list) else [])]
        if any(isinstance(number, bool) for number in numbers):  # they would count as 0 and 1
            raise ValueError("bbox or limit holds true or false, expected numbers")
        if "fields" in value and value["fields"] is None:
            raise ValueError("fields is null, expected an object with include or exclude")
        try:  # the next page's link repeats it
            orjson.dumps(value)
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError("holds a number or text that cannot be sent back") from None
        return value


def create_app(database: Database, rate: Rate | None = None) -> FastAPI:
    """The application; its connections open when the server starts it. rate: of each client, None: any."""
    settings = _settings()
    query = QueryConformanceClasses
    extensions = Extensions(
        settings=settings,
        search_map={
            "query": query_extension([query.SEARCH]),
            "filter": SearchFilterExtension(client=Queryables()),
        },
        item_collection_map={
            "query": query_extension([query.ITEMS]),
            "filter": ItemCollectionFilterExtension(client=Queryables()),
        },
        collection_search_map={"query": query_extension([query.COLLECTIONS])},
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        session = build_settings(database.asyncpg_dsn(), {**database.server_settings(), **SESSION})
        await connect_to_db(app, postgres_settings=session)
        try:
            yield
        finally:
            await close_db_connection(app)

    app = FastAPI(
        openapi_url=settings.openapi_url,
        docs_url=settings.docs_url,
        redoc_url=None,
        title=settings.stac_fastapi_title,
        version=settings.stac_fastapi_version,
        description=settings.stac_fastapi_description,
        lifespan=lifespan,
    )
    app.state.database = database
    app.include_router(router)
    app.include_router(log_router)
    post_model = create_post_request_model(extensions.search, base_model=SearchPost)
    StacApi(
        app=app,
        router=APIRouter(),
        exceptions={},  # refusals.py has them
        settings=settings,
        stac_version=STAC_VERSION,
        extensions=[*extensions.search, *extensions.item_collection, extensions.collection_search],
        client=new_client(post_model),
        search_get_request_model=create_get_request_model(extensions.search, base_model=SearchGet),
        search_post_request_model=post_model,
        items_get_request_model=create_request_model(  # type: ignore[arg-type]  # GET gives an APIRequest
            "ItemsGet", base_model=ItemsGet, extensions=extensions.item_collection, request_type="GET"
        ),
        collections_get_request_model=extensions.collection_search.GET,
        health_check=health,  # type: ignore[arg-type]  # a route may take the request
        middlewares=[  # the last one is the outermost
            Middleware(BodyLimit, limit_bytes=MAX_BODY_BYTES),
            Middleware(Conditional),
            Middleware(BrotliMiddleware),
            *([Middleware(RateLimit, rate=rate)] if rate else []),
            Middleware(SecurityHeaders),
            Middleware(
                CORSMiddleware, allow_origins="*", allow_methods=["GET", "HEAD", "POST"], allow_headers="*",
                expose_headers=EXPOSED,
            ),
            Middleware(RequestLog),
        ],
    )  # fmt: skip
    add_refusals(app)
    describe(app)
    return app


async def health(request: Request) -> Any:
    """UP once the database answers and holds our tables."""
    async with request.app.state.get_connection(request, "r") as connection:
        collections = await connection.fetchval("SELECT count(*) FROM eocat.collection")
    return JSONResponse({"status": "UP", "collections": collections})


def _settings() -> Settings:
    """The library's settings, each given: not from a `.env` file or the environment."""
    return Settings(
        _env_file=None,
        stac_fastapi_title="eocat",
        stac_fastapi_description="Earth-observation embeddings in which a search hit comes with a proof.",
        stac_fastapi_version=version("eocat"),
        stac_fastapi_landing_id="eocat",
        use_api_hydrate=True,
        enabled_extensions=None,
        enable_transactions_extensions=False,
        enable_catalogs_extension=False,
        enable_response_models=False,
        enable_direct_response=False,
        enable_metrics=False,
        prefix_path="",
        root_path="",
        openapi_url="/api",
        docs_url="/api.html",
    )
