"""The head map: where each item's history stands at one size of the log (docs/format.md, section 10).

    heads entry      eocat-heads/v1 ⏎ <count of collections> ⏎ <root> ⏎       last entry of a published size
      └ collection   <collection> ⏎ <count of items> ⏎ <root> ⏎               leaves in order of name
          └ item     <item> ⏎ <seq> ⏎ <status> ⏎ <payload of its head> ⏎      leaves in order of id

Two RFC 6962 trees, one in the other. Since leaves are sorted, two neighbours show that nothing stands
between them: that is how the absence of an item is proven, and why a WITHDRAW cannot be held back.
"""

import hashlib
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from ..errors import Malformed
from ..merkle import build_tiles, leaf_hash, root_from_path, tree_of

HEADS_FORMAT = "eocat-heads/v1"
STATUSES = ("active", "superseded", "obsolete", "withdrawn")
EMPTY_ROOT = hashlib.sha256(b"").hexdigest()  # RFC 6962: of a tree without leaves

_HEADS = re.compile(rf"{HEADS_FORMAT}\n(0|[1-9][0-9]{{0,12}})\n([0-9a-f]{{64}})\n")

Path = tuple[bytes, ...]


class Leaf(Protocol):
    """What a sorted tree holds: a name, and the bytes that are hashed."""

    @property
    def name(self) -> str: ...

    @property
    def data(self) -> bytes: ...


LeafT = TypeVar("LeafT", bound=Leaf)


@dataclass(frozen=True, slots=True)
class Head:
    """Where an item stands. name: its id; status: one of STATUSES; payload: SHA-256 hex of the head event."""

    name: str
    seq: int
    status: str
    payload: str

    @property
    def data(self) -> bytes:
        return f"{self.name}\n{self.seq}\n{self.status}\n{self.payload}\n".encode()


@dataclass(frozen=True, slots=True)
class CollectionHeads:
    """A collection: how many items it has, and the root (hex) over their heads."""

    name: str
    items: int
    root: str

    @property
    def data(self) -> bytes:
        return f"{self.name}\n{self.items}\n{self.root}\n".encode()


@dataclass(frozen=True, slots=True)
class Heads:
    """What a heads entry says: the count of collections and the root (hex) over them."""

    collections: int
    root: str


@dataclass(frozen=True, slots=True)
class Included(Generic[LeafT]):
    """A leaf, its place in the sorted tree, and the path that leads from it to the root."""

    leaf: LeafT
    index: int
    path: Path


@dataclass(frozen=True, slots=True)
class Absent(Generic[LeafT]):
    """The neighbours of a name that is not there; None beyond either end (both None: the tree is empty)."""

    before: Included[LeafT] | None
    after: Included[LeafT] | None


class SortedTree(Generic[LeafT]):
    """A tree over leaves that are sorted by name here; Malformed if one name stands twice."""

    def __init__(self, leaves: Sequence[LeafT]) -> None:
        self.leaves = sorted(leaves, key=_sort_key)
        self._names = [_sort_key(leaf) for leaf in self.leaves]
        if len(set(self._names)) != len(self._names):
            raise Malformed("head map has one name twice")
        self._tiles = build_tiles(b"".join(leaf_hash(leaf.data) for leaf in self.leaves))

    def __len__(self) -> int:
        return len(self.leaves)

    def root(self) -> str:
        """Root in hex."""
        return tree_of(self._tiles, len(self)).root().hex() if self.leaves else EMPTY_ROOT

    def prove(self, name: str) -> Included[LeafT] | Absent[LeafT]:
        """That the name's leaf is there, or the two neighbours between which it is not."""
        index = bisect_left(self._names, name.encode())
        if index < len(self) and self.leaves[index].name == name:
            return self._included(index)
        return Absent(
            self._included(index - 1) if index else None,
            self._included(index) if index < len(self) else None,
        )

    def _included(self, index: int) -> Included[LeafT]:
        return Included(self.leaves[index], index, tree_of(self._tiles, len(self)).prove(index))


class HeadMap:
    """The map of a whole catalogue: collection → heads of its items. A collection without items is not in."""

    def __init__(self, heads: Mapping[str, Sequence[Head]]) -> None:
        self.items = {name: SortedTree(items) for name, items in heads.items() if items}
        self.collections = SortedTree(
            [CollectionHeads(name, len(tree), tree.root()) for name, tree in self.items.items()]
        )

    @property
    def heads(self) -> Heads:
        return Heads(len(self.collections), self.collections.root())


def check_included(proof: Included[LeafT], count: int, root: str) -> None:
    """Malformed unless the path leads from the leaf at its index to `root` (hex) of `count` leaves."""
    found = root_from_path(leaf_hash(proof.leaf.data), proof.index, count, proof.path).hex()
    if found != root:
        raise Malformed(
            f"head map: {proof.leaf.name} at {proof.index} of {count} leads to root {found[:16]}…, "
            f"expected {root[:16]}…"
        )


def check_absent(name: str, proof: Absent[LeafT], count: int, root: str) -> None:
    """Malformed unless the neighbours show that no leaf of the tree has this name."""
    before, after = proof.before, proof.after
    for neighbour in (before, after):
        if neighbour is not None:
            check_included(neighbour, count, root)
    if before is None and after is None and (count, root) != (0, EMPTY_ROOT):
        raise Malformed(f"head map: the absence of {name} is shown by no neighbour of {count}")
    low, high = (before.index if before else -1), (after.index if after else count)
    if high != low + 1:
        raise Malformed(f"head map: leaves {low} and {high} are not neighbours, {name} may be between them")
    if (before and not _sort_key(before.leaf) < name.encode()) or (
        after and not name.encode() < _sort_key(after.leaf)
    ):
        raise Malformed(f"head map: {name} does not belong between the two leaves that are shown")


def format_heads(heads: Heads) -> bytes:
    """The bytes of a heads entry."""
    data = f"{HEADS_FORMAT}\n{heads.collections}\n{heads.root}\n".encode()
    parse_heads(data)
    return data


def parse_heads(data: bytes) -> Heads:
    """What a heads entry says; Malformed for any spelling that `format_heads` would not print."""
    match = _HEADS.fullmatch(data[:128].decode("ascii", "replace")) if len(data) < 128 else None
    if match is None:
        raise Malformed(f"log entry is not an {HEADS_FORMAT}: {data[:60]!r}")
    return Heads(int(match[1]), match[2])


def is_heads(data: bytes) -> bool:
    """Whether an entry of the log is a head map rather than an event."""
    return data.startswith(f"{HEADS_FORMAT}\n".encode())


def _sort_key(leaf: Leaf) -> bytes:
    return leaf.name.encode()
