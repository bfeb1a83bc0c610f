"""The catalogue's transparency log: one step after the other, each of which may be the last before a crash.

    1 commit    admission commits events and queues them, with rows and Item, in one transaction
    2 sequence  pending events get their index, a head map follows them, the tree grows (log_store.py)
    3 write     tiles, entry bundles and envelopes, as files that never change (log_files.py)
    4 sign      the checkpoint of the new size
    5 cosign    witnesses are asked, where there are any
    6 publish   the checkpoint's file is replaced
    7 record    the published note goes into the database, and where it has the quorum, there for good

`advance` does 2 to 7 under one lock and may be called at any time: what a crash left undone is taken up where
it stopped. Nothing is signed but what begins with the tree that was last recorded, in the database and in the
published file; where these two disagree, the log stops and writes down why (design of provenance, section 6).
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from eocat.verify.errors import ConfigError, LogViolation, Malformed
from eocat.verify.log.checkpoint import Checkpoint, format_checkpoint, parse_checkpoint
from eocat.verify.log.entry import parse_entry
from eocat.verify.log.heads import is_heads
from eocat.verify.log.note import (
    Note,
    Signature,
    VerifierKey,
    format_note,
    format_vkey,
    parse_note,
)
from eocat.verify.log.tiles import Tile, parse_bundle, tiles_between
from eocat.verify.merkle import TILE_WIDTH, leaf_hash

from .cosign import Witnesses, read_witnesses
from .database import Database
from .keyring import Keyring, ensure_keyring, keys_folder
from .log_evidence import open_checkpoint, write_evidence
from .log_files import LogFolder
from .log_store import Connection, TreeHead, newest_tree, read_tile, sequence, tree_at

LOCK = 0x65_6F_63_61_74_02

Cosign = Callable[[bytes], Sequence[Signature]]  # a signed checkpoint → the witnesses' signature lines
Step = Callable[[str], None]  # told what has just been done; tests end the process there


def log_folder(home: Path) -> LogFolder:
    return LogFolder(home / "log")


def open_keyring(database: Database) -> Keyring:
    """The keys of the home, made if the log has not begun; ConfigError if they are not this log's."""
    home = database.required_home()
    with database.connect() as connection:
        known = connection.execute("SELECT origin, verifier_key FROM eocat.log_key").fetchone()
    if known is not None and not (keys_folder(home) / "log.pem").exists():
        raise ConfigError(
            f"the log {known[0]} of this database has its key elsewhere than in {keys_folder(home)}",
            hint="restore catalogue-keys from the home it was made with: no new key may sign it",
        )
    keyring = ensure_keyring(home)
    if known is not None and known != (keyring.origin, format_vkey(keyring.verifier)):
        raise ConfigError(
            f"the log {known[0]} of this database has another key than {keys_folder(home)}",
            hint="use the home that the catalogue was made with",
        )
    return keyring


def advance(database: Database, *, cosign: Cosign | None = None, step: Step = lambda _: None) -> Checkpoint:
    """Bring the published log up to what is committed; the newest checkpoint.

    cosign: who is asked for cosignatures, instead of the witnesses that the home names (cosign.py).
    Raises LogViolation where database, files and tree contradict each other: then nothing is signed.
    """
    keyring, folder = open_keyring(database), log_folder(database.required_home())
    witnesses = read_witnesses(database.required_home(), keyring.verifier)
    if cosign is None and witnesses is not None:
        cosign = witnesses.cosign
    with database.connect(autocommit=True) as connection:
        connection.execute("SET synchronous_commit TO on")  # what is signed must not be lost again
        connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])  # freed with the connection
        claim(connection, keyring)
        published = _reconcile(connection, folder, keyring.verifier)
        keep_cosigned(connection, folder, witnesses)  # of a run that ended between steps 6 and 7
        while sequence(connection):
            step("sequenced")
        tree = newest_tree(connection)
        if tree is None:
            raise RuntimeError("sequencing gave no tree")
        if published is not None and published.size == tree.size:
            return published
        _check_grown(connection, folder, published, tree)
        _write_files(connection, folder, published.size if published else 0, tree.size, step)
        step("written")
        checkpoint = Checkpoint(keyring.origin, tree.size, tree.root)
        note = keyring.sign_note(format_checkpoint(checkpoint))
        step("signed")
        if cosign is not None:
            note = _with_cosignatures(note, cosign(note))
            step("cosigned")
        folder.write_checkpoint(note)
        step("published")
        record(connection, tree.size, note)
        keep_cosigned(connection, folder, witnesses)
        step("recorded")
        _drop_partials(folder, published.size if published else 0, tree.size)
    return checkpoint


def claim(connection: Connection, keyring: Keyring) -> None:
    """The first key to come is the log's for good."""
    connection.execute(
        """INSERT INTO eocat.log_key (origin, verifier_key)
           SELECT %s, %s WHERE NOT EXISTS (SELECT FROM eocat.log_key)""",
        [keyring.origin, format_vkey(keyring.verifier)],
    )


