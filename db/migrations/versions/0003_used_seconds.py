"""How long a job has run, in all its attempts: its budget of minutes counts on after a crash."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("used_seconds", sa.Double(), nullable=False, server_default=sa.text("0")))
