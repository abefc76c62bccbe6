"""Adapters by name, in `$MONK_HOME/adapters`: a small JSON file for each name, and the weights by content hash.

    adapters/lawyer.json          {"name", "sha256", "scale", ...}
    adapters/<sha256>.gguf        written by `gguf_adapter`, never changed; shared by all names with the same content
    adapters/versions/lawyer/3.json   what was trained under this name, worn or not; the card is a copy of the one in use

Every change is one rename, so a reader sees the old state or the new one. What a name points to may change; the hash, which
jobs and KV blocks go by, tells the versions apart.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import MISSING, asdict, dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from monk.errors import AdapterUnusable, Conflict, HomeUnusable, InvalidInput, NotFound
from monk.lora.whole import sync

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
MAX_SCALE = 100.0
VERSIONS = "versions"


@dataclass(frozen=True, slots=True)
class Adapter:
    """What is known of one name on the shelf."""

    name: str
    sha256: str  # of the GGUF file
    scale: float  # the strength it is worn with unless a job says otherwise
    architecture: str
    ranks: tuple[int, ...]
    alpha: float
    num_bytes: int
    source: str  # where it came from, for people
    base_model: str  # what it says it was trained on
    added_at: str  # RFC 3339
    version: int = 0  # of what was trained under this name, from 1; 0: it came from outside
    verdict: dict[str, Any] | None = None  # what the gate said of it


class Named(Protocol):
    """A version of an adapter."""

    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> str: ...


class Shelf:
    """Reads the folder anew at each call: other processes change it too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(
        self, name: str, source: Path, model: Path, now: datetime, scale: float = 1.0, told: str | None = None
    ) -> Adapter:
        """Check an adapter (PEFT folder or GGUF file) against the model and put it on the shelf, on disk when this returns.

        `told`: where it came from, if that is not `source`. Raises AdapterUnusable; InvalidInput for a name or scale that
        cannot be; Conflict when the name is taken by another adapter.
        """
        with self._writing():
            adapter = self._stored(name, source, model, now, scale, told, may_replace=False)
            _write_card(adapter, self._card(name))
        return adapter

    def add_version(self, name: str, source: Path, model: Path, now: datetime, told: str) -> Adapter:
        """Keep what was trained under this name as its next version, worn by nobody before `wear`. Raises as `add`; the same
        content again is the version it was."""
        with self._writing():
            adapter = self._stored(name, source, model, now, 1.0, told, may_replace=True)
            known = self.versions(name)
            again = next((one for one in known if one.sha256 == adapter.sha256), None)
            if again is not None:
                return again
            adapter = replace(adapter, version=1 + max((one.version for one in known), default=0))
            _write_card(adapter, self._version(name, adapter.version))
        return adapter

    def judge(self, name: str, version: int, verdict: dict[str, Any]) -> Adapter:
        """Write down what the gate said. Raises NotFound."""
        adapter = replace(self.version(name, version), verdict=verdict)
        with self._writing():
            _write_card(adapter, self._version(name, version))
        return adapter

    def wear(self, name: str, version: int) -> Adapter:
        """From now on the name means this version; the scale stays as it was set. Raises NotFound.

        What the name meant before is kept as a version of its own, if it was none.
        """
        adapter = self.version(name, version)
        self.weights(adapter)
        with self._writing():
            before = next((one for one in self.listing() if one.name == name), None)
            if before is not None:
                adapter = replace(adapter, scale=before.scale)
                if not before.version:
                    _write_card(before, self._version(name, 0))
            _write_card(adapter, self._card(name))
        return adapter

    def rollback(self, name: str, version: int | None = None) -> Adapter:
        """Go back to the version before the one in use, or to `version`. Raises NotFound, Conflict when there is none."""
        if version is None:
            current = self.get(name)
            earlier = [one.version for one in self.versions(name) if one.version < current.version]
            if not earlier:
                raise Conflict(
                    f"adapter {name} is at version {current.version}, and there is none before it; "
                    f"`monk adapter show {name}` lists its versions"
                )
            passed = [number for number in earlier if number == 0 or _passed(self.version(name, number))]
            version = max(passed or earlier)
        return self.wear(name, version)

    def versions(self, name: str) -> list[Adapter]:
        """All that was kept under this name, oldest first; empty for a name that was only ever added."""
        folder = self._version(name, 0).parent
        found = (_card_at(path)[0] for path in (folder.glob("*.json") if folder.is_dir() else []))
        return sorted((one for one in found if one is not None), key=lambda one: one.version)

    def listing(self) -> list[Adapter]:
        """All adapters, by name. A card that cannot be read is left out; `problems` names it."""
        return [adapter for adapter, _ in self._cards() if adapter is not None]

    def problems(self) -> list[str]:
        """What is wrong on the shelf, one line each."""
        told = [problem for _, problem in self._cards() if problem is not None]
        gone = [each.name for each in self.listing() if not self._weights(each.sha256).is_file()]
        return told + [f"the weights of adapter {name} are gone; add it again" for name in gone]

    def get(self, name: str) -> Adapter:
        """Raises NotFound, naming what there is."""
        known = {adapter.name: adapter for adapter in self.listing()}
        if name not in known:
            there = ", ".join(sorted(known)) or "none yet; `monk adapter add` puts one there"
            raise NotFound(f"there is no adapter {name[:80]!r}; on the shelf: {there}", param="adapter")
        return known[name]

    def weights(self, adapter: Named) -> Path:
        """The file for llama.cpp. Raises NotFound when somebody took it away."""
        path = self._weights(adapter.sha256)
        if not path.is_file():
            raise NotFound(f"the weights of adapter {adapter.name} are gone from {path}; add it again", param="adapter")
        return path

    def remove(self, name: str) -> Adapter:
        """Take a name off the shelf with all its versions; weights go when no other name has the same. Raises NotFound."""
        kept = self.versions(name)
        adapter = self.get(name) if not kept or self._card(name).exists() else kept[-1]
        with self._writing():
            self._card(name).unlink(missing_ok=True)
            shutil.rmtree(self._version(name, 0).parent, ignore_errors=True)
            needed = {other.sha256 for other in self._all_kept()}
            for gone in {adapter.sha256, *(one.sha256 for one in kept)} - needed:
                self._weights(gone).unlink(missing_ok=True)
        return adapter

    # ── files ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _stored(
        self, name: str, source: Path, model: Path, now: datetime, scale: float, told: str | None, *, may_replace: bool
    ) -> Adapter:
        """The weights on the shelf, and what a card says of them."""
        from monk.engine import gguf_file
        from monk.lora import gguf_adapter, peft_folder
        from monk.lora.adapter import check

        check_name(name)
        check_scale(scale)
        base = gguf_file.read(model)
        if not source.exists():
            raise AdapterUnusable(f"{source} does not exist; give a PEFT folder or a GGUF file")
        lora = peft_folder.read(source, base) if source.is_dir() else gguf_adapter.read(source)
        check(lora, base)
        with tempfile.TemporaryDirectory(dir=self._made(), prefix=".new-") as aside:
            fresh = Path(aside) / "adapter.gguf"
            sha256 = gguf_adapter.write(lora, fresh)
            if not may_replace:
                self._refuse_taken(name, sha256)
            size = fresh.stat().st_size
            fresh.replace(self._weights(sha256))
        return Adapter(
            name=name,
            sha256=sha256,
            scale=scale,
            architecture=lora.architecture,
            ranks=lora.ranks,
            alpha=lora.alpha,
            num_bytes=size,
            source=told or str(source),
            base_model=lora.base_model,
            added_at=now.isoformat(),
        )

    def version(self, name: str, version: int) -> Adapter:
        """One of those kept under this name. Raises NotFound, naming them."""
        known = {one.version: one for one in self.versions(name)}
        if version not in known:
            there = ", ".join(map(str, known)) or "none: nothing was trained under this name"
            raise NotFound(f"adapter {name[:80]} has no version {version}; there are {there}", param="adapter")
        return known[version]

    def _all_kept(self) -> Iterator[Adapter]:
        yield from self.listing()
        for folder in (self.folder / VERSIONS).glob("*") if self.folder.is_dir() else []:
            yield from self.versions(folder.name)

    def _version(self, name: str, version: int) -> Path:
        check_name(name)
        return self.folder / VERSIONS / name / f"{version}.json"

    def _refuse_taken(self, name: str, sha256: str) -> None:
        for known in self.listing():
            if known.name == name and known.sha256 != sha256:
                raise Conflict(f"the name {name} is taken by another adapter; remove it first, or choose another name")

    def _made(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder

    def _card(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _weights(self, sha256: str) -> Path:
        return self.folder / f"{sha256}.gguf"

    def _cards(self) -> Iterator[tuple[Adapter | None, str | None]]:
        paths = sorted(self.folder.glob("*.json")) if self.folder.is_dir() else []
        for path in paths:
            yield _card_at(path)

    def _writing(self) -> _Translated:
        return _Translated(self.folder)


class _Translated:
    """Turns a disk that refuses into HomeUnusable."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError):
            raise HomeUnusable(
                f"{self._folder} cannot be written: {error.strerror}; make room or check its owner"
            ) from error


def check_name(name: str) -> None:
    """Raises InvalidInput for what cannot be a name on the shelf, and so a file."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"adapter name {name[:80]!r}: use 1 to 64 of a-z, 0-9, dot, dash and underscore, beginning with a letter or digit",
            param="adapter",
        )


def check_scale(scale: float) -> None:
    """Raises InvalidInput."""
    if not -MAX_SCALE <= scale <= MAX_SCALE:  # also false for NaN
        raise InvalidInput(f"scale {scale} of an adapter: from {-MAX_SCALE:g} to {MAX_SCALE:g}", param="adapter")


def _passed(adapter: Adapter) -> bool:
    return bool((adapter.verdict or {}).get("passed"))


def _write_card(adapter: Adapter, path: Path) -> None:
    """On disk when this returns, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    with fresh.open("w", encoding="utf-8") as file:
        json.dump(asdict(adapter), file, ensure_ascii=False, indent=1)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync(path.parent)


def _card_at(path: Path) -> tuple[Adapter | None, str | None]:
    """(what the card says, None), or (None, what is wrong with it)."""
    try:
        return _adapter_from(json.loads(path.read_text(encoding="utf-8"))), None
    except (OSError, ValueError, TypeError, KeyError) as exc:
        return None, f"{path} is no adapter's card ({exc}); remove it and add the adapter again"


def _adapter_from(data: Any) -> Adapter:
    given = {field.name for field in fields(Adapter) if field.default is MISSING or field.name in data}
    values = {name: data[name] for name in given}
    adapter = Adapter(**{**values, "ranks": tuple(values["ranks"])})
    if not _NAME.fullmatch(adapter.name) or not re.fullmatch(r"[0-9a-f]{64}", adapter.sha256):
        raise ValueError("its name or hash is none")
    return adapter
