"""The transparency log: pending events, entries, tree hashes, head maps, tree heads and checkpoints.

All but `log_pending` is append-only. log_tables.py explains the columns, log.py the order in which they fill.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE eocat.shard ADD COLUMN status text NOT NULL DEFAULT 'active';
ALTER TABLE eocat.shard ADD COLUMN successor text;
CREATE INDEX shard_successor_idx ON eocat.shard (successor);
ALTER TABLE eocat.shard ADD CONSTRAINT shard_status_check
    CHECK (status IN ('active', 'superseded', 'obsolete', 'withdrawn'));

CREATE TABLE eocat.log_pending (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    collection text NOT NULL,
    item_id text NOT NULL,
    seq integer NOT NULL,
    status text NOT NULL,
    UNIQUE (collection, item_id, seq),
    FOREIGN KEY (collection, item_id, seq) REFERENCES eocat.event (collection, item_id, seq)
);

CREATE TABLE eocat.log_entry (
    index bigint PRIMARY KEY,
    entry bytea NOT NULL,
    leaf_hash bytea NOT NULL,
    collection text,
    item_id text,
    seq integer,
    status text,
    UNIQUE (collection, item_id, seq),
    CONSTRAINT log_entry_index_check CHECK (index >= 0),
    CONSTRAINT log_entry_kind_check CHECK (num_nulls(collection, item_id, seq, status) IN (0, 4)),
    CONSTRAINT log_entry_leaf_hash_check CHECK (octet_length(leaf_hash) = 32)
);

CREATE TABLE eocat.log_hash (
    level smallint NOT NULL,
    index bigint NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (level, index),
    CONSTRAINT log_hash_level_check CHECK (level > 0),
    CONSTRAINT log_hash_hash_check CHECK (octet_length(hash) = 32)
);

CREATE TABLE eocat.log_collection (
    collection text NOT NULL,
    index bigint NOT NULL REFERENCES eocat.log_entry (index),
    items bigint NOT NULL,
    root bytea NOT NULL,
    PRIMARY KEY (collection, index),
    CONSTRAINT log_collection_root_check CHECK (octet_length(root) = 32)
);

CREATE TABLE eocat.log_tree (
    size bigint PRIMARY KEY,
    root bytea NOT NULL,
    sequenced_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT log_tree_size_check CHECK (size > 0),
    CONSTRAINT log_tree_root_check CHECK (octet_length(root) = 32)
);

CREATE TABLE eocat.log_checkpoint (
    size bigint PRIMARY KEY REFERENCES eocat.log_tree (size),
    note bytea NOT NULL,
    published_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE eocat.log_key (
    origin text PRIMARY KEY,
    verifier_key text NOT NULL
);
"""

TRIGGERS = """
CREATE FUNCTION eocat.refuse_log_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the transparency log is append-only: % on eocat.% is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$;
"""

APPEND_ONLY = ("log_entry", "log_hash", "log_collection", "log_tree", "log_checkpoint", "log_key")


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(TRIGGERS)
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON eocat.{table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION eocat.refuse_log_change()"
        )


def downgrade() -> None:
    raise NotImplementedError("migrations go forward only: restore a backup, or rebuild from the shards")
