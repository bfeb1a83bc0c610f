"""The log brought back into a database from HOME/log, whose files outlive the database.

    1 checkpoint  the published one, signed by the key of this home
    2 beginning   what the database holds of the log already (a restored backup) is the files' beginning
    3 entries     hashed again, they give the checkpoint's root; their envelopes are there, each item's events
                  are a history, each head map is right (the checks of log_audit.py)
    4 append      events, entries, hashes, head maps, trees and the checkpoint, in one transaction

Everything that was acknowledged is in the published files, so nothing is lost but what no caller was told.
Items and rows follow from their shards (`eocat rebuild`, operations.md).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from eocat.verify.dsse import MAX_ENVELOPE_BYTES
from eocat.verify.errors import ConfigError, LogViolation
from eocat.verify.log.checkpoint import Checkpoint
from eocat.verify.log.entry import Entry, parse_entry
from eocat.verify.log.heads import CollectionHeads, is_heads
from eocat.verify.log.note import VerifierKey
from eocat.verify.merkle import leaf_hash

from .database import Database
from .histories import read_event
from .keyring import keys_folder
from .log import LOCK, claim, insert_cosigned, log_folder, open_keyring, record
from .log_audit import FolderSource, Replayed, Source, read_entries, root_of
from .log_evidence import open_checkpoint
from .log_files import LogFolder
from .log_store import Connection, grow_tree, insert_collections, insert_entries, newest_tree, tree_at


@dataclass(frozen=True, slots=True)
class Restored:
    """What was taken from the files: entries of the log, and the signed events among them."""

    checkpoint: Checkpoint
    entries: int
    events: int


@dataclass(slots=True)
class _Batch:
    """Entries up to a head map: what `log_store.sequence` once appended in one transaction."""

    first: int
    rows: list[tuple[object, ...]] = field(default_factory=list)
    roots: list[CollectionHeads] = field(default_factory=list)
    envelopes: list[bytes] = field(default_factory=list)


def restore_log(database: Database) -> Restored | None:
    """Append to the database what its home's log holds beyond it; None where no log was ever published.

    Raises LogViolation where files and database are not one log, ConfigError where the home lacks its key.
    """
    home = database.required_home()
    folder = log_folder(home)
    if (note := folder.read_checkpoint()) is None:
        return None
    if not (keys_folder(home) / "log.pem").exists():
        raise ConfigError(
            f"{home} holds a log but not its key", hint="restore catalogue-keys from the same backup"
        )
    keyring, source = open_keyring(database), FolderSource(folder.path)
    checkpoint = open_checkpoint(note, keyring.verifier)  # 1
    with database.connect(autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])  # freed with the connection
        claim(connection, keyring)
        entries = list(read_entries(source, checkpoint.size))
        known = _check_beginning(connection, checkpoint, entries)  # 2
        events = 0
        with connection.transaction():
            for batch in _batches(source, entries):  # 3
                if batch.first >= known:
                    events += _append(connection, batch)  # 4
            if known < checkpoint.size:
                record(connection, checkpoint.size, note)
            _insert_cosigned(connection, folder, keyring.verifier, checkpoint.size)
    return Restored(checkpoint, checkpoint.size - known, events)


def _insert_cosigned(connection: Connection, folder: LogFolder, key: VerifierKey, size: int) -> None:
    """The notes that date the events; those of a tree that was published, and of no other."""
    for kept, note in folder.cosigned().items():
        published = kept <= size and Checkpoint(key.name, kept, tree_at(connection, kept).root())
        if open_checkpoint(note, key) != published:
            raise LogViolation(f"the note that was kept of size {kept} is of another tree than the log's")
        insert_cosigned(connection, kept, note)


def _check_beginning(connection: Connection, checkpoint: Checkpoint, entries: Sequence[bytes]) -> int:
    """The size that the database has of the log."""
    leaves = b"".join(map(leaf_hash, entries))
    if root_of(leaves, checkpoint.size) != checkpoint.root:
        raise LogViolation(f"the entries do not give the root of the published size {checkpoint.size}")
    tree = newest_tree(connection)
    if tree is None:
        return 0
    if root_of(leaves, tree.size) != tree.root:
        raise LogViolation(
            f"the database holds a log of size {tree.size} that the files, of size {checkpoint.size}, do not"
            " begin with",
            hint="restore the newest copy of the home's folder log, or rebuild into an empty database",
        )
    return tree.size


def _batches(source: Source, entries: Sequence[bytes]) -> Iterator[_Batch]:
    replayed, batch = Replayed(), _Batch(0)
    for index, data in enumerate(entries):
        changed = sorted(replayed.changed)
        replayed.take(source, index, data)
        if is_heads(data):
            batch.rows.append((index, data, leaf_hash(data), None, None, None, None))
            batch.roots = [replayed.roots[name] for name in changed]
            yield batch
            batch = _Batch(index + 1)
            continue
        entry = parse_entry(data)
        status = replayed.heads[entry.collection][entry.item].status
        batch.rows.append((index, data, leaf_hash(data), entry.collection, entry.item, entry.seq, status))
        batch.envelopes.append(_envelope(source, entry))
    if batch.rows:
        raise LogViolation(f"the last of the log's {len(entries)} entries is no head map")


def _envelope(source: Source, entry: Entry) -> bytes:
    return source.read(f"envelope/{entry.envelope}", MAX_ENVELOPE_BYTES)


def _append(connection: Connection, batch: _Batch) -> int:
    """The number of events in the batch; LogViolation where the database holds another in a place."""
    for envelope in batch.envelopes:
        event = read_event(envelope)
        names = event.statement.predicate.item.split("/")
        connection.execute(
            """INSERT INTO eocat.event (collection, item_id, seq, event, payload_sha256, envelope)
               VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING""",
            [*names, event.seq, event.name, bytes.fromhex(event.payload), envelope],
        )
        held = connection.execute(
            "SELECT envelope FROM eocat.event WHERE collection = %s AND item_id = %s AND seq = %s",
            [*names, event.seq],
        ).fetchone()
        if held is None or bytes(held[0]) != envelope:
            raise LogViolation(
                f"the database holds another {event.name} {event.seq} of {'/'.join(names)} than its log",
                hint="rebuild into an empty database",
            )
    insert_entries(connection, batch.rows)
    last = batch.first + len(batch.rows) - 1
    insert_collections(connection, last, batch.roots)
    grow_tree(connection, batch.first, last + 1)
    return len(batch.envelopes)


def missing_items(database: Database) -> list[str]:
    """The items of the log, `collection/id` in order, that are not withdrawn and have no shard here."""
    with database.connect() as connection:
        rows = connection.execute(
            """SELECT collection || '/' || item_id FROM (
                   SELECT DISTINCT ON (collection, item_id) collection, item_id, status FROM eocat.log_entry
                    WHERE item_id IS NOT NULL ORDER BY collection, item_id, seq DESC) heads
                WHERE status <> 'withdrawn' AND NOT EXISTS (
                   SELECT FROM eocat.shard s
                    WHERE (s.collection, s.item_id) = (heads.collection, heads.item_id))
                ORDER BY 1"""
        ).fetchall()
    return [row[0] for row in rows]
