"""The heads of one collection's items at a size of the log, as the tree that the head map holds of them.

The same tree as `eocat.verify.log.heads.SortedTree` over all its heads. A catalogue has it at hand for each
proof and each batch, so the leaves of 100,000 items are hashed where their entries lie, in the database, and
only the heads that a proof shows are read.
"""

from bisect import bisect_left
from dataclasses import dataclass

from eocat.verify.errors import LogViolation
from eocat.verify.log.entry import parse_entry
from eocat.verify.log.heads import EMPTY_ROOT, Absent, Head, Included
from eocat.verify.merkle import build_tiles, leaf_hash, tree_of

from .partitions import Connection

# A leaf: RFC 6962's 0x00, then id, seq, status and payload, which is the fifth line of an entry, a line each.
LEAVES = r"""
SELECT string_agg(item_id, E'\n' ORDER BY item_id COLLATE "C"),
       string_agg(sha256('\x00'::bytea || convert_to(concat(
           item_id, E'\n', seq, E'\n', status, E'\n', payload, E'\n'), 'UTF8')), ''::bytea
           ORDER BY item_id COLLATE "C")
  FROM (SELECT DISTINCT ON (item_id COLLATE "C") item_id, seq, status,
               split_part(convert_from(entry, 'UTF8'), E'\n', 5) AS payload
          FROM eocat.log_entry WHERE collection = %s AND index < %s
         ORDER BY item_id COLLATE "C", seq DESC) AS head
"""
HEAD = """
SELECT seq, status, entry FROM eocat.log_entry
 WHERE collection = %s AND item_id = %s AND index < %s ORDER BY seq DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class HeadTree:
    """names: the items' ids in order of their bytes; tiles: the file of the tree's hashes."""

    connection: Connection
    collection: str
    size: int
    names: list[str]
    tiles: bytes

    @classmethod
    def at(cls, connection: Connection, collection: str, size: int) -> "HeadTree":
        """The tree of `collection` when the log had `size` entries."""
        row = connection.execute(LEAVES, [collection, size]).fetchone()
        names, hashes = row or (None, None)
        tiles = build_tiles(hashes or b"")
        return cls(connection, collection, size, names.split("\n") if names else [], tiles)

    def __len__(self) -> int:
        return len(self.names)

    def root(self) -> str:
        """Root in hex."""
        return tree_of(self.tiles, len(self)).root().hex() if self.names else EMPTY_ROOT

    def prove(self, name: str) -> Included[Head] | Absent[Head]:
        """That the item's head is there, or the two neighbours between which it is not."""
        index = bisect_left(self.names, name.encode(), key=str.encode)
        if index < len(self) and self.names[index] == name:
            return self._included(index)
        return Absent(
            self._included(index - 1) if index else None,
            self._included(index) if index < len(self) else None,
        )

    def _included(self, index: int) -> Included[Head]:
        name = self.names[index]
        row = self.connection.execute(HEAD, [self.collection, name, self.size]).fetchone()
        if row is None:
            raise LogViolation(f"the log has no entry of {self.collection}/{name} any more")
        head = Head(name, row[0], row[1], parse_entry(row[2]).payload)
        tree = tree_of(self.tiles, len(self))
        if tree.leaf(index) != leaf_hash(head.data):
            raise LogViolation(f"the head of {self.collection}/{name} is not the one that its tree holds")
        return Included(head, index, tree.prove(index))
