"""The log in the database: pending events get their index, the head map and the tree grow with them.

`sequence` is one transaction: it takes all pending events in order of arrival, appends their entries and
one heads entry, the hashes of the tiles that they complete, and the root of the new size. Everything here
is a function of the entries; what a reader needs at an older size is found by `index < size`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg.rows import TupleRow

from eocat.verify.log.entry import Entry, format_entry
from eocat.verify.log.heads import CollectionHeads, Heads, SortedTree, format_heads
from eocat.verify.log.tiles import Tile, format_bundle, tree_from_tiles
from eocat.verify.merkle import HASH_BYTES, TILE_HEIGHT, TILE_WIDTH, Tree, build_tiles, leaf_hash

from .head_tree import HeadTree

BATCH = 50_000  # events in one transaction; the rest follows in the next

Connection = psycopg.Connection[TupleRow]

PENDING = """
SELECT p.position, p.collection, p.item_id, p.seq, p.status, e.event,
       encode(e.payload_sha256, 'hex'), encode(sha256(e.envelope), 'hex')
  FROM eocat.log_pending p JOIN eocat.event e USING (collection, item_id, seq)
 ORDER BY p.position LIMIT %s
"""

QUEUED_AGAIN = """
DELETE FROM eocat.log_pending p USING eocat.log_entry e
 WHERE (p.collection, p.item_id, p.seq) = (e.collection, e.item_id, e.seq)
"""

COLLECTIONS = """
SELECT DISTINCT ON (collection) collection, items, root FROM eocat.log_collection
 WHERE index < %s ORDER BY collection, index DESC
"""


@dataclass(frozen=True, slots=True)
class TreeHead:
    """A size of the log that was sequenced, and the root of its tree."""

    size: int
    root: bytes


def newest_tree(connection: Connection) -> TreeHead | None:
    row = connection.execute("SELECT size, root FROM eocat.log_tree ORDER BY size DESC LIMIT 1").fetchone()
    return TreeHead(*row) if row else None


def append_pending(
    connection: Connection, collection: str, item: str, events: Sequence[tuple[int, str]]
) -> None:
    """Queue committed events, as (seq, status of the item after it), in the caller's transaction.

    What is queued or logged already is left as it is. (Where an event is being logged at this moment, the
    statement waits for that and then queues it once more, on an older snapshot: `sequence` drops it.)
    """
    connection.cursor().executemany(
        """INSERT INTO eocat.log_pending (collection, item_id, seq, status) SELECT %(c)s, %(i)s, %(n)s, %(s)s
            WHERE NOT EXISTS (SELECT FROM eocat.log_entry
                               WHERE collection = %(c)s AND item_id = %(i)s AND seq = %(n)s)
           ON CONFLICT (collection, item_id, seq) DO NOTHING""",
        [{"c": collection, "i": item, "n": seq, "s": status} for seq, status in events],
    )


def sequence(connection: Connection) -> bool:
    """Append what is pending, in one transaction; whether the log grew. The caller holds the log's lock."""
    with connection.transaction():
        tree = newest_tree(connection)
        connection.execute(QUEUED_AGAIN)
        pending = connection.execute(PENDING, [BATCH]).fetchall()
        if tree is not None and not pending:
            return False
        old_size = tree.size if tree else 0  # the very first tree is the head map of an empty catalogue
        rows: list[tuple[object, ...]] = []
        for index, (_, collection, item, seq, status, event, payload, envelope) in enumerate(
            pending, old_size
        ):
            entry = format_entry(Entry(collection, item, seq, event, payload, envelope))
            rows.append((index, entry, leaf_hash(entry), collection, item, seq, status))
        insert_entries(connection, rows)
        _append_heads(connection, {row[1] for row in pending}, old_size + len(pending))
        size = old_size + len(pending) + 1
        grow_tree(connection, old_size, size)
        connection.execute(
            "DELETE FROM eocat.log_pending WHERE position = ANY (%s)", [[row[0] for row in pending]]
        )
    return True


