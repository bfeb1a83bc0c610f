"""Admission: a shard enters the catalogue only if it verifies, whole, and once (docs/format.md, section 9).

For each shard's folder, under a lock on its collection:

    1 verify    the folder against the operator's policy; what is not VERIFIED is refused with its outcome
    2 compare   known already with the same payload: nothing to do; with another: refused, never overwritten
    3 load      shard, rows, events and Item in one transaction; the registrar's REGISTER among the events
    4 compare   the leaf hashes of what was copied with those under the signed root, digests again; commit

What is committed is thus what was signed, whatever happened to the file between 1 and 3. The commits of many
shards are flushed to the disk together, before the log speaks of them. Indexes on place and time, extents
and queryables follow once for all shards of a collection; a crash before them leaves answers slower. Then the
log takes up all events (log.py), and last come the indexes on vectors (indexer.py). An item that is known may
bring events that follow the stored ones.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from eocat.verify import canonical
from eocat.verify.check import check
from eocat.verify.content import EMBEDDINGS, ROW_HASHES
from eocat.verify.digest import digest_file
from eocat.verify.errors import EocatError, InputError
from eocat.verify.evidence import ITEM_FILE, Evidence, read_folder, read_limited
from eocat.verify.history import BrokenHistory, Status
from eocat.verify.merkle import HASH_BYTES, tiles_bytes
from eocat.verify.policy import Policy
from eocat.verify.report import Outcome, Report
from eocat.verify.shard import RowBatch, Shard
from eocat.verify.statement import Create, Statement

from . import histories, partitions, vector_index
from .admitted import Admission
from .chip_copy import copy_rows
from .database import Database
from .documents import (
    Documents,
    check_item,
    load_collection,
    load_item,
    read_documents,
    refresh_collection,
)
from .histories import SignedEvent
from .indexer import build_if_due
from .item_view import STATUS, drop_rows, predecessors, show_history
from .keyring import Keyring
from .log import Cosign, Step, advance, open_keyring
from .partitions import Connection, Partition
from .projection import Projection
from .shard_folders import find_shards

REQUIRED_LEVEL = 2
REFUSED = InputError.exit_code
ADMISSIBLE = (
    Outcome.VERIFIED,
    Outcome.SUPERSEDED, Outcome.WITHDRAWN, Outcome.RECOMPUTE_MISMATCH,  # of a known item only
)  # fmt: skip
PGSTAC_LOCK = 0x65_6F_63_61_74_01  # pgSTAC's loaders deadlock on each other's partitions: one at a time

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Verified:
    """A folder that passed: its evidence, the statement that the report was about, and all its events.

    outcome: VERIFIED, or that of an item which is not for use any more. policy: what it was verified with.
    """

    folder: Path
    evidence: Evidence
    statement: Statement
    events: tuple[SignedEvent, ...]
    outcome: Outcome
    policy: Policy

    @property
    def create(self) -> Create:
        return self.statement.predicate

    @property
    def partition(self) -> Partition:
        rows = self.create.rows
        return Partition(self.create.projection.collection, rows.dtype, rows.dimension)


class Refused(Exception):
    """Why a verified shard is not admitted; `outcome` where its bytes are not the signed ones after all."""

    def __init__(self, reason: str, outcome: Outcome | None = None) -> None:
        super().__init__(reason)
        self.outcome = outcome


def register(
    database: Database,
    directories: Sequence[Path],
    policy: Policy,
    *,
    progress: Progress = lambda *_: None,
    cosign: Cosign | None = None,
    step: Step = lambda _: None,
    index: bool = True,
) -> list[Admission]:
    """Admit every finished shard in or under `directories`; the result has one Admission for each.

    What it says is registered is in the published log. cosign, step: see `log.advance`. index: build what
    becomes due, too; else the caller sees to it (indexer.py).
    Raises InputError if there is no shard at all, Unavailable if the database is not there, LogViolation.
    """
    folders = find_shards(directories)
    keyring = open_keyring(database)
    judged: list[Verified | Admission] = []
    with database.connect(autocommit=True) as connection:
        for folder in folders:
            judged.append(_verify(connection, folder, policy))
            progress(f"verifying {folder.name}", len(judged), len(folders))
    admissions = [one for one in judged if isinstance(one, Admission)]
    verified = sorted((one for one in judged if isinstance(one, Verified)), key=_collection_of)
    with database.connect(autocommit=True) as connection:
        connection.execute("SET search_path TO pgstac, public")  # several of pgSTAC's functions expect it
        connection.execute("SET synchronous_commit TO off")
        for _, shards in groupby(verified, key=_collection_of):
            for admission in _register_collection(connection, list(shards), keyring):
                admissions.append(admission)
                progress(f"loading {admission.folder.name}", len(admissions), len(folders))
        connection.execute("SET synchronous_commit TO on")
        connection.execute("SELECT pg_logical_emit_message(true, 'eocat', 'flush')")  # with all before it
    step("committed")
    advance(database, cosign=cosign, step=step)
    if index:
        for collection in sorted({_collection_of(shard) for shard in verified}):
            build_if_due(database, collection, progress)
    return sorted(admissions, key=lambda admission: admission.folder)


def _register_collection(
    connection: Connection, shards: list[Verified], keyring: Keyring
) -> Iterator[Admission]:
    """Admit the shards of one collection; the lock is held until the connection closes."""
    collection, partition = _collection_of(shards[0]), shards[0].partition
    partitions.lock(connection, collection)
    incoming = sum(shard.create.rows.count for shard in shards)
    partitions.before_load(connection, partition, incoming)
    projection = vector_index.projection_for(
        connection, partition, incoming, _batches(shard for shard in shards if shard.partition == partition)
    )
    properties: dict[str, Any] = {}
    for shard in shards:
        admission = _admit(connection, shard, keyring, projection)
        if admission.status in ("registered", "updated"):
            properties |= canonical.parse(shard.evidence.item)["properties"]
        yield admission
    _finish(connection, collection, properties)


def _collection_of(shard: Verified) -> str:
    return shard.create.projection.collection


def _verify(connection: Connection, folder: Path, policy: Policy) -> Verified | Admission:
    """Step 1. What the catalogue holds already was judged when it came: its keys may have ended since."""
    try:
        evidence = read_folder(folder)
        seen = histories.times_seen(connection, evidence.envelopes or ())
        report = check(evidence, policy, now=datetime.now(UTC), require=REQUIRED_LEVEL, seen=seen)
        if report.outcome not in ADMISSIBLE or report.statement is None or not evidence.envelopes:
            return _refused_by(report, folder)
        events = tuple(histories.read_event(envelope) for envelope in evidence.envelopes)
        return Verified(folder, evidence, report.statement, events, report.outcome, policy)
    except EocatError as error:
        outcome = Outcome(error.exit_code).name if error.exit_code >= Outcome.MALFORMED.value else None
        return Admission(folder, None, "refused", 0, str(error), error.exit_code, outcome)


def _refused_by(report: Report, folder: Path) -> Admission:
    item = report.statement.predicate.item if report.statement else None
    failed = next(
        (step.text for step in report.steps if step.outcome is report.outcome), "below the required level"
    )
    return Admission(folder, item, "refused", 0, failed, report.outcome.value, report.outcome.name)


def _admit(
    connection: Connection, shard: Verified, keyring: Keyring, projection: Projection | None
) -> Admission:
    """Steps 2 to 4 in one transaction: all of the shard, or nothing."""
    create = shard.create
    try:
        documents = read_documents(shard.folder.parent, create)
        check_item(canonical.parse(shard.evidence.item), shard.folder / ITEM_FILE)
        with connection.transaction():
            stored = _stored_events(connection, shard)
            known = _is_known(connection, shard)
            if not known:
                _open_collection(connection, shard, documents)
                _load(connection, shard, documents, projection)
            fresh = _append_events(connection, shard, stored, keyring, known=known)
        if not known:
            return Admission(shard.folder, create.item, "registered", create.rows.count)
        return Admission(
            shard.folder, create.item, "updated" if fresh else "already registered", create.rows.count
        )
    except BrokenHistory as error:
        broken = Outcome.HISTORY_BROKEN
        return Admission(shard.folder, create.item, "refused", 0, str(error), broken.value, broken.name)
    except Refused as refusal:
        outcome = refusal.outcome
        return Admission(
            shard.folder, create.item, "refused", 0, str(refusal),
            outcome.value if outcome else REFUSED, outcome.name if outcome else None,
        )  # fmt: skip
    except psycopg.DataError:  # U+0000 in a text, a number beyond PostgreSQL's
        reason = "its documents hold a value that the database cannot store"
        return Admission(shard.folder, create.item, "refused", 0, reason, REFUSED)
    except EocatError as error:
        return Admission(shard.folder, create.item, "refused", 0, str(error), error.exit_code)


def _stored_events(connection: Connection, shard: Verified) -> list[SignedEvent]:
    """Step 2. The item's history here; Refused if it begins with another statement or is over elsewhere."""
    projection = shard.create.projection
    stored = histories.stored_events(connection, projection.collection, projection.id)
    if not stored and shard.outcome is not Outcome.VERIFIED:
        raise Refused(f"{shard.create.item} is not for use any more, and never was here", shard.outcome)
    if stored and stored[0].payload != shard.events[0].payload:
        withdrawn = histories.replayed(stored).status is Status.WITHDRAWN
        raise Refused(
            f"{shard.create.item} has been registered with another statement, {stored[0].payload[:16]}…,"
            f" this one is {shard.events[0].payload[:16]}…; nothing is overwritten",
            Outcome.HISTORY_BROKEN if withdrawn else None,
        )
    return stored


