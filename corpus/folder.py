"""The corpus folder: which files there are, and a safe way to open one. Reads names and sizes, never contents.

Nothing outside the folder is ever opened: a symlink that leaves it is refused by name. What is no regular file (devices,
pipes, sockets) is named and left alone: opening a pipe would wait for ever.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from monk.errors import DocumentUnreadable, NotFound

_LEFTOVERS = ("~$", ".~lock")  # what office programs leave beside an open document


class TryAgain(DocumentUnreadable):
    """Could not be read this time (permission, time, memory): the next sync tries again."""


class OutOfReach(TryAgain):
    """The file, or the disk below it, went away just now: nothing may be concluded about what was known of it."""


_DENIED = (errno.EACCES, errno.EPERM, errno.ELOOP)


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """A file found. `path` is relative, with forward slashes, printable, and unique; `location` opens it."""

    path: str
    location: Path
    size_bytes: int
    modified_us: int  # microseconds since 1970
    problem: str | None = None  # why it may not be read


@dataclass(slots=True)
class Scan:
    """One look at the folder. Below `unreadable_folders` nothing is known, so nothing there may count as removed."""

    files: list[CorpusFile] = field(default_factory=list)
    unreadable_folders: dict[str, str] = field(default_factory=dict)


def scan(folder: Path, max_file_bytes: int) -> Scan:
    """All files below `folder`, sorted by path; hidden ones are left out.

    Raises NotFound when the folder is not there or cannot be listed: then nothing may be concluded about its files.
    """
    root = _existing(folder)
    found = Scan()
    pending = [root]
    while pending:
        current = pending.pop()
        try:
            entries = sorted(os.scandir(current), key=lambda entry: entry.name)
        except OSError as exc:
            if current == root:
                raise _gone(folder, exc) from exc
            found.unreadable_folders[printable(current, root)] = f"cannot be listed: {_reason(exc)}"
            continue
        for entry in entries:
            if entry.name.startswith((".", *_LEFTOVERS)):
                continue
            if entry.is_dir(follow_symlinks=False):
                pending.append(Path(entry.path))
            else:
                found.files += _examined(Path(entry.path), root, max_file_bytes)
    _existing(folder)  # a mount that went away meanwhile must not look like removed files
    found.files.sort(key=lambda file: file.path)
    return found


def find(folder: Path, path: str, max_file_bytes: int) -> CorpusFile | None:
    """The file with this printable path; None when there is none. Never looks outside the folder."""
    root = _existing(folder)
    candidate = root / path
    if os.path.isabs(path) or ".." in Path(path).parts:
        return None
    if os.path.lexists(candidate):
        return next(iter(_examined(candidate, root, max_file_bytes)), None)
    return next((file for file in scan(folder, max_file_bytes).files if file.path == path), None)


def open_regular(file: CorpusFile, folder: Path) -> int:
    """A descriptor of the file for reading; the caller closes it.

    Raises DocumentUnreadable when it changed into something else since it was found, TryAgain when it may not be read,
    OutOfReach when it is gone, and NotFound when the whole folder is.
    """
    root = _existing(folder)
    try:
        location = _inside(file.location, root)
        descriptor = os.open(location, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as exc:
        kind = TryAgain if exc.errno in _DENIED else OutOfReach
        raise kind(f"cannot be opened: {_reason(exc)}", file=file.path) from exc
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DocumentUnreadable("is no regular file", file=file.path)
    return descriptor


def printable(location: Path, root: Path) -> str:
    """The path below `root` as text that is safe to store and to print: odd bytes and control characters as `\\x1b`."""
    raw = os.path.relpath(location, root).replace(os.sep, "/")
    text = raw.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def _examined(location: Path, root: Path, max_file_bytes: int) -> Iterator[CorpusFile]:
    """The file at `location`, or nothing when it went away or is a folder behind a symlink."""
    path = printable(location, root)
    try:
        status = _inside(location, root).stat()
    except DocumentUnreadable as exc:
        yield CorpusFile(path, location, 0, 0, exc.message)
        return
    except FileNotFoundError:
        if location.is_symlink():
            yield CorpusFile(path, location, 0, 0, "is a symlink to nothing")
        return
    except OSError as exc:
        yield CorpusFile(path, location, 0, 0, f"cannot be examined: {_reason(exc)}")
        return
    if stat.S_ISDIR(status.st_mode):
        return  # a symlink to a folder of the corpus: its files are found where they are
    yield CorpusFile(
        path,
        location,
        status.st_size,
        status.st_mtime_ns // 1000,
        _refused(status.st_mode, status.st_size, max_file_bytes),
    )


def _refused(mode: int, size_bytes: int, max_file_bytes: int) -> str | None:
    if not stat.S_ISREG(mode):
        return "is no regular file (a pipe, socket or device)"
    if size_bytes > max_file_bytes:
        return f"has {size_bytes} bytes, the limit is {max_file_bytes}; split it or raise the limit"
    return None


def _inside(location: Path, root: Path) -> Path:
    """Where `location` really is. Raises DocumentUnreadable when that is outside of `root`."""
    try:
        real = location.resolve(strict=True)
    except RuntimeError as exc:
        raise DocumentUnreadable("is a symlink that leads to itself") from exc
    if not real.is_relative_to(root):
        raise DocumentUnreadable("is a symlink that leaves the corpus folder; copy the file into it")
    return real


def _existing(folder: Path) -> Path:
    try:
        real = folder.resolve(strict=True)
        if not real.is_dir():
            raise NotADirectoryError(f"{folder} is not a folder")
        os.stat(real)
    except (OSError, RuntimeError) as exc:
        raise _gone(folder, exc) from exc
    return real


def _gone(folder: Path, exc: Exception) -> NotFound:
    reason = _reason(exc) if isinstance(exc, OSError) else str(exc)
    return NotFound(
        f"corpus folder {folder} cannot be read ({reason}); nothing was removed from the index: create it, mount it or set "
        "MONK_CORPUS",
        param="corpus",
    )


def _reason(exc: OSError) -> str:
    return (exc.strerror or str(exc)).lower()
