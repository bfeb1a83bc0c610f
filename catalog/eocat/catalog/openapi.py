"""The OpenAPI description, where it would otherwise say what is not so.

Every operation refuses with `{code, description}` and never with FastAPI's 422; answers with `fields` are no
whole Items; and our own routes read their request themselves, so that FastAPI knows neither parameters nor
types.
"""

from typing import Any

from fastapi import FastAPI

from .geoparquet import MEDIA_TYPE as PARQUET
from .item_page import GEOJSON, JSON
from .query import SimilarRequest

ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["code", "description"],
    "properties": {"code": {"type": "string"}, "description": {"type": "string"}},
    "additionalProperties": False,
}
BYTES = {"type": "string", "format": "binary"}
FEATURE = {"type": "object", "required": ["type", "id", "geometry", "properties", "links"]}
PAGE = {
    "type": "object",
    "required": ["type", "features", "links"],
    "properties": {
        "type": {"const": "FeatureCollection"},
        "features": {"type": "array", "items": {"type": "object"}},  # with `fields`, no whole Items
        "links": {"type": "array"},
        "numberMatched": {"type": "integer"},
        "numberReturned": {"type": "integer"},
    },
}
COLLECTIONS = {"type": "object", "required": ["collections", "links"]}
_ITEM = "/collections/{collection}/items/{item}"

# path → media type → schema of its answer with 200
ANSWERS: dict[str, dict[str, Any]] = {
    "/": {JSON: {"type": "object"}, "text/html": {"type": "string"}},
    "/search": {GEOJSON: PAGE, PARQUET: BYTES},
    "/search/similar": {GEOJSON: PAGE},
    "/collections": {JSON: COLLECTIONS},
    "/collections/{collection_id}/items": {GEOJSON: PAGE, PARQUET: BYTES},
    f"{_ITEM}/rows/{{row}}/proof": {GEOJSON: FEATURE},
    f"{_ITEM}/history": {JSON: {"type": "object", "required": ["collection", "item", "events"]}},
    f"{_ITEM}/assets/{{key}}": {"*/*": BYTES},
    f"{_ITEM}/log-proof": {JSON: {"type": "object", "required": ["type", "checkpoint", "heads"]}},
    "/log/checkpoint": {"text/plain": {"type": "string"}},
    "/log/tile/{path}": {"application/octet-stream": BYTES},
    "/log/envelope/{digest}": {JSON: {"type": "object"}},
}

_TEXTS = {  # of GET /search/similar; docs/similarity.md says more
    "like": "COLLECTION/ITEM/ROW or LON,LAT",
    "collections": "ids with commas between",
    "bbox": "west,south,east,north in degrees",
    "intersects": "a GeoJSON geometry",
    "datetime": "an RFC 3339 time or interval",
    "filter": "CQL2 text on item properties",
}


def describe(app: FastAPI) -> None:
    """Make the app publish its corrected description."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _corrected(generate())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _corrected(schema: dict[str, Any]) -> dict[str, Any]:
    schemas = schema["components"]["schemas"]
    schemas["Error"] = ERROR
    for model in schemas.values():
        members = model.get("properties", {})
        members.pop("conf", None)  # pgSTAC's own switches are not for callers
        for name in ("include", "exclude"):  # of `fields`: sets, that may be given as lists
            for kind in members.get(name, {}).get("anyOf", [members.get(name, {})]):
                kind.pop("uniqueItems", None)
    refusal = {
        "description": "A refusal: one sentence says why",
        "content": {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = refusal
            if path in ANSWERS:
                content = {kind: {"schema": answer} for kind, answer in ANSWERS[path].items()}
                operation["responses"]["200"] = {"description": "OK", "content": content}
    similar = schema["paths"]["/search/similar"]
    body = SimilarRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= body.pop("$defs", {})
    similar["post"]["requestBody"] = {"required": True, "content": {JSON: {"schema": body}}}
    similar["get"]["parameters"] = [
        {
            "name": name,
            "in": "query",
            "description": text,
            "required": name == "like",
            "schema": {"type": "string"},
        }
        for name, text in _TEXTS.items()
    ]
    return schema
