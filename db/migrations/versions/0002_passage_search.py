"""Full-text search over passages, and the places inside a passage.

`passage_terms` holds the search terms that `corpus/terms.py` makes of a passage (stems, pairs of Chinese characters);
`passage_search` is the FTS5 index over it, kept in step by triggers, also when a passage goes by cascade. The terms have
an INTEGER PRIMARY KEY of their own: rowids of `passages` may change in a VACUUM, and every backup is one.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("passages", sa.Column("places", sa.JSON(), nullable=False, server_default=sa.text("'[]'")))
    op.create_table(
        "passage_terms",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("passage_id", sa.String(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("heading", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["passage_id"], ["passages.id"], name=op.f("fk_passage_terms_passage_id_passages"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_passage_terms")),
        sa.UniqueConstraint("passage_id", name=op.f("uq_passage_terms_passage_id")),
        sqlite_autoincrement=True,
    )
    for statement in SEARCH:
        op.execute(statement)


SEARCH = (
    """
    CREATE VIRTUAL TABLE passage_search USING fts5(
        title, heading, text,
        content='passage_terms', content_rowid='id', tokenize='unicode61 remove_diacritics 2'
    )
    """,
    "CREATE VIRTUAL TABLE passage_vocabulary USING fts5vocab(passage_search, row)",
    """
    CREATE TRIGGER passage_terms_inserted AFTER INSERT ON passage_terms BEGIN
        INSERT INTO passage_search(rowid, title, heading, text) VALUES (new.id, new.title, new.heading, new.text);
    END
    """,
    """
    CREATE TRIGGER passage_terms_deleted AFTER DELETE ON passage_terms BEGIN
        INSERT INTO passage_search(passage_search, rowid, title, heading, text)
        VALUES ('delete', old.id, old.title, old.heading, old.text);
    END
    """,
    """
    CREATE TRIGGER passage_terms_updated AFTER UPDATE ON passage_terms BEGIN
        INSERT INTO passage_search(passage_search, rowid, title, heading, text)
        VALUES ('delete', old.id, old.title, old.heading, old.text);
        INSERT INTO passage_search(rowid, title, heading, text) VALUES (new.id, new.title, new.heading, new.text);
    END
    """,
)
