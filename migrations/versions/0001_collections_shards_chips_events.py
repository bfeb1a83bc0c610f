"""Collections, shards, chips and events, and the triggers that tie them to pgSTAC's items.

Forward only. Runs after `pypgstac migrate`; schema.py grants the reader what it may see, tables.py explains
the columns.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE SCHEMA IF NOT EXISTS eocat;

CREATE TABLE eocat.collection (
    id text PRIMARY KEY REFERENCES pgstac.collections (id) ON DELETE CASCADE,
    space bytea NOT NULL,
    dtype text NOT NULL,
    dimension integer NOT NULL,
    encoder text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT collection_space_check CHECK (octet_length(space) = 32),
    CONSTRAINT collection_dtype_check CHECK (dtype IN ('float16', 'float32')),
    CONSTRAINT collection_dimension_check CHECK (dimension BETWEEN 1 AND 16000)
);

CREATE TABLE eocat.shard (
    shard_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    collection text NOT NULL REFERENCES eocat.collection (id) ON DELETE CASCADE,
    item_id text NOT NULL,
    row_count integer NOT NULL,
    row_root bytea NOT NULL,
    location text NOT NULL,
    assets jsonb NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (collection, item_id),
    CONSTRAINT shard_row_count_check CHECK (row_count > 0),
    CONSTRAINT shard_row_root_check CHECK (octet_length(row_root) = 32)
);

CREATE TABLE eocat.chip (
    collection text NOT NULL,
    shard_id bigint NOT NULL,
    row integer NOT NULL,
    id text NOT NULL,
    geometry public.geometry(Geometry, 4326) NOT NULL,
    start_time timestamptz NOT NULL,
    end_time timestamptz NOT NULL,
    grid_cell text,
    source text NOT NULL,
    pixel_window integer[] NOT NULL,
    input_digest bytea NOT NULL,
    leaf_hash bytea NOT NULL,
    half public.halfvec,
    single public.vector,
    PRIMARY KEY (collection, shard_id, row),
    CONSTRAINT chip_vector_check CHECK (num_nonnulls(half, single) = 1),
    CONSTRAINT chip_interval_check CHECK (start_time <= end_time),
    CONSTRAINT chip_pixel_window_check CHECK (array_length(pixel_window, 1) = 4),
    CONSTRAINT chip_input_digest_check CHECK (octet_length(input_digest) = 32),
    CONSTRAINT chip_leaf_hash_check CHECK (octet_length(leaf_hash) = 32)
) PARTITION BY LIST (collection);

-- No foreign key on purpose: the history outlives items, shards and collections.
CREATE TABLE eocat.event (
    collection text NOT NULL,
    item_id text NOT NULL,
    seq integer NOT NULL,
    event text NOT NULL,
    payload_sha256 bytea NOT NULL UNIQUE,
    envelope bytea NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (collection, item_id, seq),
    CONSTRAINT event_seq_check CHECK (seq >= 0),
    CONSTRAINT event_payload_sha256_check CHECK (octet_length(payload_sha256) = 32)
);
"""

TRIGGERS = """
CREATE FUNCTION eocat.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the signed history is append-only: % on eocat.event is refused', TG_OP
        USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER event_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON eocat.event
    FOR EACH STATEMENT EXECUTE FUNCTION eocat.refuse_change();

CREATE FUNCTION eocat.delete_chips() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM eocat.chip WHERE collection = OLD.collection AND shard_id = OLD.shard_id;
    RETURN NULL;
END $$;

CREATE TRIGGER shard_takes_chips AFTER DELETE ON eocat.shard
    FOR EACH ROW EXECUTE FUNCTION eocat.delete_chips();

-- pgSTAC updates an item by deleting and inserting it, so that the shard may go only if the item is
-- still gone when the transaction commits. Security definer: whoever may delete the item need have no
-- right on our tables.
CREATE FUNCTION eocat.item_gone() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pgstac.items WHERE collection = OLD.collection AND id = OLD.id) THEN
        DELETE FROM eocat.shard WHERE collection = OLD.collection AND item_id = OLD.id;
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER eocat_item_gone AFTER DELETE ON pgstac.items
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION eocat.item_gone();
"""

# The one place that runs pgSTAC's own translation of a search (CQL2 and the rest) on its items: the text
# of the condition comes from pgSTAC, quoted by it, and runs with the rights of the caller.
FUNCTIONS = """
CREATE FUNCTION eocat.items_matching(search jsonb) RETURNS TABLE (collection text, item_id text)
    LANGUAGE plpgsql STABLE SET search_path = pgstac, public AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT collection, id FROM pgstac.items WHERE %s', pgstac.stac_search_to_where(search));
END $$;
"""


def upgrade() -> None:
    for part in (TABLES, TRIGGERS, FUNCTIONS):
        op.execute(part)


def downgrade() -> None:
    raise NotImplementedError("migrations go forward only: restore a backup, or rebuild from the shards")
