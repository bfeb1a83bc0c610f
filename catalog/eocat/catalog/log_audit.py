"""The audit of a log that trusts nothing but its key and what was seen before (provenance, section 6).

    1 checkpoint   signed by the log's key
    2 memory       it begins with the tree of the last checkpoint that was seen here: else rollback or fork
    3 tree         all entries, hashed again, give its root; every tile holds the hashes of that tree
    4 events       every entry names an envelope that is there, and each item's events are a history
    5 head maps    every heads entry is the map of the histories before it; the last entry is one

Whoever passes is remembered. What fails is LogViolation, with the signed checkpoints kept as evidence where
they show it. Who signed an event is for `eocat verify`: here it only has to be readable and in order.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from eocat.verify.dsse import MAX_ENVELOPE_BYTES, parse_envelope
from eocat.verify.edge.fetch import fetch_bytes
from eocat.verify.errors import LogViolation, Malformed, Unavailable, Untrusted
from eocat.verify.events import AnyStatement, parse_event
from eocat.verify.evidence import read_limited
from eocat.verify.history import BrokenHistory, History, replay
from eocat.verify.log.checkpoint import Checkpoint
from eocat.verify.log.entry import Entry, entry_of, parse_entry
from eocat.verify.log.heads import CollectionHeads, Head, Heads, SortedTree, is_heads, parse_heads
from eocat.verify.log.note import MAX_NOTE_BYTES, VerifierKey
from eocat.verify.log.tiles import MAX_ENTRY_BYTES, Tile, first_of, parse_bundle, tiles_between
from eocat.verify.merkle import HASH_BYTES, TILE_HEIGHT, TILE_WIDTH, build_tiles, leaf_hash, tree_of
from eocat.verify.statement import Statement

from .log_evidence import open_checkpoint, write_evidence
from .log_files import LogFolder

MAX_BUNDLE_BYTES = TILE_WIDTH * (MAX_ENTRY_BYTES + 2)


class Source(Protocol):
    """Where a log's files are read from."""

    def read(self, name: str, limit_bytes: int) -> bytes:
        """The file of that name under the log's prefix; Unavailable if it is not to be had."""
        ...


@dataclass(frozen=True, slots=True)
class FolderSource:
    folder: Path

    def read(self, name: str, limit_bytes: int) -> bytes:
        return read_limited(self.folder / name, limit_bytes)


@dataclass(frozen=True, slots=True)
class UrlSource:
    url: str

    def read(self, name: str, limit_bytes: int) -> bytes:
        return fetch_bytes(f"{self.url.rstrip('/')}/{name}", limit_bytes)


@dataclass(frozen=True, slots=True)
class Audit:
    """A log that passed. before: the size that was remembered, 0 at the first audit."""

    checkpoint: Checkpoint
    before: int
    events: int
    items: int


def audit(source: Source, key: VerifierKey, home: Path) -> Audit:
    """Follow the log from what HOME remembers of it, and check all of it; the new checkpoint is remembered.

    Raises LogViolation, Untrusted (the checkpoint is not the key's), Malformed, Unavailable.
    """
    note = source.read("checkpoint", MAX_NOTE_BYTES)
    try:
        checkpoint = open_checkpoint(note, key)  # 1
    except Malformed as error:
        raise Untrusted(str(error), hint="is it the right key? 'eocat log show' prints a log's own") from None
    memory = LogFolder(home / "log-memory")
    name = f"{hashlib.sha256(key.name.encode()).hexdigest()}.txt"
    seen = _remembered(memory, name, key)
    _check_not_older(checkpoint, note, seen, home)
    entries = list(read_entries(source, checkpoint.size))
    leaves = b"".join(map(leaf_hash, entries))
    _check_tree(checkpoint, note, leaves, seen, home)  # 2, 3
    _check_tiles(source, leaves)
    replayed = Replayed()
    for index, entry in enumerate(entries):  # 4, 5
        replayed.take(source, index, entry)
    if not entries or not is_heads(entries[-1]):
        raise LogViolation(f"the last of the log's {checkpoint.size} entries is no head map")
    memory.replace(name, note)
    return Audit(checkpoint, seen[0].size if seen else 0, replayed.events, len(replayed.histories))


Seen = tuple[Checkpoint, bytes]


def _remembered(memory: LogFolder, name: str, key: VerifierKey) -> Seen | None:
    try:
        note = (memory.path / name).read_bytes()
    except FileNotFoundError:
        return None
    try:
        return open_checkpoint(note, key), note
    except Malformed as error:
        raise Untrusted(
            f"what is remembered of {key.name} in {memory.path / name} is not signed by this key: {error}",
            hint="another log has that name, or its key has changed; compare both keys with their owner",
        ) from None


def _check_not_older(checkpoint: Checkpoint, note: bytes, seen: Seen | None, home: Path) -> None:
    if seen is not None and checkpoint.size < seen[0].size:
        why = f"{checkpoint.origin} shows size {checkpoint.size}, it has shown {seen[0].size}: a rollback"
        raise _violation(why, note, seen, home)


