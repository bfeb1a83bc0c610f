"""The log's own files, read as a client of its tiles reads them, against the tree that a proof has shown.

The service makes log proofs from its database; mirrors, witnesses and auditors go by the files. So both must
tell one story, as Go's checksum database client demands of the tiles it reads:

    1 checkpoint   a listed log and a quorum signed it, and its tree begins with the proof's, and with the one
                   that this machine has seen before: a log that was turned back as a whole shows here
    2 tiles        those on the way to the entries: the partial ones give the root, each full one gives the
                   hash above it, so that no bit of them is beside the point
    3 entries      the bundles hold the very entries that the proof was about
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ..errors import Malformed, Unavailable
from ..logged import Proven, check_checkpoints
from ..merkle import HASH_BYTES, TILE_HEIGHT, TILE_WIDTH, build_tiles, check_consistency, leaf_hash, tree_of
from ..policy import LogTrust
from ..report import Outcome, Step
from .checkpoint import Checkpoint
from .entry import MAX_ENTRY_BYTES
from .item_proof import LogProofFailed
from .note import MAX_NOTE_BYTES
from .quorum import LogPolicy, parse_log_policy
from .tiles import Tile, first_of, parse_bundle, tree_from_tiles

STEP = "tiles"
CHECKPOINT = "checkpoint"

Read = Callable[[str, int], bytes]  # name under the log's prefix, limit in bytes; Unavailable, Malformed


def check_files(
    read: Read, proven: Proven | None, trust: LogTrust, now: datetime, seen: bytes | None
) -> Step:
    """The step. proven: by the log proof, None where none held: then only the checkpoint is looked at.

    seen: the newest note that this machine remembers.
    """
    policy = parse_log_policy(trust.policy.encode())
    try:
        judged = policy.judge(read(CHECKPOINT, MAX_NOTE_BYTES), now)
        if (failed := check_checkpoints([judged])) is not None:
            return Step(STEP, failed.text, failed.outcome)
        if proven is None:
            return Step(STEP, "not checked: no log proof says what to look for", checked=False)
        older = [proven.checkpoint, *_remembered(policy, seen, now)]
    except Malformed as error:
        return Step(STEP, str(error), Outcome.MALFORMED)
    except Unavailable as error:
        return Step(STEP, str(error), Outcome.UNAVAILABLE)
    newest = judged.checkpoint
    try:
        bundles = _check_tree(read, newest, older, proven)
    except (LogProofFailed, Malformed) as error:  # a tile of another length is a lie as well
        return Step(STEP, str(error), Outcome.LOG_VIOLATION)
    except Unavailable as error:
        return Step(STEP, str(error), Outcome.UNAVAILABLE)
    before = older[1].size if len(older) > 1 else None
    since = f", and begins with size {before} as seen before" if before else ""
    text = f"{len(proven.entries)} entries in {bundles} bundles of the log's files, size {newest.size}{since}"
    return Step(STEP, text, facts={"size": newest.size, "seenBefore": before})


def _remembered(policy: LogPolicy, seen: bytes | None, now: datetime) -> list[Checkpoint]:
    """The checkpoint in the note, if a listed log signed it: another one's is no memory of this log."""
    if seen is None:
        return []
    judged = policy.judge(seen, now)
    return [judged.checkpoint] if judged.log_key_ok else []


def _check_tree(read: Read, newest: Checkpoint, older: Sequence[Checkpoint], proven: Proven) -> int:
    """The number of bundles that were read; LogProofFailed or Malformed says what does not agree."""
    for one in older:
        if one.origin != newest.origin:
            raise LogProofFailed(f"the files are of the log {newest.origin}, the proof is of {one.origin}")
        if one.size > newest.size:
            raise LogProofFailed(
                f"the files of {newest.origin} show size {newest.size}, and {one.size} was shown: turned back"
            )
    files = _Files(read, newest.size)
    tree = tree_from_tiles(newest.size, files.hashes)
    if tree.root() != newest.root:
        raise LogProofFailed(f"the tiles do not give the root of size {newest.size} in {newest.origin}")
    for one in older:
        path = tree.prove_consistency(one.size)
        if not check_consistency(one.size, one.root, newest.size, newest.root, path):
            raise LogProofFailed(
                f"the files of {newest.origin}, size {newest.size}, do not begin with size {one.size}"
            )
    for index, entry in proven.entries.items():
        files.check_entry(index, entry)
    return len({index // TILE_WIDTH for index in proven.entries})


@dataclass(frozen=True, slots=True)
class _Files:
    """The tiles of a log of `size` entries, each looked at whole when it is first read."""

    read: Read
    size: int
    held: dict[Tile, bytes] = field(default_factory=dict)

    def hashes(self, tile: Tile) -> bytes:
        """The tile's hashes; of a full one they give the hash above it, or LogProofFailed."""
        if (known := self.held.get(tile)) is not None:
            return known
        data = self._bytes(tile, HASH_BYTES)
        if len(data) != tile.width * HASH_BYTES:
            raise Malformed(
                f"{tile.path} has {len(data)} bytes, expected {tile.width} hashes of {HASH_BYTES}"
            )
        level = tile.level or 0
        if tile.width == TILE_WIDTH and _fold(data) != self._hash(level + 1, tile.index):
            raise LogProofFailed(f"{tile.path} does not give the hash that the tile above it has")
        self.held[tile] = data
        return data

    def check_entry(self, index: int, entry: bytes) -> None:
        """LogProofFailed unless bundle and tile hold this entry at `index`."""
        at, place = divmod(index, TILE_WIDTH)
        bundle = self._tile(None, at)
        entries = parse_bundle(self._bytes(bundle, 2 + MAX_ENTRY_BYTES), bundle.width)
        hashes = b"".join(map(leaf_hash, entries))
        if entries[place] != entry or hashes != self.hashes(self._tile(0, at)):
            raise LogProofFailed(f"{bundle.path} does not hold the entries that the log's tree has there")

    def _hash(self, level: int, index: int) -> bytes:
        at, place = divmod(index, TILE_WIDTH)
        return self.hashes(self._tile(level, at))[place * HASH_BYTES :][:HASH_BYTES]

    def _tile(self, level: int | None, at: int) -> Tile:
        """The tile as it is in a tree of this size."""
        count = self.size >> (level or 0) * TILE_HEIGHT
        return Tile(level, at, min(TILE_WIDTH, count - at * TILE_WIDTH))

    def _bytes(self, tile: Tile, each: int) -> bytes:
        """The tile's file; a partial one that is gone is the beginning of the complete one."""
        try:
            return self.read(tile.path, tile.width * each)
        except Unavailable:
            if tile.width == TILE_WIDTH:
                raise
        full = Tile(tile.level, tile.index)
        return first_of(tile, full, self.read(full.path, TILE_WIDTH * each))


def _fold(hashes: bytes) -> bytes:
    return tree_of(build_tiles(hashes), len(hashes) // HASH_BYTES).root()
