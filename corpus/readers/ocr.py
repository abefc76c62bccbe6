"""Pictures of pages to lines, by the OCR program: the only file that starts it.

It runs as a child of the reading process with a time limit per page, one thread, no file and no network of its own: the
picture goes in and the words come out by pipes. It dies with the reading process.
"""

from __future__ import annotations

import ctypes
import signal
import subprocess
import time
from collections.abc import Callable
from functools import cached_property

from corpus.readers.hocr import lines_of
from corpus.readers.pdf_lines import Line
from corpus.recognition import PROGRAM, SEARCH_PATH, Recognition, is_installed

_LIST_SECONDS = 20.0
_PR_SET_PDEATHSIG = 1
_ENVIRONMENT = {"PATH": SEARCH_PATH, "LC_ALL": "C.UTF-8", "OMP_THREAD_LIMIT": "1"}  # the engine wants the other cores


class Recogniser:
    """Reads pages until the time of the document is over. `tell` is called before every page."""

    def __init__(self, recognition: Recognition, tell: Callable[[str], None]) -> None:
        self._recognition = recognition
        self._tell = tell
        self._deadline = time.monotonic() + recognition.document_seconds

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """Those asked for that the program knows; none when it is not installed or knows none of them."""
        return tuple(name for name in self._asked if name in self._known)

    @property
    def why_not(self) -> str:
        """What to do so that pages can be read; empty when they can."""
        if not is_installed():
            return f"no {PROGRAM} is installed: apt-get install tesseract-ocr"
        missing = [name for name in self._asked if name not in self.languages]
        if missing and not self.languages:
            packages = " ".join(f"tesseract-ocr-{name.replace('_', '-')}" for name in missing)
            return f"{PROGRAM} does not know the language {'+'.join(missing)}: apt-get install {packages}, or set ocr_languages"
        return ""

    def page(self, picture: bytes, page: int, num_pages: int, points_per_pixel: float) -> list[Line] | None:
        """The lines of a page, given as PGM, in reading order; None when there is no time for it."""
        if time.monotonic() > self._deadline:
            return None
        self._tell(f"page {page} of {num_pages}")
        modes = ["--psm", "1" if "osd" in self._known else "3"]  # 1 also finds out which way is up
        hocr = self._run(["stdin", "stdout", "-l", "+".join(self.languages), *modes, "hocr"], picture)
        return None if hocr is None else lines_of(hocr, page, points_per_pixel)

    @property
    def _asked(self) -> list[str]:
        return [name for name in self._recognition.languages.split("+") if name]

    @cached_property
    def _known(self) -> frozenset[str]:
        if not is_installed():
            return frozenset()
        lines = (self._run(["--list-langs"], b"", _LIST_SECONDS) or "").split("\n")
        return frozenset(line.strip() for line in lines[1:])

    def _run(self, arguments: list[str], given: bytes, seconds: float | None = None) -> str | None:
        """What it prints; None when it takes too long or fails."""
        try:
            done = subprocess.run(
                [PROGRAM, *arguments],
                input=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=_ENVIRONMENT,
                cwd="/",
                timeout=seconds or self._recognition.page_seconds,
                preexec_fn=_die_with_parent,
                check=False,
            )
        except (subprocess.TimeoutExpired, OSError):
            return None
        return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
