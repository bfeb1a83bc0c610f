"""The log proof of an item, made from the database as the newest published checkpoint saw it.

Each event comes with the first checkpoint that holds it and had a quorum of the log's own witnesses, so that
readers can date it; where there is none yet, with the newest. The document, what it proves and how that is
checked stand in `eocat.verify.log.item_proof`.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from eocat.verify.errors import Malformed
from eocat.verify.log.absence import ABSENCE_FORMAT, Absence
from eocat.verify.log.heads import Absent, Included, LeafT
from eocat.verify.log.item_proof import LOG_PROOF_FORMAT, ItemProof
from eocat.verify.log.note import parse_note, parse_vkey
from eocat.verify.merkle import Tree
from eocat.verify.statement import validated

from .database import Database
from .head_tree import HeadTree
from .log import log_folder
from .log_evidence import open_checkpoint
from .log_store import Connection, collections_at, tree_at
from .space import NotFound

log = logging.getLogger("eocat.log")

FIRST_COSIGNED = """
SELECT e.index, c.size, c.note FROM eocat.log_entry e
  LEFT JOIN LATERAL (SELECT size, note FROM eocat.log_cosigned
                      WHERE size > e.index AND size <= %(size)s ORDER BY size LIMIT 1) c ON true
 WHERE e.collection = %(collection)s AND e.item_id = %(item)s AND e.index < %(size)s ORDER BY e.seq
"""


@dataclass(frozen=True, slots=True)
class _Shown:
    """A checkpoint that a proof shows: its size, and the note."""

    size: int
    note: bytes


def item_log_proof(database: Database, collection: str, item: str) -> ItemProof | Absence:
    """The proof at the newest checkpoint, or that the log holds no event of the item there.

    NotFound where nothing has been published yet.
    """
    with database.connect("reader") as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        row = connection.execute(
            "SELECT size, note FROM eocat.log_checkpoint ORDER BY size DESC LIMIT 1"
        ).fetchone()
        if row is None:
            raise NotFound("the log has published no checkpoint yet")
        newest = _Shown(row[0], _renewed(connection, database, bytes(row[1])))
        events = [
            (index, _Shown(size, bytes(note)) if size is not None else newest)
            for index, size, note in connection.execute(
                FIRST_COSIGNED, {"size": newest.size, "collection": collection, "item": item}
            )
        ]
        if not events:
            return _absence(connection, newest, collection, item)
        return _build(connection, newest, events, collection, item)


def _build(
    connection: Connection, newest: _Shown, events: Sequence[tuple[int, _Shown]], collection: str, item: str
) -> ItemProof:
    shown = list(dict.fromkeys([*(one for _, one in events), newest]))  # in order of size
    trees = {one.size: tree_at(connection, one.size) for one in shown}
    document = {
        "type": LOG_PROOF_FORMAT,
        "checkpoints": [
            {"note": one.note.decode(), "path": _consistency(trees[newest.size], one.size)} for one in shown
        ],
        "events": [
            {"checkpoint": shown.index(one), "index": index, "path": _hex(trees[one.size].prove(index))}
            for index, one in events
        ],
        "heads": _heads(connection, trees[newest.size], collection, item),
    }
    return validated(ItemProof, document, what="log proof")


def _consistency(newest: Tree, size: int) -> list[str]:
    return _hex(newest.prove_consistency(size)) if size < newest.size else []


def _heads(connection: Connection, tree: Tree, collection: str, item: str) -> dict[str, Any]:
    """The head map of the newest tree, down to the item."""
    collections = collections_at(connection, tree.size)
    heads = HeadTree.at(connection, collection, tree.size)
    outer, inner = _present(collections.prove(collection), collection), _present(heads.prove(item), item)
    return {
        "index": tree.size - 1,
        "path": _hex(tree.prove(tree.size - 1)),
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
    }


def _absence(connection: Connection, newest: _Shown, collection: str, item: str) -> Absence:
    tree, collections = tree_at(connection, newest.size), collections_at(connection, newest.size)
    outer = collections.prove(collection)
    if isinstance(outer, Included):
        heads = HeadTree.at(connection, collection, newest.size)
        mapped = {"index": outer.index, "path": _hex(outer.path), "items": len(heads), "root": heads.root()}
        absent = {"collection": mapped, **_neighbours(heads.prove(item))}
    else:
        absent = _neighbours(outer)
    document = {
        "type": ABSENCE_FORMAT,
        "checkpoint": newest.note.decode(),
        "heads": {
            "index": tree.size - 1,
            "path": _hex(tree.prove(tree.size - 1)),
            "collections": {"count": len(collections), "root": collections.root()},
            "absent": absent,
        },
    }
    return validated(Absence, document, what="absence proof")


def _neighbours(found: Included[LeafT] | Absent[LeafT]) -> dict[str, Any]:
    if isinstance(found, Included):
        raise RuntimeError(f"the log has no event of {found.leaf.name}, its head map does")
    return {"before": _named(found.before), "after": _named(found.after)}


def _named(one: Included[Any] | None) -> dict[str, Any] | None:
    return {"index": one.index, "path": _hex(one.path), **asdict(one.leaf)} if one else None


def _renewed(connection: Connection, database: Database, recorded: bytes) -> bytes:
    """The recorded checkpoint with the cosignatures that its file has got since (renewal.py).

    A file that the log's key has not signed is damaged: the operator reads so, and the recorded one is shown.
    """
    text = parse_note(recorded).text
    try:
        published = log_folder(database.required_home()).read_checkpoint()
        if published is None:
            return recorded
        for (key,) in connection.execute("SELECT verifier_key FROM eocat.log_key"):  # the log's one key
            open_checkpoint(published, parse_vkey(key))
    except (Malformed, OSError) as error:
        log.error("the log's file checkpoint is damaged, restore it from a backup: %s", error)
        return recorded
    return published if parse_note(published).text == text else recorded


def _present(found: Included[LeafT] | Absent[LeafT], name: str) -> Included[LeafT]:
    if not isinstance(found, Included):
        raise RuntimeError(f"the log has events of {name}, its head map does not")
    return found


def _hex(path: Sequence[bytes]) -> list[str]:
    return [node.hex() for node in path]
