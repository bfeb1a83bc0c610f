"""A log as static files: where tiles and entry bundles lie, and a tree read from them (C2SP tlog-tiles).

    tile/<level>/<index>[.p/<width>]      up to 256 hashes of 32 bytes
    tile/entries/<index>[.p/<width>]      up to 256 entries, each after its length (u16, big-endian)

Nothing read here is trusted: a lie in a tile surfaces when a proof made from it is checked against a root
that the log and its witnesses signed.
"""

import re
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ..errors import Malformed
from ..merkle import HASH_BYTES, MAX_SIZE, TILE_HEIGHT, TILE_WIDTH, Tree

MAX_ENTRY_BYTES = (1 << 16) - 1
MAX_LEVEL = 63
TILES_HELD = 64  # in memory while a tree is read: 512 KiB
_PATH = re.compile(r"tile/(entries|[0-9]{1,2})/((?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/([0-9]{1,3}))?")


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile of hashes at `level` ≥ 0, or with `level` None a bundle of entries; partial if `width` < 256."""

    level: int | None
    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        if not 0 <= (self.level or 0) <= MAX_LEVEL or not 0 <= self.index <= MAX_SIZE:
            raise Malformed(f"tile {self.index} of level {self.level} is outside every tree")
        if not 1 <= self.width <= TILE_WIDTH:
            raise Malformed(f"tile is {self.width} wide, expected 1 to {TILE_WIDTH}")

    @property
    def path(self) -> str:
        """Where it lies under the log's prefix, e.g. `tile/0/x001/x234/067.p/112`."""
        digits = str(self.index)
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        *above, last = (digits[at : at + 3] for at in range(0, len(digits), 3))
        level = "entries" if self.level is None else str(self.level)
        partial = f".p/{self.width}" if self.width < TILE_WIDTH else ""
        return "/".join(("tile", level, *(f"x{part}" for part in above), last)) + partial


def parse_tile_path(path: str) -> Tile:
    """The tile that lies at `path`; Malformed for every spelling but `Tile.path`."""
    found = _PATH.fullmatch(path)
    if not found:
        raise Malformed(f"{path[:80]!r} is no path of a tile")
    level, index, width = found.groups()
    tile = Tile(
        None if level == "entries" else int(level),
        int(re.sub("[x/]", "", index)),
        TILE_WIDTH if width is None else int(width),
    )
    if tile.path != path:
        raise Malformed(f"{path[:80]!r} is a second spelling of {tile.path}")
    return tile


def tiles_between(old_size: int, new_size: int) -> Iterator[Tile]:
    """The tiles and entry bundles that a log writes when it grows from `old_size` to `new_size` entries."""
    yield from _tiles_of_level(None, old_size, new_size)
    for level in range(-(-new_size.bit_length() // TILE_HEIGHT)):
        shift = level * TILE_HEIGHT
        yield from _tiles_of_level(level, old_size >> shift, new_size >> shift)


def format_bundle(entries: Sequence[bytes]) -> bytes:
    """1 to 256 entries as an entry bundle."""
    if not 1 <= len(entries) <= TILE_WIDTH or any(len(entry) > MAX_ENTRY_BYTES for entry in entries):
        raise Malformed(
            f"entry bundle of {len(entries)} entries, expected 1 to {TILE_WIDTH} "
            f"of at most {MAX_ENTRY_BYTES} bytes each"
        )
    return b"".join(struct.pack(">H", len(entry)) + entry for entry in entries)


def parse_bundle(data: bytes, width: int) -> tuple[bytes, ...]:
    """The `width` entries of an entry bundle; Malformed if it holds fewer or more bytes than they take."""
    entries: list[bytes] = []
    offset = 0
    for _ in range(width):
        if offset + 2 > len(data):
            break
        (length,) = struct.unpack_from(">H", data, offset)
        entries.append(data[offset + 2 : offset + 2 + length])
        offset += 2 + length
    if len(entries) != width or offset != len(data):
        raise Malformed(f"entry bundle of {len(data)} bytes does not hold just {width} entries")
    return tuple(entries)


def first_of(wanted: Tile, found: Tile, data: bytes) -> bytes:
    """The bytes of a partial tile, from those of the same or the complete one."""
    if wanted == found:
        return data
    if wanted.level is not None:
        return data[: wanted.width * HASH_BYTES]
    entries = parse_bundle(data, found.width)[: wanted.width]
    return data[: sum(2 + len(entry) for entry in entries)]


def tree_from_tiles(size: int, fetch: Callable[[Tile], bytes]) -> Tree:
    """The log's tree of `size` ≥ 1 entries. `fetch` gives a tile's bytes; they must be exactly its hashes.

    Fetch only tiles of a size that a verified checkpoint names; compare what comes out with its root.
    """

    @lru_cache(maxsize=TILES_HELD)
    def hashes(tile: Tile) -> bytes:
        data = fetch(tile)
        if len(data) != tile.width * HASH_BYTES:
            raise Malformed(
                f"{tile.path} has {len(data)} bytes, expected {tile.width} hashes of {HASH_BYTES}"
            )
        return data

    def read(offset: int, length: int) -> bytes:
        """`Tree` asks for bytes of all levels in a row, and never across the border of a tile."""
        level, first = 0, offset // HASH_BYTES
        while first >= size >> level * TILE_HEIGHT:
            first -= size >> level * TILE_HEIGHT
            level += 1
        index, start = divmod(first, TILE_WIDTH)
        width = min(TILE_WIDTH, (size >> level * TILE_HEIGHT) - index * TILE_WIDTH)
        return hashes(Tile(level, index, width))[start * HASH_BYTES :][:length]

    return Tree(size, read)


def _tiles_of_level(level: int | None, old: int, new: int) -> Iterator[Tile]:
    """The tiles whose content differs between a level of `old` and one of `new` hashes."""
    if old < new:
        for index in range(old // TILE_WIDTH, -(-new // TILE_WIDTH)):
            yield Tile(level, index, min(TILE_WIDTH, new - index * TILE_WIDTH))
