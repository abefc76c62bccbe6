"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "documents",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("modified_at", sa.Integer(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("num_pages", sa.Integer(), nullable=True),
        sa.Column("num_characters", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("index_key", sa.Text(), nullable=True),
        sa.Column("read_at", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "state != 'unreadable' OR problem IS NOT NULL", name=op.f("ck_documents_unreadable_has_problem")
        ),
        sa.CheckConstraint("state IN ('indexed', 'unreadable')", name=op.f("ck_documents_state_known")),
        sa.CheckConstraint(
            "length(path) > 0 AND size_bytes >= 0 AND num_characters >= 0", name=op.f("ck_documents_sane")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_documents")),
        sa.UniqueConstraint("path", name=op.f("uq_documents_path")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "facts",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_facts")),
    )
    op.create_table(
        "nights",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("opened_at", sa.Integer(), nullable=False),
        sa.Column("closes_at", sa.Integer(), nullable=True),
        sa.Column("closed_at", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.CheckConstraint("reason IN ('window', 'always', 'now')", name=op.f("ck_nights_reason_known")),
        sa.CheckConstraint("closed_at IS NULL OR closed_at >= opened_at", name=op.f("ck_nights_forward")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_nights")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "schedules",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("cron", sa.Text(), nullable=False),
        sa.Column("job", sa.JSON(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.Column("last_at", sa.Integer(), nullable=True),
        sa.Column("next_at", sa.Integer(), nullable=True),
        sa.CheckConstraint("length(cron) > 0 AND length(name) > 0", name=op.f("ck_schedules_named")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedules")),
        sa.UniqueConstraint("name", name=op.f("uq_schedules_name")),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("input", sa.JSON(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.Column("ready_at", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Integer(), nullable=True),
        sa.Column("deadline", sa.Integer(), nullable=True),
        sa.Column("adapter", sa.Text(), nullable=True),
        sa.Column("budget", sa.JSON(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("idempotency_key", sa.String(), nullable=True),
        sa.Column("request_hash", sa.Text(), nullable=False),
        sa.Column("schedule_id", sa.String(), nullable=True),
        sa.Column("late_by_seconds", sa.Double(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("errors", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("crashes", sa.Integer(), nullable=False),
        sa.Column("lease_token", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.Integer(), nullable=True),
        sa.Column("started_at", sa.Integer(), nullable=True),
        sa.Column("finished_at", sa.Integer(), nullable=True),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.CheckConstraint(
            "(state = 'running') = (lease_token IS NOT NULL) AND (lease_token IS NULL) = (lease_until IS NULL)",
            name=op.f("ck_jobs_running_has_lease"),
        ),
        sa.CheckConstraint(
            "(state IN ('done', 'failed', 'cancelled')) = (finished_at IS NOT NULL)",
            name=op.f("ck_jobs_final_has_finished_at"),
        ),
        sa.CheckConstraint("state != 'done' OR result IS NOT NULL", name=op.f("ck_jobs_done_has_result")),
        sa.CheckConstraint("state != 'failed' OR error IS NOT NULL", name=op.f("ck_jobs_failed_has_error")),
        sa.CheckConstraint(
            "state IN ('waiting', 'queued', 'running', 'done', 'failed', 'cancelled')", name=op.f("ck_jobs_state_known")
        ),
        sa.CheckConstraint(
            "attempt >= 0 AND errors >= 0 AND crashes >= 0 AND max_attempts >= 1", name=op.f("ck_jobs_counts")
        ),
        sa.CheckConstraint("length(kind) > 0 AND length(id) > 4", name=op.f("ck_jobs_named")),
        sa.CheckConstraint("priority BETWEEN -100 AND 100", name=op.f("ck_jobs_priority_range")),
        sa.ForeignKeyConstraint(["schedule_id"], ["schedules.id"], name=op.f("fk_jobs_schedule_id_schedules")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_jobs_idempotency_key")),
    )
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.create_index(
            "ix_jobs_deadline",
            ["deadline"],
            unique=False,
            sqlite_where=sa.text("deadline IS NOT NULL AND finished_at IS NULL"),
        )
        batch_op.create_index(
            "ix_jobs_finished_at", ["finished_at"], unique=False, sqlite_where=sa.text("finished_at IS NOT NULL")
        )
        batch_op.create_index("ix_jobs_ready_at", ["ready_at"], unique=False, sqlite_where=sa.text("state = 'waiting'"))
        batch_op.create_index("ix_jobs_state_id", ["state", "id"], unique=False)

    op.create_table(
        "passages",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("document_id", sa.Integer(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("heading", sa.Text(), nullable=False),
        sa.Column("page", sa.Integer(), nullable=True),
        sa.Column("line", sa.Integer(), nullable=True),
        sa.Column("end_page", sa.Integer(), nullable=True),
        sa.Column("end_line", sa.Integer(), nullable=True),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("end", sa.Integer(), nullable=False),
        sa.CheckConstraint("length(text) > 0 AND start >= 0 AND end > start", name=op.f("ck_passages_sane")),
        sa.CheckConstraint("page IS NOT NULL OR line IS NOT NULL", name=op.f("ck_passages_has_place")),
        sa.ForeignKeyConstraint(
            ["document_id"], ["documents.id"], name=op.f("fk_passages_document_id_documents"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_passages")),
        sa.UniqueConstraint("document_id", "ordinal", name=op.f("uq_passages_document_id_ordinal")),
    )
    op.create_table(
        "reports",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("night_id", sa.Integer(), nullable=True),
        sa.Column("since", sa.Integer(), nullable=False),
        sa.Column("until", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.CheckConstraint("until >= since", name=op.f("ck_reports_forward")),
        sa.ForeignKeyConstraint(["night_id"], ["nights.id"], name=op.f("fk_reports_night_id_nights")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reports")),
    )
    with op.batch_alter_table("reports", schema=None) as batch_op:
        batch_op.create_index("ix_reports_created_at", ["created_at"], unique=False)

    op.create_table(
        "steps",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=False),
        sa.Column("started_at", sa.Integer(), nullable=False),
        sa.Column("finished_at", sa.Integer(), nullable=False),
        sa.CheckConstraint("length(name) > 0 AND finished_at >= started_at", name=op.f("ck_steps_sane")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_steps_job_id_jobs")),
        sa.PrimaryKeyConstraint("job_id", "name", name=op.f("pk_steps")),
    )
    op.create_table(
        "thoughts",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sample", sa.Integer(), nullable=False),
        sa.Column("request_hash", sa.Text(), nullable=False),
        sa.Column("model_sha256", sa.Text(), nullable=False),
        sa.Column("sampling", sa.JSON(), nullable=False),
        sa.Column("max_tokens", sa.Integer(), nullable=False),
        sa.Column("prompt_ids", sa.LargeBinary(), nullable=False),
        sa.Column("token_ids", sa.LargeBinary(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("reasoning", sa.Text(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("num_prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("num_tokens", sa.Integer(), nullable=False),
        sa.Column("num_prefilled", sa.Integer(), nullable=False),
        sa.Column("num_resumes", sa.Integer(), nullable=False),
        sa.Column("prefill_seconds", sa.Double(), nullable=False),
        sa.Column("decode_seconds", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Integer(), nullable=False),
        sa.Column("finished_at", sa.Integer(), nullable=True),
        sa.CheckConstraint(
            "(finished_at IS NULL) = (reason IS NULL) AND (finished_at IS NULL) = (text IS NULL) AND (finished_at IS NULL) = (token_ids IS NULL)",
            name=op.f("ck_thoughts_finished_whole"),
        ),
        sa.CheckConstraint(
            "num_tokens >= 0 AND num_prompt_tokens >= 0 AND max_tokens >= 1 AND sample >= 0",
            name=op.f("ck_thoughts_counts"),
        ),
        sa.CheckConstraint(
            "token_ids IS NULL OR length(token_ids) = 4 * num_tokens", name=op.f("ck_thoughts_ids_match_count")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_thoughts_job_id_jobs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_thoughts")),
        sa.UniqueConstraint(
            "job_id", "name", "sample", "request_hash", name=op.f("uq_thoughts_job_id_name_sample_request_hash")
        ),
    )
    with op.batch_alter_table("thoughts", schema=None) as batch_op:
        batch_op.create_index("ix_thoughts_finished_at", ["finished_at"], unique=False)

    op.create_table(
        "events",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("job_id", sa.String(), nullable=True),
        sa.Column("thought_id", sa.String(), nullable=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("at", sa.Integer(), nullable=False),
        sa.CheckConstraint("length(type) > 0", name=op.f("ck_events_typed")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_events_job_id_jobs")),
        sa.ForeignKeyConstraint(["thought_id"], ["thoughts.id"], name=op.f("fk_events_thought_id_thoughts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.create_index("ix_events_at", ["at"], unique=False)
        batch_op.create_index("ix_events_job_id_id", ["job_id", "id"], unique=False)
        batch_op.create_index(
            "ix_events_progress", ["thought_id"], unique=False, sqlite_where=sa.text("type = 'progress'")
        )

    op.create_table(
        "token_runs",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("thought_id", sa.String(), nullable=False),
        sa.Column("first_index", sa.Integer(), nullable=False),
        sa.Column("ids", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint(
            "first_index >= 0 AND length(ids) > 0 AND length(ids) % 4 = 0", name=op.f("ck_token_runs_whole_ids")
        ),
        sa.ForeignKeyConstraint(
            ["thought_id"], ["thoughts.id"], name=op.f("fk_token_runs_thought_id_thoughts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token_runs")),
        sa.UniqueConstraint("thought_id", "first_index", name=op.f("uq_token_runs_thought_id_first_index")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_jobs_queue",
        "jobs",
        [sa.text("priority DESC"), sa.text("(deadline IS NULL)"), "deadline", "id"],
        sqlite_where=sa.text("state = 'queued'"),
    )
    op.create_index(
        "uq_nights_open",
        "nights",
        [sa.text("(closed_at IS NULL)")],
        unique=True,
        sqlite_where=sa.text("closed_at IS NULL"),
    )
