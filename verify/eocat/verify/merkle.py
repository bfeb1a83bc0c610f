"""RFC 6962 Merkle trees: roots, inclusion and consistency proofs, and the file of row hashes behind them.

The file holds the tree as C2SP tlog-tiles do (tile height 8): the leaf hashes, then the hashes of every
complete run of 256 leaves, then of 256 · 256, and so on. A proof for one row needs the row's own tile of
each level and the last, unfinished one: at most six range reads for up to 16 million rows, and no service.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from .errors import Malformed

HASH_BYTES = 32
TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
MAX_SIZE = 1 << 40


def leaf_hash(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def build_tiles(leaves: bytes) -> bytes:
    """The file of row hashes for the concatenated leaf hashes `leaves` (32 bytes each)."""
    levels = [leaves]
    tile_bytes = TILE_WIDTH * HASH_BYTES
    while len(levels[-1]) >= tile_bytes:
        below = levels[-1]
        complete = len(below) // tile_bytes
        levels.append(b"".join(_fold(below[i * tile_bytes : (i + 1) * tile_bytes]) for i in range(complete)))
    return b"".join(levels)


def tiles_bytes(size: int) -> int:
    """Length in bytes of the file of row hashes of a tree with `size` leaves."""
    total = 0
    while size:
        total += size * HASH_BYTES
        size >>= TILE_HEIGHT
    return total


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree of `size` ≥ 1 leaves, read through `read(offset, length)` from its file of row hashes.

    `read` may be a slice of bytes in memory, a pread or an HTTP range request; it must give exactly
    `length` bytes. Nothing read is trusted: what comes out is checked against a signed root.
    """

    size: int
    read: Callable[[int, int], bytes]

    def __post_init__(self) -> None:
        if not 1 <= self.size <= MAX_SIZE:
            raise Malformed(f"tree of {self.size} leaves, expected 1 to 2^40")

    def root(self) -> bytes:
        return self._range(0, self.size)

    def leaf(self, index: int) -> bytes:
        return self._hashes(0, self._checked(index), 1)

    def prove(self, index: int) -> tuple[bytes, ...]:
        """The inclusion path of leaf `index`, from the leaf's sibling up."""
        return self._path(self._checked(index), 0, self.size)

    def prove_consistency(self, old_size: int) -> tuple[bytes, ...]:
        """The path that shows this tree to begin with its first `old_size` ≥ 1 leaves (RFC 6962, 2.1.2)."""
        if not 1 <= old_size <= self.size:
            raise Malformed(f"tree of {self.size} leaves has no older self of {old_size}")
        return self._older(old_size, 0, self.size, whole=True)

    def _checked(self, index: int) -> int:
        if not 0 <= index < self.size:
            raise Malformed(f"row {index} is outside 0 to {self.size - 1}")
        return index

    def _path(self, index: int, low: int, high: int) -> tuple[bytes, ...]:
        if high - low == 1:
            return ()
        middle = low + _split(high - low)
        if index < middle:
            return (*self._path(index, low, middle), self._range(middle, high))
        return (*self._path(index, middle, high), self._range(low, middle))

    def _older(self, old: int, low: int, high: int, *, whole: bool) -> tuple[bytes, ...]:
        """RFC 6962's SUBPROOF over leaves low..high-1; whole: the checker knows this subtree's old hash."""
        if old == high:
            return () if whole else (self._range(low, high),)
        middle = low + _split(high - low)
        if old <= middle:
            return (*self._older(old, low, middle, whole=whole), self._range(middle, high))
        return (*self._older(old, middle, high, whole=False), self._range(low, middle))

    def _range(self, low: int, high: int) -> bytes:
        """Hash of the subtree over leaves low..high-1; low is a multiple of the largest power of 2 in it."""
        count = high - low
        if count & (count - 1) == 0:  # complete: its hash folds from entries of one tile
            level, height = divmod(count.bit_length() - 1, TILE_HEIGHT)
            return _fold(self._hashes(level, low >> (level * TILE_HEIGHT), 1 << height))
        middle = low + _split(count)
        return node_hash(self._range(low, middle), self._range(middle, high))

    def _hashes(self, level: int, first: int, count: int) -> bytes:
        offset = sum((self.size >> (below * TILE_HEIGHT)) * HASH_BYTES for below in range(level))
        length = count * HASH_BYTES
        data = self.read(offset + first * HASH_BYTES, length)
        if len(data) != length:
            raise Malformed(
                f"row hashes end early: {len(data)} of {length} bytes at level {level}, entry {first}"
            )
        return data


