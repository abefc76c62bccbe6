"""Text that a person hands over in a file, or on stdin."""

from __future__ import annotations

import sys
from pathlib import Path


def text_of(file: str, option: str) -> str:
    """A file's text, or for "-" that of stdin. Raises InvalidInput, naming the option, for one that cannot be read."""
    from monk.errors import InvalidInput

    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8-sig")
    except OSError as exc:
        raise InvalidInput(f"{option} {file} cannot be read: {exc.strerror}", param=option) from exc
    except UnicodeDecodeError as exc:
        told = f"{option} {file} is no UTF-8 at byte {exc.start}; convert it first (iconv -t utf-8)"
        raise InvalidInput(told, param=option) from exc
