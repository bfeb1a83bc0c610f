"""The tables of the transparency log (design of provenance, section 6); migrations 0002 and 0003 make them.

    log_pending                 events that are committed and not yet in the log, in order of arrival
    log_entry ── log_hash       the entries by index; the hashes of complete tiles, level 1 and up
    log_collection              roots of the head map's collections, at each heads entry that changed them
    log_tree ── log_checkpoint  sizes that were sequenced, each with a heads entry last; those published
             └─ log_cosigned    and of those the first note that had the quorum, which dates their events
    log_key                     the log's name and key: one row, so that no other key ever signs this log

All but `log_pending` refuse UPDATE, DELETE and TRUNCATE, also by the owner.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
)


def declare(metadata: MetaData) -> None:
    """Add the log's tables to the metadata of schema `eocat`."""

    def digest(column: str) -> CheckConstraint:
        return CheckConstraint(f"octet_length({column}) = 32", name=column)

    def now(column: str) -> Column[object]:
        return Column(column, DateTime(timezone=True), nullable=False, server_default=func.now())

    Table(
        "log_pending",
        metadata,
        Column("position", BigInteger, Identity(always=True), primary_key=True),
        Column("collection", Text, nullable=False),
        Column("item_id", Text, nullable=False),
        Column("seq", Integer, nullable=False),
        Column("status", Text, nullable=False),  # of the item after this event
        UniqueConstraint("collection", "item_id", "seq"),
        ForeignKeyConstraint(
            ["collection", "item_id", "seq"],
            ["eocat.event.collection", "eocat.event.item_id", "eocat.event.seq"],
        ),
    )
    Table(
        "log_entry",
        metadata,
        Column("index", BigInteger, primary_key=True, autoincrement=False),
        Column("entry", LargeBinary, nullable=False),  # the leaf's bytes, as the entry bundles have them
        Column("leaf_hash", LargeBinary, nullable=False),
        Column("collection", Text),  # these four are null in a heads entry
        Column("item_id", Text),
        Column("seq", Integer),
        Column("status", Text),
        UniqueConstraint("collection", "item_id", "seq"),  # no event is ever in the log twice
        CheckConstraint("index >= 0", name="index"),
        CheckConstraint("num_nulls(collection, item_id, seq, status) IN (0, 4)", name="kind"),
        digest("leaf_hash"),
    )
    Table(
        "log_hash",
        metadata,
        Column("level", SmallInteger, primary_key=True, autoincrement=False),
        Column("index", BigInteger, primary_key=True, autoincrement=False),
        Column("hash", LargeBinary, nullable=False),
        CheckConstraint("level > 0", name="level"),
        digest("hash"),
    )
    Table(
        "log_collection",
        metadata,
        Column("collection", Text, primary_key=True),
        Column("index", BigInteger, ForeignKey("eocat.log_entry.index"), primary_key=True),
        Column("items", BigInteger, nullable=False),
        Column("root", LargeBinary, nullable=False),
        digest("root"),
    )
    Table(
        "log_tree",
        metadata,
        Column("size", BigInteger, primary_key=True, autoincrement=False),
        Column("root", LargeBinary, nullable=False),
        now("sequenced_at"),
        CheckConstraint("size > 0", name="size"),
        digest("root"),
    )
    Table(
        "log_checkpoint",
        metadata,
        Column("size", BigInteger, ForeignKey("eocat.log_tree.size"), primary_key=True, autoincrement=False),
        Column("note", LargeBinary, nullable=False),  # the signed note as it was published
        now("published_at"),
    )
    Table(
        "log_cosigned",
        metadata,
        Column("size", BigInteger, ForeignKey("eocat.log_tree.size"), primary_key=True, autoincrement=False),
        Column("note", LargeBinary, nullable=False),
        now("kept_at"),
    )
    Table(
        "log_key",
        metadata,
        Column("origin", Text, primary_key=True),
        Column("verifier_key", Text, nullable=False),
    )
