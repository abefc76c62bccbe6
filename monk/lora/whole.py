"""Files and folders that people take away: made beside their place, on disk, and put there by one rename, or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from monk.errors import Conflict, HomeUnusable, InvalidInput


@contextlib.contextmanager
def file_at(path: Path, *, force: bool = False) -> Iterator[Path]:
    """A path to write to; what is there when the block ends takes its place. `force`: a file that was there goes.

    Raises Conflict, InvalidInput where nothing can be put, HomeUnusable when the disk refuses.
    """
    fresh = _beside(path, "new")
    with _on_disk(path, lambda: fresh.unlink(missing_ok=True)):
        check_file(path, force=force)
        yield fresh
        sync(fresh)
        fresh.replace(path)


@contextlib.contextmanager
def folder_at(path: Path, files: frozenset[str], *, force: bool = False) -> Iterator[Path]:
    """A folder to write `files` into, which takes its place when the block ends.

    `force`: a folder that was there goes, if it holds nothing but such files. Raises as `file_at`.
    """
    fresh, before = _beside(path, "new"), _beside(path, "old")
    with _on_disk(path, lambda: shutil.rmtree(fresh, ignore_errors=True)):
        _check_place(path, force)
        if path.exists() and (not path.is_dir() or not {each.name for each in path.iterdir()} <= files):
            raise Conflict(f"{path} is not a folder of {' and '.join(sorted(files))} alone; give another path")
        fresh.mkdir()
        yield fresh
        for each in fresh.iterdir():
            sync(each)
        sync(fresh)
        _swap(fresh, path, before)
    shutil.rmtree(before, ignore_errors=True)


def check_file(path: Path, *, force: bool = False) -> None:
    """Whether a file may be put there. Raises Conflict or InvalidInput."""
    if path.is_dir():
        raise Conflict(f"{path} is a folder; give the path of a file")
    _check_place(path, force)


def sync(path: Path) -> None:
    """A file, or the names in a folder, are on disk when this returns. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _check_place(path: Path, force: bool) -> None:
    if not path.parent.is_dir():
        raise InvalidInput(f"the folder {path.parent} does not exist; make it first", param="path")
    if not force and (path.exists() or path.is_symlink()):
        raise Conflict(f"{path} exists; give another path, or --force")


def _beside(path: Path, what: str) -> Path:
    whole = path.absolute()
    return whole.parent / f".{whole.name}.{os.getpid()}.{what}"


@contextlib.contextmanager
def _on_disk(path: Path, clear: Callable[[], None]) -> Iterator[None]:
    """Sync the folder around the path at the end; clear away what is unfinished; turn a disk's refusal into one line."""
    try:
        yield
        sync(path.parent)
    except OSError as exc:
        raise HomeUnusable(
            f"{path} cannot be written: {exc.strerror or exc}; make room or choose another place"
        ) from exc
    finally:
        with contextlib.suppress(OSError):
            clear()


def _swap(fresh: Path, path: Path, before: Path) -> None:
    if path.exists():
        path.rename(before)
    try:
        fresh.rename(path)
    except OSError:
        if before.exists():
            before.rename(path)
        raise
