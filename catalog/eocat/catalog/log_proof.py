"""The log proof of an item, made from the database as the newest published checkpoint saw it.

The document is `eocat.verify.log.item_proof`'s, where also stands what it proves and how that is checked.
"""

from collections.abc import Sequence

from eocat.verify.log.heads import Included, LeafT, SortedTree
from eocat.verify.log.item_proof import LOG_PROOF_FORMAT, ItemProof
from eocat.verify.log.note import parse_note
from eocat.verify.statement import validated

from .database import Database
from .log import log_folder
from .log_store import Connection, collections_at, heads_at, tree_at
from .similar import NotFound


def item_log_proof(database: Database, collection: str, item: str) -> ItemProof:
    """The proof at the newest checkpoint; NotFound if the published log does not know the item."""
    with database.connect("reader") as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        row = connection.execute(
            "SELECT size, note FROM eocat.log_checkpoint ORDER BY size DESC LIMIT 1"
        ).fetchone()
        places = connection.execute(
            """SELECT index FROM eocat.log_entry
                WHERE collection = %s AND item_id = %s AND index < %s ORDER BY seq""",
            [collection, item, row[0] if row else 0],
        ).fetchall()
        if row is None or not places:
            raise NotFound(f"the published log holds no event of {collection}/{item}")
        note = _renewed(database, bytes(row[1]))
        return _build(connection, row[0], note, [place[0] for place in places], collection, item)


def _build(
    connection: Connection, size: int, note: bytes, places: Sequence[int], collection: str, item: str
) -> ItemProof:
    tree = tree_at(connection, size)
    collections = collections_at(connection, size)
    heads = heads_at(connection, collection, size)
    outer, inner = _present(collections, collection), _present(heads, item)
    document = {
        "type": LOG_PROOF_FORMAT,
        "checkpoint": note.decode(),
        "events": [{"index": place, "path": _hex(tree.prove(place))} for place in places],
        "heads": {
            "index": size - 1,
            "path": _hex(tree.prove(size - 1)),
            "collections": {"count": len(collections), "root": collections.root()},
            "collection": {
                "index": outer.index,
                "path": _hex(outer.path),
                "items": len(heads),
                "root": heads.root(),
            },
            "item": {
                "index": inner.index,
                "path": _hex(inner.path),
                "seq": inner.leaf.seq,
                "status": inner.leaf.status,
                "payload": inner.leaf.payload,
            },
        },
    }
    return validated(ItemProof, document, what="log proof")


def _renewed(database: Database, recorded: bytes) -> bytes:
    """The recorded checkpoint with the cosignatures that its file has got since (renewal.py)."""
    published = log_folder(database.required_home()).read_checkpoint()
    if published is not None and parse_note(published).text == parse_note(recorded).text:
        return published
    return recorded


def _present(tree: SortedTree[LeafT], name: str) -> Included[LeafT]:
    found = tree.prove(name)
    if not isinstance(found, Included):
        raise RuntimeError(f"the log has events of {name}, its head map does not")
    return found


def _hex(path: Sequence[bytes]) -> list[str]:
    return [node.hex() for node in path]
