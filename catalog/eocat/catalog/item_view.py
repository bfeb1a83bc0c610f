"""What an item's history does to the catalogue's view of it: the Item in pgSTAC, its rows, its links.

    active      the Item shows the signed projection, as the last UPDATE has it
    superseded  deprecated; successor-version and predecessor-version link the two Items
    obsolete    deprecated
    withdrawn   deprecated, and its rows and files are gone: no search finds them, the Item names only its
                attestation. Item, history and log proof stay

`eocat:status` says which, on the Item and on every row of an answer.
"""

from typing import Any

from psycopg.types.json import Jsonb

from eocat.verify.history import History, Status
from eocat.verify.projection import ATTESTATION
from eocat.verify.statement import Projection

from .documents import item_path
from .partitions import Connection

STATUS = "eocat:status"
VERSION_EXTENSION = "https://stac-extensions.github.io/version/v1.2.0/schema.json"
SUCCESSOR, PREDECESSOR = "successor-version", "predecessor-version"


def drop_rows(connection: Connection, history: History) -> None:
    """Take a withdrawn item's rows out of every search; before pgSTAC's lock, as all that is done to rows."""
    if history.status is Status.WITHDRAWN:
        connection.execute(
            """DELETE FROM eocat.chip c USING eocat.shard s
                WHERE s.collection = %s AND s.item_id = %s
                  AND c.collection = s.collection AND c.shard_id = s.shard_id""",
            [history.projection.collection, history.projection.id],
        )


def show_history(connection: Connection, history: History) -> None:
    """Bring a registered item's view up to its history. The caller holds pgSTAC's lock."""
    projection = history.projection
    names = [projection.collection, projection.id]
    connection.execute(
        "UPDATE eocat.shard SET status = %s, successor = %s WHERE collection = %s AND item_id = %s",
        [history.status.value, history.successor, *names],
    )
    item = _get_item(connection, *names)
    if item is not None:
        _put_item(connection, _viewed(item, history, predecessors(connection, *names)))
    if history.successor is not None:
        _link_successor(connection, history)


def _viewed(item: dict[str, Any], history: History, predecessors: list[str]) -> dict[str, Any]:
    """The Item as its history says: projection, status, deprecation and version links."""
    projection = history.projection
    properties = {**item["properties"], **_times(projection), STATUS: history.status.value}
    extensions = item.get("stac_extensions", [])
    links = [link for link in item.get("links", []) if link["rel"] not in (SUCCESSOR, PREDECESSOR)]
    links += [_link(PREDECESSOR, name) for name in predecessors]
    if history.successor is not None:
        links.append(_link(SUCCESSOR, history.successor))
    if history.status is not Status.ACTIVE:
        properties["deprecated"] = True
        extensions = [*extensions, *({VERSION_EXTENSION} - set(extensions))]
    assets = item["assets"]
    if history.status is Status.WITHDRAWN:
        assets = {key: asset for key, asset in assets.items() if key == ATTESTATION}
    return {
        **item,
        "assets": assets,
        "geometry": projection.geometry,
        "bbox": projection.bbox,
        "properties": properties,
        "links": links,
        "stac_extensions": extensions,
    }


def _times(projection: Projection) -> dict[str, str | None]:
    times = {
        "datetime": projection.datetime,
        "start_datetime": projection.start_datetime,
        "end_datetime": projection.end_datetime,
    }
    return {name: value for name, value in times.items() if value is not None or name == "datetime"}


def predecessors(connection: Connection, collection: str, item: str) -> list[str]:
    """The registered items that name this one as their successor."""
    rows = connection.execute(
        "SELECT collection || '/' || item_id FROM eocat.shard WHERE successor = %s ORDER BY 1",
        [f"{collection}/{item}"],
    )
    return [row[0] for row in rows]


def _link_successor(connection: Connection, history: History) -> None:
    """Tell the successor, if it is here, whom it follows; one that comes later is told when it comes."""
    collection, item = str(history.successor).split("/")
    successor = _get_item(connection, collection, item)
    if successor is not None:
        links = [link for link in successor.get("links", []) if link["rel"] != PREDECESSOR]
        links += [_link(PREDECESSOR, name) for name in predecessors(connection, collection, item)]
        _put_item(connection, {**successor, "links": links})


def _link(rel: str, name: str) -> dict[str, str]:
    return {"rel": rel, "href": item_path(*name.split("/")), "type": "application/geo+json"}


def _get_item(connection: Connection, collection: str, item: str) -> dict[str, Any] | None:
    row = connection.execute("SELECT pgstac.get_item(%s, %s)", [item, collection]).fetchone()
    return row[0] if row else None


def _put_item(connection: Connection, item: dict[str, Any]) -> None:
    """Replace an Item. pgSTAC deletes and inserts it, and then cannot widen its partition's bounds any more,
    since our trigger on the deletion still waits: they are widened first.
    """
    connection.execute(
        """SELECT pgstac.check_partition(
               %s, tstzrange(lower(d), lower(d), '[]'), tstzrange(upper(d), upper(d), '[]'))
             FROM pgstac.stac_daterange(%s) d""",
        [item["collection"], Jsonb(item["properties"])],
    )
    connection.execute("SELECT pgstac.update_item(%s)", [Jsonb(item)])
