"""log/tiles.py: paths and bundles in one spelling; a tree read from tiles, and lies in tiles."""

import hashlib
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eocat.verify.errors import Malformed
from eocat.verify.log.tiles import (
    MAX_ENTRY_BYTES,
    Tile,
    format_bundle,
    parse_bundle,
    parse_tile_path,
    tiles_between,
    tree_from_tiles,
)
from eocat.verify.merkle import Tree, build_tiles, check_consistency, leaf_hash, root_from_path, tree_of


def leaves(size: int, log: str = "") -> bytes:
    return b"".join(hashlib.sha256(f"{log}{index}".encode()).digest() for index in range(size))


def written(size: int, log: str = "") -> dict[str, bytes]:
    """Every tile of a log of `size` entries, by its path, made from the RFC's definition of a level."""
    tiles, level, hashes = {}, 0, leaves(size, log)
    while hashes:
        for start in range(0, len(hashes), 8192):
            part = hashes[start : start + 8192]
            tiles[Tile(level, start // 8192, len(part) // 32).path] = part
        full = [hashes[start : start + 8192] for start in range(0, len(hashes) - 8191, 8192)]
        hashes = b"".join(tree_of(build_tiles(part), 256).root() for part in full)
        level += 1
    return tiles


def memory(tiles: dict[str, bytes]) -> Callable[[Tile], bytes]:
    return lambda tile: tiles[tile.path]


def test_paths_of_the_specification() -> None:
    assert Tile(0, 1234067).path == "tile/0/x001/x234/067"
    assert Tile(0, 273, 112).path == "tile/0/273.p/112"
    assert Tile(None, 1234067, 1).path == "tile/entries/x001/x234/067.p/1"
    assert Tile(63, 0).path == "tile/63/000"
    assert Tile(1, 1000).path == "tile/1/x001/000"


def test_the_tiles_of_the_specifications_tree_of_70_000() -> None:
    """273 full and one of 112 at level 0, one full and one of 17 at level 1, one of 1 at level 2."""
    tiles = list(tiles_between(0, 70_000))
    assert [tile for tile in tiles if tile.level is not None] == [
        *(Tile(0, index) for index in range(273)),
        Tile(0, 273, 112),
        Tile(1, 0),
        Tile(1, 1, 17),
        Tile(2, 0, 1),
    ]
    assert [tile.index for tile in tiles if tile.level is None] == list(range(274))
    assert list(tiles_between(0, 256)) == [Tile(None, 0), Tile(0, 0), Tile(1, 0, 1)]


@pytest.mark.parametrize(
    ("old", "new"), [(0, 1), (5, 6), (255, 256), (256, 257), (250, 600), (65_535, 65_537), (9, 9)]
)
def test_what_a_growing_log_writes_is_what_was_not_there(old: int, new: int) -> None:
    before, after = (set(written(size)) for size in (old, new))
    hashes = {tile.path for tile in tiles_between(old, new) if tile.level is not None}
    assert hashes == after - before


BAD_PATHS = [
    "tile/0/1",
    "tile/0/01",
    "tile/0/0001",
    "tile/0/000/",
    "/tile/0/000",
    "tile/0/x000/001",
    "tile/0/x001",
    "tile/0/001/067",
    "tile/0/x001/x067",
    "tile/00/000",
    "tile/01/000",
    "tile/64/000",
    "tile/-1/000",
    "tile/+1/000",
    "tile/٣/000",
    "tile/x/000",
    "tile/entries",
    "tile/data/000",
    "tile/0/٠٠١",
    "tile/0/000.p/0",
    "tile/0/000.p/256",
    "tile/0/000.p/257",
    "tile/0/000.p/01",
    "tile/0/000.p/",
    "tile/0/000.p",
    "tile/0/000.p/+1",
    "tile/0/000.p/1/",
    "tile/0/../000",
    "tile/0/X001/000",
    "tile/0/x1/000",
    "tile/0/000.P/1",
    "tile/8/0/000.p/1",
    "TILE/0/000",
    "tile//000",
    "tile/0/x999/x999/x999/x999/x999/999",
]


@pytest.mark.parametrize(
    "path", [*BAD_PATHS, "", "tile/0/000\n", "tile/0/000 ", "tile/0/000.p/1\n", "tile/0/0\x0000"]
)
def test_a_path_has_one_spelling(path: str) -> None:
    with pytest.raises(Malformed):
        parse_tile_path(path)


@given(st.none() | st.integers(0, 63), st.integers(0, 1 << 40), st.integers(1, 256))
def test_paths_round_trip(level: int | None, index: int, width: int) -> None:
    tile = Tile(level, index, width)
    assert parse_tile_path(tile.path) == tile


@given(st.text("tile/x0123456789.p-entrs", max_size=30).map("tile/0/".__add__))
def test_a_path_that_is_read_is_the_one_that_is_written(path: str) -> None:
    try:
        tile = parse_tile_path(path)
    except Malformed:
        return
    assert tile.path == path


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=256))
def test_bundles_round_trip(entries: list[bytes]) -> None:
    data = format_bundle(entries)
    assert data == b"".join(struct.pack(">H", len(entry)) + entry for entry in entries)
    assert parse_bundle(data, len(entries)) == tuple(entries)


