"""Opening, migrating, backing up, and what the tables refuse."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, insert, text
from sqlalchemy.exc import IntegrityError, StatementError

from db.database import Database, head_revision
from db.ids import new_id
from db.models import Base, Fact, Job
from db.queue import NewJob, _row
from monk.errors import DatabaseTooNew, HomeUnusable

_OUTSIDE_THE_MODELS = (
    "alembic",
    "passage_search",
    "passage_vocabulary",
    "passage_terms_",
)  # full-text search; triggers


def test_the_migrations_together_equal_the_models(database: Database, tmp_path: Path) -> None:
    from_models = create_engine(f"sqlite:///{tmp_path / 'models.sqlite'}")
    Base.metadata.create_all(from_models)
    with from_models.connect() as connection:
        wanted = _schema(connection.connection.driver_connection)
    from_models.dispose()
    with closing(sqlite3.connect(database.path)) as migrated:
        found = {name: sql for name, sql in _schema(migrated).items() if not name.startswith(_OUTSIDE_THE_MODELS)}

    assert found == wanted


def test_opening_twice_migrates_once(database: Database) -> None:
    assert database.revision() == head_revision()
    assert database.migrate() is None


def test_it_is_durable_and_strict(database: Database) -> None:
    with database.read() as session:
        values = [
            session.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous", "foreign_keys")
        ]

    assert values == ["wal", 2, 1]


def test_a_newer_database_is_refused_and_left_alone(home: Path) -> None:
    opened = Database(home / "monk.sqlite")
    opened.migrate()
    with opened.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(DatabaseTooNew, match="9999"):
        opened.migrate()
    assert opened.revision() == "9999"
    opened.close()


def test_an_older_database_is_copied_before_it_is_changed(home: Path) -> None:
    opened = Database(home / "monk.sqlite")
    opened.migrate(to="0001")
    with opened.write() as session:
        session.add(Fact(key="kept", value=1))

    copy = opened.migrate()

    assert (copy is None) == (head_revision() == "0001")
    if copy is not None:
        with closing(sqlite3.connect(copy)) as raw:
            assert raw.execute("SELECT value FROM facts WHERE key = 'kept'").fetchone() == (1,)
    with opened.read() as session:
        assert session.get_one(Fact, "kept").value == 1
    opened.close()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "monk.sqlite"
    path.write_text("shopping list: " + "milk " * 500)

    with pytest.raises(HomeUnusable, match="not an SQLite database"):
        Database(path)


def test_a_backup_is_whole_while_others_write(database: Database, tmp_path: Path) -> None:
    with database.write() as session:
        session.add(Fact(key="a", value={"deep": [1]}))

    database.backup(tmp_path / "copy.sqlite")

    copy = Database(tmp_path / "copy.sqlite")
    with copy.read() as session:
        assert session.get_one(Fact, "a").value == {"deep": [1]}
    copy.close()
    with pytest.raises(HomeUnusable, match="exists already"):
        database.backup(tmp_path / "copy.sqlite")


def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError), database.write() as session:
        session.add(Fact(key="half", value=1))
        session.flush()
        raise RuntimeError

    with database.read() as session:
        assert session.get(Fact, "half") is None


@pytest.mark.parametrize(
    "nonsense",
    [
        {"state": "sleeping"},
        {"priority": 101},
        {"state": "done"},
        {"state": "failed", "finished_at": datetime(2026, 1, 1, tzinfo=UTC)},
        {"finished_at": datetime(2026, 1, 1, tzinfo=UTC)},
        {"state": "running"},
        {"lease_token": "t"},
        {"attempt": -1},
        {"max_attempts": 0},
        {"kind": ""},
        {"schedule_id": "nowhere"},
    ],
)
def test_the_database_refuses_nonsense(database: Database, now: datetime, nonsense: dict[str, Any]) -> None:
    row = {**_row(NewJob(kind="answer", input={}), now), **nonsense}

    with pytest.raises(IntegrityError), database.write() as session:
        session.execute(insert(Job), [row])


def test_a_naive_moment_is_refused(database: Database, now: datetime) -> None:
    row = {**_row(NewJob(kind="answer", input={}), now), "deadline": datetime(2026, 1, 1)}  # noqa: DTZ001

    with pytest.raises(StatementError, match="naive"), database.write() as session:
        session.execute(insert(Job), [row])


def test_ids_sort_by_time_even_when_the_clock_jumps_back(now: datetime) -> None:
    ids = [new_id("job", now) for _ in range(100)]
    ids.append(new_id("job", now.replace(hour=1)))
    ids.append(new_id("job", now.replace(hour=23, minute=59)))

    assert ids == sorted(ids)
    assert all(len(made) == 30 for made in ids)


def _schema(raw: Any) -> dict[str, str]:
    """Name → SQL with spacing and the order of a table's clauses levelled."""
    rows = raw.execute(
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite%'"
    ).fetchall()
    return {name: _levelled(sql) for name, sql in rows}


def _levelled(sql: str) -> str:
    plain = " ".join(sql.replace('"', "").replace("JSON NOT NULL", "JSON").split())
    head, _, body = plain.partition("(")
    return head + "(" + ", ".join(sorted(part.strip() for part in body.rstrip(")").split(",")))
