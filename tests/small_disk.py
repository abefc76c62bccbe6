"""A small disk of its own, which can be filled to the last byte and made read-only. Needs root and `mount`."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

MIB = 1 << 20
PIECE = bytes(4096)  # a page: what tmpfs gives out


class SmallDisk:
    """Mounted at `path` until `leave`."""

    def __init__(self, path: Path, size_mib: int) -> None:
        self.path = path
        self._ballast = path / "ballast"
        _run("mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(path))

    def reserve(self, num_bytes: int) -> None:
        """Take this much away, until `free`."""
        self._ballast.write_bytes(bytes(num_bytes))

    def fill(self) -> None:
        """Not one byte is left, until `free`."""
        with contextlib.suppress(OSError), self._ballast.open("ab", buffering=0) as file:
            while file.write(PIECE) == len(PIECE):
                pass

    def free(self) -> None:
        """Give back what was reserved and filled."""
        self._ballast.unlink()

    def leave(self) -> None:
        """Unmount; nothing on it survives."""
        _run("umount", "--lazy", str(self.path))  # a process that has just been killed may hold it still


@contextlib.contextmanager
def read_only(path: Path) -> Iterator[None]:
    """The folder cannot be written meanwhile, not even by root."""
    _run("mount", "--bind", str(path), str(path))
    try:
        _run("mount", "-o", "remount,bind,ro", str(path))
        yield
    finally:
        _run("umount", str(path))


def why_not(folder: Path) -> str | None:
    """The reason why no disk can be mounted here; None when it can."""
    if os.geteuid() != 0:
        return "mounting a small disk needs root"
    try:
        SmallDisk(folder, 1).leave()
    except (OSError, subprocess.CalledProcessError) as exc:
        return f"a small disk cannot be mounted here: {exc}"
    return None


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