def _reconcile(connection: Connection, folder: LogFolder, key: VerifierKey) -> Checkpoint | None:
    """The last published checkpoint, on which database and file agree; None before the first.

    A file that is ahead of the record is what a crash between steps 6 and 7 leaves, if it is of our tree.
    """
    row = connection.execute("SELECT note FROM eocat.log_checkpoint ORDER BY size DESC LIMIT 1").fetchone()
    notes: dict[str, bytes] = {}
    if row is not None:
        notes["recorded in the database"] = bytes(row[0])
    if (file := folder.read_checkpoint()) is not None:
        notes["published in the file"] = file

    def refuse(why: str) -> LogViolation:
        evidence = write_evidence(folder.path.parent, why, notes)
        return LogViolation(
            f"the log stops: {why}",
            hint=f"the checkpoints are in {evidence}; was the database or the folder restored from a backup?",
        )

    try:
        opened = {where: open_checkpoint(note, key) for where, note in notes.items()}
    except Malformed as error:
        raise refuse(str(error)) from None
    recorded, published = opened.get("recorded in the database"), opened.get("published in the file")
    if recorded is not None and published is None:
        raise refuse(f"a checkpoint of size {recorded.size} is recorded, and {folder.path} has none")
    if recorded is not None and published is not None and published.size < recorded.size:
        raise refuse(f"size {recorded.size} is recorded as published, the file has size {published.size}")
    for where, checkpoint in opened.items():
        if _root_at(connection, checkpoint.size) != checkpoint.root:
            raise refuse(
                f"the tree does not begin with the checkpoint of size {checkpoint.size} that is {where}"
            )
    if published is not None and (recorded is None or published.size > recorded.size):
        record(connection, published.size, notes["published in the file"])
    return published


def _root_at(connection: Connection, size: int) -> bytes | None:
    """The root at a sequenced size, stored and as the hashes give it; None if these differ."""
    row = connection.execute("SELECT root FROM eocat.log_tree WHERE size = %s", [size]).fetchone()
    try:
        root = tree_at(connection, size).root()
    except Malformed:  # hashes are missing
        return None
    return root if row is not None and bytes(row[0]) == root else None


def _check_grown(
    connection: Connection, folder: LogFolder, published: Checkpoint | None, tree: TreeHead
) -> None:
    """The last look before signing: the tree is what its hashes say, and larger than what was published."""
    if (published is not None and published.size >= tree.size) or _root_at(
        connection, tree.size
    ) != tree.root:
        raise LogViolation(f"the tree of size {tree.size} in the database is not the one that was sequenced")


def _write_files(connection: Connection, folder: LogFolder, old: int, new: int, step: Step) -> None:
    """Step 3. Tiles and bundles that differ between the sizes, and the envelopes of the new entries."""
    for tile in tiles_between(old, new):
        data = read_tile(connection, tile)
        if tile.level is None:
            _check_bundle(connection, tile, data)
            _write_envelopes(connection, folder, tile)
        folder.write_once(tile.path, data)
        step("tile")


def _check_bundle(connection: Connection, bundle: Tile, data: bytes) -> None:
    """Entries are published only as they were hashed."""
    hashes = b"".join(leaf_hash(entry) for entry in parse_bundle(data, bundle.width))
    if hashes != read_tile(connection, Tile(0, bundle.index, bundle.width)):
        raise LogViolation(f"an entry of {bundle.path} in the database is not the one that was sequenced")


def _write_envelopes(connection: Connection, folder: LogFolder, bundle: Tile) -> None:
    rows = connection.execute(
        """SELECT l.entry, e.envelope FROM eocat.log_entry l LEFT JOIN eocat.event e
            USING (collection, item_id, seq) WHERE l.index >= %s AND l.index < %s""",
        [bundle.index * TILE_WIDTH, bundle.index * TILE_WIDTH + bundle.width],
    )
    for data, envelope in rows:
        if is_heads(data):
            continue
        entry = parse_entry(data)
        if envelope is None or hashlib.sha256(envelope).hexdigest() != entry.envelope:
            raise LogViolation(f"event {entry.seq} of {entry.path} is not the one that was sequenced")
        folder.write_once(f"envelope/{entry.envelope}", envelope)


def _with_cosignatures(data: bytes, lines: Sequence[Signature]) -> bytes:
    note = parse_note(data)
    return format_note(Note(note.text, (*note.signatures, *lines)))


def record(connection: Connection, size: int, note: bytes) -> None:
    """Step 7."""
    connection.execute("INSERT INTO eocat.log_checkpoint (size, note) VALUES (%s, %s)", [size, note])


def keep_cosigned(connection: Connection, folder: LogFolder, witnesses: Witnesses | None) -> None:
    """Keep the published note if it is the first of its size that has the quorum: it dates the events."""
    note = folder.read_checkpoint()
    if note is not None and witnesses is not None and witnesses.have_signed(note):
        size = parse_checkpoint(parse_note(note).text).size
        insert_cosigned(connection, size, folder.keep_cosigned(size, note))


def insert_cosigned(connection: Connection, size: int, note: bytes) -> None:
    connection.execute(
        "INSERT INTO eocat.log_cosigned (size, note) VALUES (%s, %s) ON CONFLICT (size) DO NOTHING",
        [size, note],
    )


def _drop_partials(folder: LogFolder, old: int, new: int) -> None:
    for tile in tiles_between(old, new):
        if tile.width == TILE_WIDTH:
            folder.drop_partials(tile)
