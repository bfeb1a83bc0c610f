"""The tables of schema `eocat`, declared once; migrations/versions makes them (design, section 4).

    collection ── shard ── chip     chip: one partition for each collection (partitions.py)
    event                           the signed history: append-only, outlives everything above
    log_…                           the transparency log (log_tables.py)

They touch pgSTAC in two places only: `collection.id` references `pgstac.collections(id)`, and a deferred
trigger on `pgstac.items` takes a shard away with its item. (A foreign key to items is impossible, and one
to a leaf partition deletes our rows when pgSTAC updates an item, which it does by delete and insert.)
"""

from geoalchemy2 import Geometry
from pgvector.sqlalchemy import HALFVEC, VECTOR
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB

from . import log_tables

SCHEMA = "eocat"

metadata = MetaData(
    schema=SCHEMA,
    naming_convention={  # PostgreSQL's own, so that names do not depend on who made the table
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    },
)

# pgSTAC's, never migrated by us: named so that the foreign key resolves.
Table("collections", metadata, Column("id", Text, primary_key=True), schema="pgstac")


def _digest(column: str) -> CheckConstraint:
    return CheckConstraint(f"octet_length({column}) = 32", name=column)


def _now(column: str) -> Column[object]:
    return Column(column, DateTime(timezone=True), nullable=False, server_default=func.now())


collection = Table(
    "collection",  # what every vector of a collection shares; rows of two spaces are never compared
    metadata,
    Column("id", Text, ForeignKey("pgstac.collections.id", ondelete="CASCADE"), primary_key=True),
    Column("space", LargeBinary, nullable=False),
    Column("dtype", Text, nullable=False),
    Column("dimension", Integer, nullable=False),
    Column("encoder", Text, nullable=False),
    _now("created_at"),
    _digest("space"),
    CheckConstraint("dtype IN ('float16', 'float32')", name="dtype"),
    CheckConstraint("dimension BETWEEN 1 AND 16000", name="dimension"),  # pgvector's limit
)

shard = Table(
    "shard",  # one registered item: what its rows hash to and where its files lie
    metadata,
    Column("shard_id", BigInteger, Identity(always=True), primary_key=True),
    Column("collection", Text, ForeignKey("eocat.collection.id", ondelete="CASCADE"), nullable=False),
    Column("item_id", Text, nullable=False),
    Column("row_count", Integer, nullable=False),
    Column("row_root", LargeBinary, nullable=False),
    Column("location", Text, nullable=False),  # the server's folder of the files; never leaves the server
    Column("assets", JSONB, nullable=False),  # asset key → {name, type, sha256}, from what was verified
    _now("registered_at"),
    Column("status", Text, nullable=False, server_default="active"),  # of the item's replayed history
    Column("successor", Text),  # collection/id of the item that supersedes this one
    UniqueConstraint("collection", "item_id"),
    Index("shard_successor_idx", "successor"),
    CheckConstraint("row_count > 0", name="row_count"),
    CheckConstraint("status IN ('active', 'superseded', 'obsolete', 'withdrawn')", name="status"),
    _digest("row_root"),
)

# No foreign key to shard: it would cost a look-up for each of a million copied rows. Only admission inserts,
# and a trigger on shard deletes its rows inside the one partition that holds them.
chip = Table(
    "chip",  # row n of a shard, as leaf n under the shard's row root signs it
    metadata,
    Column("collection", Text, primary_key=True),
    Column("shard_id", BigInteger, primary_key=True, autoincrement=False),
    Column("row", Integer, primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False),
    Column("geometry", Geometry("GEOMETRY", srid=4326, spatial_index=False), nullable=False),
    Column("start_time", DateTime(timezone=True), nullable=False),  # microseconds, as the leaf has them
    Column("end_time", DateTime(timezone=True), nullable=False),
    Column("grid_cell", Text),
    Column("source", Text, nullable=False),
    Column("input_digest", LargeBinary, nullable=False),
    Column("half", HALFVEC),  # the signed dtype itself, never converted: a hit is checked bit for bit,
    Column("single", VECTOR),  # so a row has exactly one of the two
    Column("code", HALFVEC),  # the vector in short (projection.py); null until the collection is large
    CheckConstraint("num_nonnulls(half, single) = 1", name="vector"),
    CheckConstraint("start_time <= end_time", name="interval"),
    _digest("input_digest"),
    postgresql_partition_by="LIST (collection)",
)

projection = Table(
    "projection",  # how a collection's vectors become codes: unsigned, as codes only choose candidates
    metadata,
    Column("collection", Text, ForeignKey("eocat.collection.id", ondelete="CASCADE"), primary_key=True),
    Column("axes", LargeBinary, nullable=False),  # Projection.to_bytes
    _now("fitted_at"),
)

vector_index = Table(
    "vector_index",  # which index of a collection answers (vector_index.py)
    metadata,
    Column(
        "collection", Text, ForeignKey("eocat.projection.collection", ondelete="CASCADE"), primary_key=True
    ),
    Column("through", BigInteger, nullable=False),  # it covers the shards up to this one
    Column("rows", BigInteger, nullable=False),
    Column("candidates", Integer, nullable=False),  # to compare in full for the ten nearest, as measured
    _now("built_at"),
    CheckConstraint("candidates BETWEEN 1 AND 1000", name="candidates"),
)

recall = Table(
    "recall",  # what `eocat audit` found: the share of the k nearest rows that the index found
    metadata,
    Column("collection", Text, ForeignKey("eocat.collection.id", ondelete="CASCADE"), primary_key=True),
    Column(
        "measured_at", DateTime(timezone=True), nullable=False, server_default=func.now(), primary_key=True
    ),
    Column("k", Integer, nullable=False),
    Column("queries", Integer, nullable=False),
    Column("candidates", Integer, nullable=False),
    Column("recall", Double, nullable=False),
    CheckConstraint("recall BETWEEN 0 AND 1", name="recall"),
)

event = Table(
    "event",  # one signed statement of an item's history
    metadata,
    Column("collection", Text, primary_key=True),
    Column("item_id", Text, primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("event", Text, nullable=False),
    Column("payload_sha256", LargeBinary, nullable=False, unique=True),
    Column("envelope", LargeBinary, nullable=False),  # bytea: JSON types would not keep the spelling
    _now("recorded_at"),
    CheckConstraint("seq >= 0", name="seq"),
    _digest("payload_sha256"),
)

log_tables.declare(metadata)
