"""Which properties a filter may name: an unknown one is a mistake in the request, not an empty answer.

(pgSTAC can refuse them itself, but then also those that a search for collections rightly names.)
"""

from typing import Any

from asyncpg import Connection

from eocat.verify.errors import Malformed

ITEM_MEMBERS = {"id", "collection", "geometry", "datetime", "start_datetime", "end_datetime"}


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