def _append_events(
    connection: Connection, shard: Verified, stored: list[SignedEvent], keyring: Keyring, *, known: bool
) -> list[SignedEvent]:
    """The events that are new, checked, committed, queued for the log, and shown; with ours, if it is time.

    known: the Item was here before, else it has just been loaded as a new and active one.
    """
    now = datetime.now(UTC)
    fresh = histories.new_events(stored, shard.events)
    for event in fresh:
        if (failed := histories.refusal(event, shard.policy, now)) is not None:
            raise Refused(f"{event.name} {event.seq}: {failed.text}", failed.outcome)
    history = histories.replayed([*stored, *fresh])
    if history.status is Status.CREATED:
        fresh.append(histories.register_event(history, keyring, now))
        history = histories.replayed([*stored, *fresh])
    projection = shard.create.projection
    names = projection.collection, projection.id
    histories.append_events(connection, *names, len(stored), [*stored, *fresh])
    drop_rows(connection, history)
    if (known and fresh) or (not known and (stored or predecessors(connection, *names))):
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [PGSTAC_LOCK])
        show_history(connection, history)
    return fresh


def _is_known(connection: Connection, shard: Verified) -> bool:
    """Whether the shard is here. A folder that was moved is found at its new place from now on."""
    projection = shard.create.projection
    names = [projection.collection, projection.id]
    row = connection.execute(
        """UPDATE eocat.shard SET location = %s WHERE collection = %s AND item_id = %s RETURNING row_root""",
        [str(shard.folder), *names],
    ).fetchone()
    return row is not None