def test_a_bundle_holds_its_entries_and_nothing_else() -> None:
    data = format_bundle([b"one", b"", b"three"])
    for bad, width in (
        (data, 2),
        (data, 4),
        (data[:-1], 3),
        (data + b"\0", 3),
        (data + b"\0\0", 3),
        (b"", 1),
        (b"\0", 1),
    ):
        with pytest.raises(Malformed, match="just"):
            parse_bundle(bad, width)
    for entries in ([], [b""] * 257, [bytes(MAX_ENTRY_BYTES + 1)]):
        with pytest.raises(Malformed):
            format_bundle(entries)
    assert parse_bundle(format_bundle([bytes(MAX_ENTRY_BYTES)]), 1) == (bytes(MAX_ENTRY_BYTES),)


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 600, 65_536, 65_801])
def test_a_tree_read_from_tiles_is_the_tree(size: int) -> None:
    hashes = leaves(size)
    made, read = tree_of(build_tiles(hashes), size), tree_from_tiles(size, memory(written(size)))
    assert read.root() == made.root()
    for index in {0, 1, size // 2, size - 1} & set(range(size)):
        assert read.leaf(index) == hashes[index * 32 :][:32]
        assert read.prove(index) == made.prove(index)
    for old in {1, size // 2, size - 1, size} - {0}:
        assert read.prove_consistency(old) == made.prove_consistency(old)


def test_a_proof_fetches_each_tile_once_and_few_of_them() -> None:
    tiles, asked = written(65_801), list[str]()

    def fetch(tile: Tile) -> bytes:
        asked.append(tile.path)
        return tiles[tile.path]

    tree_from_tiles(65_801, fetch).prove(300)
    assert len(asked) == len(set(asked))
    assert set(asked) == {"tile/0/001", "tile/0/257.p/9", "tile/1/000", "tile/1/001.p/1"}


SIZE = 700
ROOT = tree_of(build_tiles(leaves(SIZE)), SIZE).root()


def holds(tree: Tree, index: int) -> bool:
    """What a monitor does: take leaf and path from the tiles, and compare with the signed root."""
    try:
        return root_from_path(tree.leaf(index), index, SIZE, tree.prove(index)) == ROOT
    except Malformed:
        return False


def test_attack_52_a_lie_in_any_hash_of_any_tile_breaks_the_proofs_over_it() -> None:
    tiles = written(SIZE)
    assert all(holds(tree_from_tiles(SIZE, memory(tiles)), index) for index in range(0, SIZE, 50))
    for path, data in tiles.items():
        for at in (0, len(data) // 2, len(data) - 1):
            lie = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            tree = tree_from_tiles(SIZE, memory({**tiles, path: lie}))
            tile = parse_tile_path(path)
            if tile.level == 0:  # the lie is about one leaf: its own proof fails
                assert not holds(tree, tile.index * 256 + at // 32)
            else:  # about 256 leaves: the proofs of all others fail
                assert not holds(tree, (at // 32 * 256 + 256) % SIZE)


@pytest.mark.parametrize("change", [-8192, -32, -1, 1, 32, 8192])
def test_attack_52_a_tile_of_another_width(change: int) -> None:
    tiles = written(SIZE)
    for path, data in tiles.items():
        altered = {**tiles, path: (data + bytes(8192))[: max(len(data) + change, 0)]}
        tree = tree_from_tiles(SIZE, memory(altered))
        with pytest.raises(Malformed, match="expected"):
            [tree.prove(index) for index in (0, 300, 699)]


def test_attack_52_a_tile_of_another_tree() -> None:
    """Another log's tile in the same place; and another place's tile of the same log."""
    tiles, others = written(SIZE), written(SIZE, log="other ")
    for path in tiles:
        tree = tree_from_tiles(SIZE, memory({**tiles, path: others[path]}))
        assert not all(holds(tree, index) for index in (0, 300, 699))
    swapped = {**tiles, "tile/0/000": tiles["tile/0/001"]}
    assert not holds(tree_from_tiles(SIZE, memory(swapped)), 0)


def test_attack_52_entries_that_are_not_the_tiles() -> None:
    """An entry bundle is held to the level 0 tile beside it: leaf hashes, in order."""
    entries = [b"entry %d" % index for index in range(5)]
    tile = b"".join(map(leaf_hash, entries))
    for wrong in (entries[::-1], [*entries[:-1], b"other"], [b"entry 0entry 1", *entries[2:], b""]):
        got = parse_bundle(format_bundle(wrong), 5)
        assert b"".join(map(leaf_hash, got)) != tile


def test_a_consistency_proof_from_tiles_links_two_checkpoints() -> None:
    old = tree_of(build_tiles(leaves(300)), 300).root()
    path = tree_from_tiles(SIZE, memory(written(SIZE))).prove_consistency(300)
    assert check_consistency(300, old, SIZE, ROOT, path)


@pytest.mark.parametrize(
    ("level", "index", "width"), [(-1, 0, 1), (64, 0, 1), (0, -1, 1), (0, 0, 0), (0, 0, 257)]
)
def test_a_tile_outside_every_tree_is_not_made(level: int, index: int, width: int) -> None:
    with pytest.raises(Malformed):
        Tile(level, index, width)
