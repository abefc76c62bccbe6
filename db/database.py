"""Opens `monk.sqlite`: migrated, backed up before that, durable, and refused when it is newer than this code.

One connection writes, so writers of this process queue on a lock instead of polling SQLite; readers have their own and see
the last commit (WAL). Every writing transaction begins IMMEDIATE: it never finds out at its end that it lost a race.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from db.bell import ring
from monk.errors import DatabaseTooNew, HomeUnusable

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_SECONDS = 30.0  # another process (backup, a person with sqlite3) may hold the lock for a moment
READERS = 8


class Database:
    """The one way to the tables. `write()` and `read()` are context managers over a Session; objects stay readable after."""

    def __init__(self, path: Path) -> None:
        """Open without migrating. Raises HomeUnusable when the file cannot be opened or is no database."""
        self.path = path
        self._writer = _engine(path, "BEGIN IMMEDIATE", pool_size=1, max_overflow=0)
        self._reader = _engine(path, "BEGIN", pool_size=READERS, max_overflow=READERS)
        with self._translated():
            _check_is_database(path)

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction, committed and on disk when the block ends; rolled back when it raises.

        Raises HomeUnusable when the disk is full or read-only: nothing of the block was kept.
        """
        with self._translated(), Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session
        ring()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A consistent view of the last commit. Writing here is an error in the program and fails on the lock."""
        with self._translated(), Session(self._reader, expire_on_commit=False) as session:
            yield session

    def migrate(self, to: str = "head") -> str | None:
        """Bring the tables up to this code, each step in one transaction with its record.

        Returns the path of the backup made before, or None when there was nothing to do or to lose.
        Raises DatabaseTooNew when a newer Night Monk has been here.
        """
        with self._translated():
            found, head = self.revision(), head_revision()
            if found == head:
                return None
            if found is not None and found not in known_revisions():
                raise DatabaseTooNew(
                    f"{self.path} is at revision {found}, this program knows up to {head}; install the newer Night Monk "
                    f"again or restore the backup in {self.path.parent / 'backups'}",
                    found=found,
                    known=head,
                )
            copy = self._backup_before(found) if found is not None else None
            with self._writer.connect() as connection:
                connection.info["immediate"] = True
                config = _alembic_config()
                config.attributes["connection"] = connection
                command.upgrade(config, to)
                connection.commit()
            return copy

    def revision(self) -> str | None:
        """The migration the file is at; None for an empty one."""
        with self._reader.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()

    def backup(self, target: Path) -> None:
        """A whole, consistent, compact copy while others read and write. Raises HomeUnusable when `target` exists."""
        if target.exists():
            raise HomeUnusable(f"{target} exists already; name another file for the copy")
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._translated():
            raw = sqlite3.connect(self.path, timeout=BUSY_SECONDS)
            try:
                raw.execute("VACUUM INTO ?", (str(target),))
            finally:
                raw.close()

    def check(self) -> str:
        """ "ok", or what SQLite's own integrity check finds first."""
        with self._reader.connect() as connection:
            return str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())

    def close(self) -> None:
        """Close all connections and fold the WAL back into the file."""
        try:
            with self._writer.connect() as connection:
                connection.exec_driver_sql("COMMIT")
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        except DatabaseError:
            pass  # a reader is still there; the WAL stays and is read at the next start
        self._reader.dispose()
        self._writer.dispose()

    def _backup_before(self, found: str) -> str:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
        target = self.path.parent / "backups" / f"monk-{found}-{stamp}.sqlite"
        self.backup(target)
        return str(target)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (DatabaseError, sqlite3.DatabaseError) as exc:
            told = _told(exc, self.path)
            if told is None:
                raise
            raise HomeUnusable(told) from exc


def head_revision() -> str:
    """The newest migration this code carries."""
    head = ScriptDirectory.from_config(_alembic_config()).get_current_head()
    assert head is not None
    return head


def known_revisions() -> set[str]:
    """All migrations this code carries."""
    return {script.revision for script in ScriptDirectory.from_config(_alembic_config()).walk_revisions()}


def _alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _engine(path: Path, begin: str, *, pool_size: int, max_overflow: int) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=QueuePool,
        pool_size=pool_size,
        max_overflow=max_overflow,
        pool_timeout=2 * BUSY_SECONDS,
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves; the driver's own habit is to say it too late
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "temp_store=MEMORY",
            "cache_size=-65536",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _check_is_database(path: Path) -> None:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master")
    finally:
        connection.close()


def _told(exc: DatabaseError | sqlite3.DatabaseError, path: Path) -> str | None:
    """The sentence for a condition of the disk or the file; None for a mistake of the program, which stays as it is."""
    origin = exc.orig if isinstance(exc, DatabaseError) else exc
    name = getattr(origin, "sqlite_errorname", "") or ""
    for prefix, sentence in _CONDITIONS.items():
        if name.startswith(prefix):
            return f"{path}: {sentence}"
    return None


_CONDITIONS = {
    "SQLITE_FULL": "the disk is full; free some space, nothing that was confirmed is lost",
    "SQLITE_READONLY": "cannot be written; check the owner and the mount of the home",
    "SQLITE_CANTOPEN": "cannot be opened; the folder must exist and be writable for the daemon's user",
    "SQLITE_IOERR": "the disk reports an input/output error; check it (dmesg) before going on",
    "SQLITE_NOTADB": "is not an SQLite database; move it away or restore a backup",
    "SQLITE_CORRUPT": "is damaged; restore the newest copy from backups/",
    "SQLITE_BUSY": f"another process has held the database for {BUSY_SECONDS:.0f} s; close it",
}