def _open_collection(connection: Connection, shard: Verified, documents: Documents) -> None:
    """Make sure of the collection: its STAC documents, its row in `eocat.collection`, its partition."""
    create, partition = shard.create, shard.partition
    known = connection.execute(
        "SELECT encode(space, 'hex'), dtype, dimension FROM eocat.collection WHERE id = %s",
        [partition.collection],
    ).fetchone()
    if known is not None and known != (create.space, partition.dtype, partition.dimension):
        raise Refused(
            f"collection {partition.collection} has vectors of {known[2]} × {known[1]} in space {known[0]},"
            f" this shard {partition.dimension} × {partition.dtype} in space {create.space}"
        )
    if known is not None:
        return
    partitions.create(connection, partition)  # before pgSTAC's lock: both ways round would be a deadlock
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [PGSTAC_LOCK])
    load_collection(connection, documents)
    connection.execute(
        "INSERT INTO eocat.collection (id, space, dtype, dimension, encoder) VALUES (%s, %s, %s, %s, %s)",
        [
            partition.collection,
            bytes.fromhex(create.space),
            partition.dtype,
            partition.dimension,
            f"{create.encoder.name} {create.encoder.version}",
        ],
    )


def _load(
    connection: Connection, shard: Verified, documents: Documents, projection: Projection | None
) -> None:
    """Steps 3 and 4."""
    create, path = shard.create, shard.evidence.files[EMBEDDINGS]
    names = [create.projection.collection, create.projection.id]
    inserted = connection.execute(
        """INSERT INTO eocat.shard (collection, item_id, row_count, row_root, location, assets)
           VALUES (%s, %s, %s, %s, %s, %s) RETURNING shard_id""",
        [
            *names,
            create.rows.count,
            bytes.fromhex(create.rows.root),
            str(shard.folder),
            Jsonb(_assets(shard)),
        ],
    ).fetchone()
    if inserted is None:
        raise RuntimeError("INSERT … RETURNING gave no row")
    if projection is not None:
        vector_index.store_projection(connection, names[0], projection)
    copied = copy_rows(connection, shard.partition, inserted[0], _batches([shard]), projection)
    signed = shard.statement.files[EMBEDDINGS].sha256
    if copied != _verified_leaves(shard) or digest_file(path).sha256 != signed:
        raise Refused(f"{path} changed while it was being registered", Outcome.TAMPERED)
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [PGSTAC_LOCK])  # last, and so held briefly
    try:
        item = canonical.parse(shard.evidence.item)
        item["properties"][STATUS] = Status.ACTIVE.value
        load_item(connection, item, documents)
    except psycopg.errors.UniqueViolation:
        raise Refused(f"the catalogue holds another Item {create.item}; nothing is overwritten") from None


