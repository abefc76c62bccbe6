"""SHA-256 of model files, remembered as long as a file stays the same, so that 60 GB are not read at every start."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path

from monk.errors import ModelUnusable

log = logging.getLogger(__name__)

CHUNK_BYTES = 8 << 20


def sha256_of(parts: tuple[Path, ...], cache: Path | None = None) -> str:
    """Hex digest over the parts in a row; raises ModelUnusable if one cannot be read.

    `cache` is a JSON file from (path, size, mtime, inode) to digest. One that cannot be read or written is done
    without.
    """
    key = "|".join(_identity(part) for part in parts)
    known = _load(cache)
    if key in known:
        return known[key]
    digest = _digest(parts)
    _store(cache, {**known, key: digest})
    return digest


def remembered(parts: tuple[Path, ...], cache: Path | None) -> str | None:
    """The digest if the cache has it; nothing is read. Raises ModelUnusable if a part is not there."""
    return _load(cache).get("|".join(_identity(part) for part in parts))


def check_pin(parts: tuple[Path, ...], pinned: str) -> str:
    """The digest, always computed. Raises ModelUnusable when it is not the pinned one."""
    digest = _digest(parts)
    if digest != pinned.lower():
        raise ModelUnusable(
            f"{parts[0]} is not the pinned model: its SHA-256 is {digest}, expected {pinned.lower()}; "
            "install the model again, or correct the pinned hash",
            file=str(parts[0]),
            found=digest,
            expected=pinned.lower(),
        )
    return digest


def _identity(path: Path) -> str:
    try:
        status = path.stat()
    except OSError as exc:
        raise ModelUnusable(f"{path} cannot be read: {exc.strerror}", file=str(path)) from exc
    return f"{path.absolute()}:{status.st_size}:{status.st_mtime_ns}:{status.st_ino}"


def _digest(parts: tuple[Path, ...]) -> str:
    total = hashlib.sha256()
    for part in parts:
        try:
            with part.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    total.update(chunk)
        except OSError as exc:
            raise ModelUnusable(f"{part} cannot be read: {exc.strerror}", file=str(part)) from exc
    return total.hexdigest()


def _load(cache: Path | None) -> dict[str, str]:
    if cache is None:
        return {}
    try:
        found = json.loads(cache.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and all(isinstance(item, str) for item in found.values()) else {}


def _store(cache: Path | None, known: dict[str, str]) -> None:
    if cache is None:
        return
    fresh = cache.with_name(f"{cache.name}.{os.getpid()}.new")
    try:
        fresh.write_text(json.dumps(known, indent=1))
        fresh.replace(cache)
    except OSError as exc:
        log.warning("hash cache not written", extra={"file": str(cache), "reason": exc.strerror})
