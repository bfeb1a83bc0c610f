"""The first note with a quorum of witnesses, for each size of the log: when an event was first seen.

`log_checkpoint` has the note as it was published, which may lack the quorum; the file with the newest one is
replaced by `eocat log cosign`. What is kept here dates the events for good, and is append-only too.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE eocat.log_cosigned (
    size bigint PRIMARY KEY REFERENCES eocat.log_tree (size),
    note bytea NOT NULL,
    kept_at timestamptz NOT NULL DEFAULT now()
);

CREATE TRIGGER log_cosigned_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON eocat.log_cosigned
    FOR EACH STATEMENT EXECUTE FUNCTION eocat.refuse_log_change();
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    raise NotImplementedError("migrations go forward only: restore a backup, or rebuild from the shards")
