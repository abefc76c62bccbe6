"""The tags of documents. Those that are known get theirs when the night reads them again with the newer readers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("documents", sa.Column("tags", sa.JSON(), nullable=False, server_default=sa.text("'[]'")))