def _check_tree(checkpoint: Checkpoint, note: bytes, leaves: bytes, seen: Seen | None, home: Path) -> None:
    if seen is not None and root_of(leaves, seen[0].size) != seen[0].root:
        why = f"{checkpoint.origin} of size {checkpoint.size} does not begin with its size {seen[0].size}"
        raise _violation(f"{why}: a fork", note, seen, home)
    if root_of(leaves, checkpoint.size) != checkpoint.root:
        raise _violation(
            f"the entries of {checkpoint.origin} do not give the root of size {checkpoint.size}",
            note, seen, home,
        )  # fmt: skip


def _violation(why: str, note: bytes, seen: Seen | None, home: Path) -> LogViolation:
    notes = {"shown now": note} | ({"seen before": seen[1]} if seen else {})
    return LogViolation(why, hint=f"the signed checkpoints are in {write_evidence(home, why, notes)}")


def root_of(leaves: bytes, size: int) -> bytes | None:
    """The root over the first `size` of the leaf hashes; None if there are fewer."""
    if not 1 <= size <= len(leaves) // HASH_BYTES:
        return None
    return tree_of(build_tiles(leaves[: size * HASH_BYTES]), size).root()


def read_entries(source: Source, size: int) -> Iterator[bytes]:
    """The first `size` entries, from the entry bundles."""
    for tile in tiles_between(0, size):
        if tile.level is None:
            yield from parse_bundle(_read_tile(source, tile), tile.width)


def _check_tiles(source: Source, leaves: bytes) -> None:
    """Every tile of hashes is the one that the entries give."""
    size = len(leaves) // HASH_BYTES
    data, offsets, level = build_tiles(leaves), [0], 0
    while size >> level * TILE_HEIGHT:
        offsets.append(offsets[-1] + (size >> level * TILE_HEIGHT) * HASH_BYTES)
        level += 1
    for tile in tiles_between(0, size):
        if tile.level is not None:
            start = offsets[tile.level] + tile.index * TILE_WIDTH * HASH_BYTES
            if _read_tile(source, tile) != data[start : start + tile.width * HASH_BYTES]:
                raise LogViolation(f"{tile.path} does not hold the hashes of the log's entries")


def _read_tile(source: Source, tile: Tile) -> bytes:
    """The tile's bytes; a partial tile may have been replaced by the complete one."""
    full = Tile(tile.level, tile.index)
    try:
        return source.read(tile.path, MAX_BUNDLE_BYTES)
    except Unavailable:
        if tile == full:
            raise
    return first_of(tile, full, source.read(full.path, MAX_BUNDLE_BYTES))


@dataclass(slots=True)
class Replayed:
    """The histories of all items, as the entries so far tell them."""

    histories: dict[str, History] = field(default_factory=dict)
    heads: dict[str, dict[str, Head]] = field(default_factory=dict)
    roots: dict[str, CollectionHeads] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    events: int = 0

    def take(self, source: Source, index: int, data: bytes) -> None:
        """One more entry; LogViolation if it is not what has to follow."""
        if is_heads(data):
            self._check_heads(index, parse_heads(data))
            return
        try:
            entry = parse_entry(data)
            self._follow(entry, *_event(source, entry))
        except (Malformed, BrokenHistory) as error:
            raise LogViolation(f"entry {index} of the log: {error}") from None

    def _follow(self, entry: Entry, payload: str, statement: AnyStatement) -> None:
        known = self.histories.get(entry.path)
        if known is None:
            history = replay([(payload, statement)])
        elif isinstance(statement, Statement):
            raise BrokenHistory(f"a second CREATE of {entry.path} stands in the log")
        else:
            history = known.then(payload, statement)
        self.histories[entry.path] = history
        head = Head(entry.item, history.seq, history.status.value, history.head)
        self.heads.setdefault(entry.collection, {})[entry.item] = head
        self.changed.add(entry.collection)
        self.events += 1

    def _check_heads(self, index: int, found: Heads) -> None:
        for name in self.changed:
            tree = SortedTree(list(self.heads[name].values()))
            self.roots[name] = CollectionHeads(name, len(tree), tree.root())
        self.changed.clear()
        collections = SortedTree(list(self.roots.values()))
        if found != Heads(len(collections), collections.root()):
            raise LogViolation(f"entry {index} of the log is not the head map of the events before it")


def _event(source: Source, entry: Entry) -> tuple[str, AnyStatement]:
    """The event that an entry names, from its envelope."""
    envelope = source.read(f"envelope/{entry.envelope}", MAX_ENVELOPE_BYTES)
    if hashlib.sha256(envelope).hexdigest() != entry.envelope or entry_of(envelope) != entry:
        raise Malformed(f"the envelope of {entry.event} {entry.seq} of {entry.path} is not the one it names")
    parsed = parse_envelope(envelope)
    return parsed.payload_digest, parse_event(parsed.payload)
