"""How long a job has run, in all its attempts, so that its budget of minutes counts on after a crash; and the settings the
model runs with for it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("used_seconds", sa.Double(), nullable=False, server_default=sa.text("0")))
    op.add_column("jobs", sa.Column("model", sa.JSON(), nullable=False, server_default=sa.text("'{}'")))
