"""Which properties a filter may name: an unknown one is a mistake in the request, not an empty answer.

`/queryables` lists them as a JSON Schema that stands alone: clients resolve its references before they
offer a filter.

(pgSTAC can refuse them itself, but then also those that a search for collections rightly names.)
"""

from typing import Any

import attr
from asyncpg import Connection
from fastapi import Request
from stac_fastapi.pgstac.extensions.filter import FiltersClient

from eocat.verify.errors import Malformed

ITEM_MEMBERS = {"id", "collection", "geometry", "datetime", "start_datetime", "end_datetime"}

# Instead of pgSTAC's, which are references to schemas on other servers.
DEFINITIONS = {
    "id": {"title": "Item ID", "description": "Item identifier", "type": "string"},
    "geometry": {"title": "Item Geometry", "description": "Item Geometry", "format": "geometry-any"},
}


@attr.s
class Queryables(FiltersClient):  # type: ignore[misc]  # the library ships no types
    """The answer of `/queryables`, of all collections or of one."""

    async def get_queryables(
        self, request: Request, collection_id: str | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        schema = await super().get_queryables(request, collection_id, **kwargs)
        return {**schema, "properties": {**schema["properties"], **DEFINITIONS}}


async def check_properties(connection: Connection, root: Any, collections: list[str] | None) -> None:
    """Raise Malformed if the CQL2 JSON tree names a property that no Item of the collections has."""
    named = {name.removeprefix("properties.") for name in _properties(root)} - ITEM_MEMBERS
    if not named:
        return
    known = await connection.fetchval("SELECT pgstac.get_queryables($1::text[])", collections)
    if unknown := sorted(named - (known or {}).get("properties", {}).keys()):
        raise Malformed(
            f"filter names {unknown[0]}, which is no property of the items: /queryables lists them"
        )


def _properties(root: Any) -> set[str]:
    """Property names in a tree that `cql2.check_filter` has bounded."""
    if isinstance(root, list):
        return set().union(*map(_properties, root))
    if isinstance(root, dict):
        own = {root["property"]} if "property" in root else set()
        return own.union(*map(_properties, root.values()))
    return set()
