"""Short codes of the vectors, the projection that makes them, the index over them, and its measured recall.

Forward only. Rows that are there get their codes, and a collection its new index, with its next load; until
then its rows are compared one by one, as the index on whole vectors is no longer asked.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE eocat.chip ADD COLUMN code public.halfvec;

CREATE TABLE eocat.projection (
    collection text PRIMARY KEY REFERENCES eocat.collection (id) ON DELETE CASCADE,
    axes bytea NOT NULL,
    fitted_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE eocat.vector_index (
    collection text PRIMARY KEY REFERENCES eocat.projection (collection) ON DELETE CASCADE,
    through bigint NOT NULL,
    rows bigint NOT NULL,
    candidates integer NOT NULL,
    built_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT vector_index_candidates_check CHECK (candidates BETWEEN 1 AND 1000)
);

CREATE TABLE eocat.recall (
    collection text NOT NULL REFERENCES eocat.collection (id) ON DELETE CASCADE,
    measured_at timestamptz NOT NULL DEFAULT now(),
    k integer NOT NULL,
    queries integer NOT NULL,
    candidates integer NOT NULL,
    recall double precision NOT NULL,
    PRIMARY KEY (collection, measured_at),
    CONSTRAINT recall_recall_check CHECK (recall BETWEEN 0 AND 1)
);
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    raise NotImplementedError("migrations go forward only: restore a backup, or rebuild from the shards")
