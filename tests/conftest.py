"""What every test stands on: a clean environment, a temporary home, real SQLite, a fixed moment."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from db.database import Database


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No MONK_* variable of the person who runs the tests reaches them, and nothing asks a model hub."""
    for name in list(os.environ):
        if name.startswith("MONK_") and name != "MONK_EVAL_DATA":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty database file, made once: every test gets a copy."""
    path = tmp_path_factory.mktemp("migrated") / "monk.sqlite"
    opened = Database(path)
    opened.migrate()
    opened.close()
    return path


@pytest.fixture
def database(home: Path, migrated: Path) -> Iterator[Database]:
    """A migrated database in a temporary home."""
    shutil.copy(migrated, home / "monk.sqlite")
    opened = Database(home / "monk.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def now() -> datetime:
    """A fixed moment: an ordinary night in November."""
    return datetime(2026, 11, 22, 23, 0, tzinfo=UTC)
