"""What every test stands on: a clean environment, a temporary home, real SQLite, a fixed moment."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from db.database import Database


def pytest_configure(config: pytest.Config) -> None:
    """Tests side by side get CPUs of their own: the threads of two engines on the same ones would wait for each other."""
    worker, count = os.environ.get("PYTEST_XDIST_WORKER", ""), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if worker and hasattr(os, "sched_setaffinity"):
        share = sorted(os.sched_getaffinity(0))[int(worker.removeprefix("gw")) :: count]
        if share:
            os.sched_setaffinity(0, share)


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
