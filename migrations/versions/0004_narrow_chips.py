"""Chips without what nothing reads: leaf hashes are made again from the row, windows lie in the shard.

Forward only. Dropping a column rewrites nothing: rows that are there keep their bytes until they are rebuilt.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE eocat.chip DROP COLUMN leaf_hash, DROP COLUMN pixel_window")


def downgrade() -> None:
    raise NotImplementedError("migrations go forward only: restore a backup, or rebuild from the shards")
