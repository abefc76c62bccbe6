"""What people think of the answers: what a later training of an adapter learns from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "feedback",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("correction", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("at", sa.Integer(), nullable=False),
        sa.CheckConstraint("verdict IN ('useful', 'wrong')", name=op.f("ck_feedback_verdict_known")),
        sa.CheckConstraint("correction IS NULL OR verdict = 'wrong'", name=op.f("ck_feedback_corrects_what_is_wrong")),
        sa.CheckConstraint("length(correction) > 0 AND length(note) > 0", name=op.f("ck_feedback_says_something")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_feedback_job_id_jobs")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_feedback")),
    )