def grow_tree(connection: Connection, old_size: int, size: int) -> None:
    """Append the hashes and the tree head of `size`, whose entries are there."""
    _append_hashes(connection, old_size, size)
    root = tree_at(connection, size).root()
    connection.execute("INSERT INTO eocat.log_tree (size, root) VALUES (%s, %s)", [size, root])


def tree_at(connection: Connection, size: int) -> Tree:
    """The log's tree when it had `size` ≥ 1 entries, read from the database."""
    return tree_from_tiles(size, lambda tile: read_tile(connection, tile))


def read_tile(connection: Connection, tile: Tile) -> bytes:
    """The bytes of a tile or entry bundle, from the rows behind it."""
    column, table = ("hash", "log_hash") if tile.level else ("leaf_hash", "log_entry")
    if tile.level is None:
        column = "entry"
    level = "AND level = %(level)s" if tile.level else ""
    found = connection.execute(
        f"""SELECT {column} FROM eocat.{table}
             WHERE index >= %(first)s AND index < %(end)s {level} ORDER BY index""",  # noqa: S608  # names of this function
        {
            "level": tile.level,
            "first": tile.index * TILE_WIDTH,
            "end": tile.index * TILE_WIDTH + tile.width,
        },
    ).fetchall()
    values = [row[0] for row in found]
    return format_bundle(values) if tile.level is None else b"".join(values)


def collections_at(connection: Connection, size: int) -> SortedTree[CollectionHeads]:
    """The collections of the head map when the log had `size` entries."""
    return SortedTree(
        [
            CollectionHeads(name, items, root.hex())
            for name, items, root in connection.execute(COLLECTIONS, [size])
        ]
    )


def _append_heads(connection: Connection, changed: set[str], index: int) -> None:
    """The head map over the entries below `index`, as the entry at `index`."""
    roots = []
    for collection in sorted(changed):
        heads = HeadTree.at(connection, collection, index)
        roots.append(CollectionHeads(collection, len(heads), heads.root()))
    before = {leaf.name: leaf for leaf in collections_at(connection, index).leaves}
    tree = SortedTree(list((before | {one.name: one for one in roots}).values()))
    entry = format_heads(Heads(len(tree), tree.root()))
    insert_entries(connection, [(index, entry, leaf_hash(entry), None, None, None, None)])
    insert_collections(connection, index, roots)


def _append_hashes(connection: Connection, old_size: int, size: int) -> None:
    """The hash of every tile that was completed between the two sizes, level by level."""
    level = 1
    while size >> level * TILE_HEIGHT:
        complete = range(old_size >> level * TILE_HEIGHT, size >> level * TILE_HEIGHT)
        connection.cursor().executemany(
            "INSERT INTO eocat.log_hash (level, index, hash) VALUES (%s, %s, %s)",
            [
                (level, index, build_tiles(read_tile(connection, Tile(level - 1, index)))[-HASH_BYTES:])
                for index in complete
            ],
        )
        level += 1


def insert_collections(connection: Connection, index: int, roots: Sequence[CollectionHeads]) -> None:
    """The collections that the head map at `index` has anew."""
    connection.cursor().executemany(
        "INSERT INTO eocat.log_collection (collection, index, items, root) VALUES (%s, %s, %s, %s)",
        [(one.name, index, one.items, bytes.fromhex(one.root)) for one in roots],
    )


def insert_entries(connection: Connection, rows: list[tuple[object, ...]]) -> None:
    """rows: (index, entry, leaf hash, collection, item, seq, status), the last four null in a head map."""
    copy = "COPY eocat.log_entry (index, entry, leaf_hash, collection, item_id, seq, status) FROM STDIN"
    with connection.cursor().copy(copy) as stream:
        for row in rows:
            stream.write_row(row)
