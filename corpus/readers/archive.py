"""Documents that are ZIP archives (DOCX, EPUB): opened with limits, so that a small file cannot unpack without end."""

from __future__ import annotations

import io
import zipfile
import zlib

from monk.errors import DocumentUnreadable

_MAX_UNPACKED_BYTES = 1 << 30  # a small file that unpacks to more than this is an attack
_MAX_ENTRIES = 50_000


class Archive:
    """Entries by name. Raises DocumentUnreadable, calling the file a `kind`, when it is no archive or an attack."""

    def __init__(self, data: bytes, kind: str) -> None:
        if data.count(b"PK\x01\x02") > _MAX_ENTRIES:  # before the table of contents is made into objects
            raise DocumentUnreadable(f"holds more than {_MAX_ENTRIES} files, which no {kind} does")
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
            self.names = frozenset(self._zip.namelist())
            unpacked = sum(entry.file_size for entry in self._zip.infolist())
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as exc:
            raise DocumentUnreadable(f"is damaged or not {kind}; save it again with the program that made it") from exc
        if unpacked > _MAX_UNPACKED_BYTES:
            raise DocumentUnreadable(f"unpacks to {unpacked // 2**20} MiB, more than a document needs")

    def read(self, name: str) -> bytes | None:
        """The bytes of an entry; None when it is missing, damaged or encrypted."""
        try:
            return self._zip.read(name)
        except (KeyError, zipfile.BadZipFile, zlib.error, OSError, RuntimeError, EOFError, ValueError):
            return None
