"""STAC documents as the catalogue stores them in pgSTAC: checked against what was verified, links its own.

hrefs are stored relative to the API's root and made absolute when they are served, so that a catalogue can
move. pgSTAC is reached through its public functions; none of its tables is written here.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb
from pydantic import BaseModel, ValidationError
from stac_pydantic import Collection as StacCollection
from stac_pydantic import Item as StacItem

from eocat.verify import canonical
from eocat.verify.errors import InputError
from eocat.verify.evidence import read_limited
from eocat.verify.statement import Create

from .cql2 import PROPERTY

COLLECTION_FILE, MODEL_FILE = "collection.json", "model.json"
MODELS = "models"

Connection = psycopg.Connection[TupleRow]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

STATUS_QUERYABLES = {  # what item_view.py writes into an Item's properties
    "eocat:status": {
        "title": "Status by the signed history",
        "type": "string",
        "enum": ["active", "superseded", "obsolete", "withdrawn"],
    },
    "deprecated": {"title": "Not the newest, or not for use any more", "type": "boolean"},
}
_QUERYABLE_TYPES: tuple[tuple[type, str], ...] = (  # bool is an int in Python: it comes first
    (bool, "boolean"),
    (int, "number"),
    (float, "number"),
    (str, "string"),
)


def item_path(collection: str, item: str) -> str:
    return f"collections/{collection}/items/{item}"


@dataclass(frozen=True, slots=True)
class Documents:
    """What lies beside a collection's shards: the Collection, and its encoder as an Item."""

    collection: dict[str, Any]
    model: dict[str, Any]


def read_documents(folder: Path, create: Create) -> Documents:
    """The documents in a collection's folder; InputError if they are not those of the statement."""
    collection = _read(folder / COLLECTION_FILE)
    model = _read(folder / MODEL_FILE)
    if (collection.get("type"), collection.get("id")) != ("Collection", create.projection.collection):
        raise InputError(f"{folder / COLLECTION_FILE} is not the Collection {create.projection.collection}")
    _check_stac(collection, StacCollection, folder / COLLECTION_FILE)
    _check_stac(model, StacItem, folder / MODEL_FILE)
    if model["properties"].get("eocat:space") != create.space or not _ID.fullmatch(model["id"]):
        raise InputError(f"{folder / MODEL_FILE} is not the encoder's Item with space {create.space}")
    return Documents(collection, {**model, "collection": MODELS})


def check_item(item: dict[str, Any], path: Path) -> None:
    """Raise InputError unless the Item is one by STAC's core, beyond what of it is signed."""
    _check_stac(item, StacItem, path)


def _check_stac(document: dict[str, Any], kind: type[BaseModel], path: Path) -> None:
    """Raise InputError unless the document is of STAC's core: what is stored here, clients must read."""
    try:
        kind.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path} is no STAC {kind.__name__}: {place}: {first['msg'][:200]}") from None


def load_collection(connection: Connection, documents: Documents) -> None:
    """Upsert a Collection, and insert its encoder's Item where there is none."""
    collection = documents.collection
    links = _own_links(collection, documents)
    _call(connection, "upsert_collection", {**collection, "links": links})
    load_item_once(connection, models_collection(), documents.model)


def load_item_once(connection: Connection, collection: dict[str, Any], item: dict[str, Any]) -> None:
    """Insert an Item, and its Collection, if the catalogue does not hold it: nothing is overwritten."""
    if connection.execute("SELECT pgstac.get_collection(%s)", [collection["id"]]).fetchone() == (None,):
        _call(connection, "upsert_collection", collection)
    if connection.execute("SELECT pgstac.get_item(%s, %s)", [item["id"], collection["id"]]).fetchone() == (
        None,
    ):
        _call(connection, "create_item", item)


def load_item(connection: Connection, item: dict[str, Any], documents: Documents) -> None:
    """Insert a shard's verified Item; psycopg.errors.UniqueViolation if one of its id is there."""
    own = item_path(item["collection"], item["id"])
    assets = {key: {**asset, "href": f"{own}/assets/{key}"} for key, asset in item["assets"].items()}
    _call(connection, "create_item", {**item, "assets": assets, "links": _own_links(item, documents)})


def refresh_collection(connection: Connection, collection: str, properties: dict[str, Any]) -> None:
    """Bring the stored Collection's extent and queryables up to what its Items now are."""
    connection.execute(
        """SELECT pgstac.upsert_collection(pgstac.get_collection(%(id)s) || jsonb_strip_nulls(
               jsonb_build_object('extent', pgstac.collection_extent(%(id)s, true))))""",
        {"id": collection},
    )
    definitions: dict[str, Any] = {
        name: kind
        for name, value in properties.items()
        if PROPERTY.fullmatch(name) and (kind := _queryable(name, value))
    }
    definitions |= STATUS_QUERYABLES
    connection.execute(
        "SELECT pgstac.upsert_queryables(%s, %s)", [Jsonb({"properties": definitions}), [collection]]
    )


def models_collection() -> dict[str, Any]:
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": MODELS,
        "title": "Encoders",
        "description": "The encoders that made this catalogue's embeddings, as Items of the MLM extension.",
        "license": "other",  # each Item names its own
        "extent": {
            "spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [["2015-06-23T00:00:00Z", None]]},
        },
        "links": [],
    }  # fmt: skip


def _queryable(name: str, value: Any) -> dict[str, str] | None:
    """The JSON Schema of a property that can be filtered by, or None."""
    for python_type, json_type in _QUERYABLE_TYPES:
        if isinstance(value, python_type):
            time = {"format": "date-time"} if json_type == "string" and name.endswith("datetime") else {}
            return {"title": name, "type": json_type, **time}
    return None


def _own_links(document: dict[str, Any], documents: Documents) -> list[dict[str, Any]]:
    """A document's links, those among documents of this catalogue by their path in its API."""
    model = item_path(MODELS, documents.model["id"])
    return [
        {**link, "href": model} if link["rel"] == "emb:model" else link for link in document.get("links", [])
    ]


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path} is missing", hint="name the folder that 'eocat produce' has written")
    value = canonical.parse(read_limited(path, canonical.MAX_BYTES), what=str(path))
    if not isinstance(value, dict):
        raise InputError(f"{path} is not a JSON object")
    return value


def _call(connection: Connection, function: str, document: dict[str, Any]) -> None:
    connection.execute(f"SELECT pgstac.{function}(%s)", [Jsonb(document)])  # names of this file
