"""What is asked of the OCR program, and whether it is there. Runs nothing itself: `readers/ocr.py` does, in the reading
process."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from monk.errors import DocumentUnreadable

PROGRAM = "tesseract"
SEARCH_PATH = "/usr/local/bin:/usr/bin:/bin"  # where the reading process looks for it; nobody's own folders


class WithoutOcr(DocumentUnreadable):
    """A scan, and the OCR program is missing: read it again once it is there, and not before."""


@dataclass(frozen=True, slots=True)
class Recognition:
    """How pictures of text are read. `languages` as tesseract names them, joined by "+"."""

    languages: str = "eng"
    page_seconds: float = 60.0  # a page that takes longer is named as lost
    document_seconds: float = 4 * 3600.0  # pages that would begin later than this are named as lost

    @property
    def mark(self) -> str:
        """What stands in the index key of a document that needed it: another mark means, read it again."""
        return f"+ocr:{self.languages}" if is_installed() else "+ocr:none"


def is_installed() -> bool:
    """Whether the OCR program can be started."""
    return shutil.which(PROGRAM, path=SEARCH_PATH) is not None