def tree_of(tiles: bytes, size: int) -> Tree:
    """The tree of `size` leaves whose file of row hashes is held in memory."""
    if len(tiles) != tiles_bytes(size):
        raise Malformed(f"file of row hashes has {len(tiles)} bytes, {size} rows need {tiles_bytes(size)}")
    return Tree(size, lambda offset, length: tiles[offset : offset + length])


def tiled(size: int, read: Callable[[int, int], bytes]) -> Callable[[int, int], bytes]:
    """`read` of a file of row hashes in whole tiles, each once: few requests instead of few bytes."""
    cache: dict[int, bytes] = {}
    tile_bytes = TILE_WIDTH * HASH_BYTES

    def within(offset: int, length: int) -> bytes:
        start, entries = 0, size
        while offset >= start + entries * HASH_BYTES and entries:
            start, entries = start + entries * HASH_BYTES, entries >> TILE_HEIGHT
        tile = start + (offset - start) // tile_bytes * tile_bytes
        if tile not in cache:
            cache[tile] = read(tile, min(tile_bytes, start + entries * HASH_BYTES - tile))
        return cache[tile][offset - tile : offset - tile + length]

    return within


def root_from_path(leaf: bytes, index: int, size: int, path: tuple[bytes, ...]) -> bytes:
    """The root that an inclusion path leads to (RFC 9162, section 2.1.3.2).

    leaf: hash of the leaf. Malformed if the path's length does not fit index and size: the caller compares
    the result with the signed root, and a path of another shape never gets that far.
    """
    if not 0 <= index < size <= MAX_SIZE or len(leaf) != HASH_BYTES:
        raise Malformed(f"inclusion proof for row {index} of {size}")
    node, last, result = index, size - 1, leaf
    for sibling in path:
        if len(sibling) != HASH_BYTES or last == 0:
            raise Malformed("inclusion path is longer than its tree or holds a hash of another length")
        if node & 1 or node == last:
            result = node_hash(sibling, result)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            result = node_hash(result, sibling)
        node >>= 1
        last >>= 1
    if last:
        raise Malformed("inclusion path is shorter than its tree")
    return result


def check_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: tuple[bytes, ...]
) -> bool:
    """Whether `path` shows that the new tree begins with the old one (RFC 9162, section 2.1.4.2).

    False also where path and sizes do not fit. Nothing is shown by an empty old tree: do not ask then.
    """
    if not 1 <= old_size <= new_size <= MAX_SIZE or any(len(node) != HASH_BYTES for node in path):
        return False
    if old_size == new_size:
        return not path and old_root == new_root
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node >>= 1
        last >>= 1
    if node:  # else the old tree is complete, and the path leaves out its root
        if not path:
            return False
        (seed, *rest) = path
    else:
        seed, rest = old_root, list(path)
    old = new = seed
    for sibling in rest:
        if last == 0:
            return False
        if node & 1 or node == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            new = node_hash(new, sibling)
        node >>= 1
        last >>= 1
    return last == 0 and old == old_root and new == new_root


def _split(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << (count - 1).bit_length() - 1


def _fold(hashes: bytes) -> bytes:
    """Root of a complete tree over a power of two of hashes."""
    sha256, pair = hashlib.sha256, 2 * HASH_BYTES
    while len(hashes) > HASH_BYTES:
        starts = range(0, len(hashes), pair)
        hashes = b"".join([sha256(b"\x01" + hashes[i : i + pair]).digest() for i in starts])
    return hashes
