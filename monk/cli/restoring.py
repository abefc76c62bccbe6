"""A database copy back into a home. Nothing is replaced before the copy has been proved whole."""

from __future__ import annotations

import os
import shutil
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from monk.errors import HomeUnusable, InvalidInput

SIDE_FILES = ("-wal", "-shm")  # SQLite's, belonging to one database file; with another they would corrupt it


def put_back(copy: Path, home: Path) -> Path | None:
    """Make `copy` the home's database. Returns where the present one was put aside, or None if there was none.

    Raises InvalidInput for a file that is no whole copy of ours, DatabaseTooNew for one of a newer Night Monk, and
    HomeUnusable while a daemon runs there.
    """
    from monk.lock import lock_home, prepare_home

    _prove(copy)
    prepare_home(home)
    lock = lock_home(home)  # held to the end: no daemon may start in between
    try:
        return _replace(copy, home / "monk.sqlite")
    except OSError as exc:
        raise HomeUnusable(f"{home} cannot be written: {exc.strerror}; the old database stands", param="home") from exc
    finally:
        os.close(lock)


def _prove(copy: Path) -> None:
    if not copy.is_file():
        raise InvalidInput(f"{copy} does not exist; give a file made by `monk backup`", param="file")
    try:
        connection = sqlite3.connect(f"{copy.as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            whole = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        finally:
            connection.close()
    except sqlite3.DatabaseError as exc:
        raise InvalidInput(f"{copy} is no database of Night Monk: {exc}", param="file") from exc
    if whole != "ok":
        raise InvalidInput(f"{copy} is damaged: {whole}; take an older copy", param="file")
    _check_age(copy, found[0] if found else None)


def _check_age(copy: Path, revision: str | None) -> None:
    from db.database import head_revision, known_revisions
    from monk.errors import DatabaseTooNew

    if revision not in known_revisions():
        raise DatabaseTooNew(
            f"{copy} is at revision {revision}, this program knows up to {head_revision()}; install the newer Night Monk",
            found=revision,
            known=head_revision(),
        )


def _replace(copy: Path, target: Path) -> Path | None:
    incoming = target.with_name(f"{target.name}.incoming")
    shutil.copyfile(copy, incoming)
    _to_disk(incoming)
    aside = _put_aside(target) if target.exists() else None
    os.replace(incoming, target)
    _to_disk(target.parent)
    return aside


def _put_aside(target: Path) -> Path:
    """Move the database and its side files together, so that what the WAL holds is not lost."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = target.parent / "backups" / f"monk-replaced-{stamp}.sqlite"
    aside.parent.mkdir(exist_ok=True)
    for suffix in ("", *SIDE_FILES):
        file = target.with_name(target.name + suffix)
        if file.exists():
            os.replace(file, aside.with_name(aside.name + suffix))
    return aside


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
