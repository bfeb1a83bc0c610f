"""STAC's older query language, `{"eo:cloud_cover": {"lt": 10}}`, as CQL2 (STAC API query extension v1.0.0).

One language then reaches pgSTAC, which knows only some of the query's operators, and `query` and `filter` go
together.
"""

from typing import Any

import orjson
from pydantic import BaseModel
from stac_fastapi.extensions.query import QueryExtension

from eocat.verify.errors import Malformed

from .cql2 import MAX_TEXT

COMPARISONS = {"eq": "=", "neq": "<>", "ne": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
PATTERNS = {"startsWith": ("", "%"), "endsWith": ("%", ""), "contains": ("%", "%")}


class QueryPost(BaseModel):
    query: dict[str, dict[str, Any]] | None = None


def query_extension(conformance: list[str]) -> QueryExtension:
    """The extension for one kind of search, taking all operators that it defines."""
    extension = QueryExtension(conformance_classes=conformance)
    extension.POST = QueryPost
    return extension


def parse_query(text: str) -> Any:
    """The query of a GET parameter; Malformed if it is no JSON."""
    try:
        return orjson.loads(text[: MAX_TEXT + 1])
    except orjson.JSONDecodeError:
        raise Malformed(f"query is not JSON of at most {MAX_TEXT} characters") from None


def with_query(filter_: dict[str, Any] | None, query: Any) -> dict[str, Any] | None:
    """The CQL2 JSON of a checked filter and a query together; Malformed where the query is none."""
    if query is None:
        return filter_
    if not isinstance(query, dict) or not all(isinstance(one, dict) for one in query.values()):
        raise Malformed("query is not an object of properties with operators")
    conditions = [
        _condition(name, operator, value)
        for name, parts in query.items()
        for operator, value in parts.items()
    ]
    conditions += [] if filter_ is None else [filter_]
    if not conditions:
        return None
    return conditions[0] if len(conditions) == 1 else {"op": "and", "args": conditions}


def _condition(name: str, operator: str, value: Any) -> dict[str, Any]:
    place = {"property": name}
    if operator in COMPARISONS and isinstance(value, str | int | float):
        return {"op": COMPARISONS[operator], "args": [place, value]}
    if operator in PATTERNS and isinstance(value, str) and value:
        before, after = PATTERNS[operator]
        text = value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        return {"op": "like", "args": [place, f"{before}{text}{after}"]}
    if operator == "in" and isinstance(value, list) and value:
        return {"op": "in", "args": [place, value]}
    raise Malformed(f"query of {name[:40]!r}: {operator[:40]!r} with {str(value)[:40]!r} is no condition")
