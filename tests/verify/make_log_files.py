"""A made log's static files in a folder, as C2SP tlog-tiles lays them out."""

from collections.abc import Sequence
from pathlib import Path

from eocat.verify.log.tiles import format_bundle, tiles_between
from eocat.verify.merkle import HASH_BYTES, TILE_WIDTH, build_tiles, leaf_hash, tree_of


def write_log(folder: Path, entries: Sequence[bytes], note: bytes) -> Path:
    """Checkpoint, tiles and entry bundles of these entries; the folder."""
    levels = [b"".join(map(leaf_hash, entries))]
    while len(levels[-1]) >= TILE_WIDTH * HASH_BYTES:
        levels.append(_above(levels[-1]))
    files = {"checkpoint": note}
    for tile in tiles_between(0, len(entries)):
        start = tile.index * TILE_WIDTH
        files[tile.path] = (
            format_bundle(entries[start : start + tile.width])
            if tile.level is None
            else levels[tile.level][start * HASH_BYTES :][: tile.width * HASH_BYTES]
        )
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def _above(hashes: bytes) -> bytes:
    step = TILE_WIDTH * HASH_BYTES
    full = [hashes[at : at + step] for at in range(0, len(hashes) - step + 1, step)]
    return b"".join(tree_of(build_tiles(part), TILE_WIDTH).root() for part in full)