def _verified_leaves(shard: Verified) -> bytes:
    """The leaf hashes that step 1 found under the signed root: the row-hashes file with the signed digest."""
    path, count = shard.evidence.files[ROW_HASHES], shard.create.rows.count
    data = read_limited(path, tiles_bytes(count))
    if hashlib.sha256(data).hexdigest() != shard.statement.files[ROW_HASHES].sha256:
        raise Refused(f"{path} changed while it was being registered", Outcome.TAMPERED)
    return data[: count * HASH_BYTES]


def _batches(shards: Iterable[Verified]) -> Iterator[RowBatch]:
    """The rows of shards, read as their statements say."""
    for shard in shards:
        yield from Shard.open(shard.evidence.files[EMBEDDINGS], shard.create.rows).batches()


def _assets(shard: Verified) -> dict[str, dict[str, str]]:
    """Asset key → file name, media type and digest, of the signed files. (Envelopes are served as events.)"""
    return {
        key: {"name": shard.evidence.files[key].name, "type": asset.type, "sha256": asset.sha256}
        for key, asset in shard.create.projection.assets.items()
    }


def _finish(connection: Connection, collection: str, properties: dict[str, Any]) -> None:
    """What is done once after all shards: indexes; and, where Items came, extent and queryables."""
    partition = partitions.find_partition(connection, collection)
    if partition is None:
        return
    partitions.after_load(connection, partition)
    if properties:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [PGSTAC_LOCK])
            refresh_collection(connection, collection, properties)
