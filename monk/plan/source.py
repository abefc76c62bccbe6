"""From what a person calls a model to its header: a GGUF file, a URL of one, a config.json, or a well-known name."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monk.engine import gguf_file
from monk.engine.gguf_file import GgufFile
from monk.errors import InvalidInput, ModelUnusable, NotFound, Unavailable
from monk.plan.described import describe, retyped
from monk.plan.known import config_of

FIRST_BYTES = 1 << 20
MOST_HEADER_BYTES = 512 << 20
MOST_CONFIG_BYTES = 4 << 20
TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Source:
    """A file's header, or a configuration and its name: looked up once, and seen in any weight format."""

    name: str
    file: GgufFile | None = None
    config: dict[str, Any] | None = None

    @property
    def is_file(self) -> bool:
        return self.file is not None

    def typed(self, weights: str | None) -> GgufFile:
        """The model in a format; None: as its file is, or in bf16. Raises InvalidInput."""
        if self.file is not None:
            return self.file if weights is None else retyped(self.file, weights)
        assert self.config is not None
        return describe(self.name, self.config, weights or "bf16")


def find(model: str, weights: str) -> GgufFile:
    """Its header. `weights`: the format of a model that is only described. Raises NotFound, ModelUnusable, Unavailable."""
    found = locate(model)
    return found.typed(None if found.is_file else weights)


def locate(model: str) -> Source:
    """Where a name, path or URL leads. Raises NotFound, ModelUnusable, Unavailable."""
    if model.startswith(("http://", "https://")):
        return _behind(model)
    path = Path(model).expanduser()
    if path.is_dir() and (path / "config.json").is_file():
        path = path / "config.json"
    if path.is_file():
        if path.suffix == ".json":
            return _described(path.read_bytes(), path.parent.name or "model")
        return Source(path.name, gguf_file.read(path))
    if path.suffix in (".gguf", ".json") or len(path.parts) > 2:
        raise NotFound(f"there is no file {model[:200]}", param="model")
    name, config = config_of(model)
    return Source(name, config=config)


def _described(data: bytes, name: str) -> Source:
    try:
        config = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise ModelUnusable(f"the configuration of {name} is no JSON: {exc}") from exc
    if not isinstance(config, dict):
        raise ModelUnusable(f"the configuration of {name} is no object")
    if isinstance(config.get("text_config"), dict):  # a model that also sees: its language part
        config = {
            **config["text_config"],
            "model_type": config["text_config"].get("model_type", config.get("model_type")),
        }
    return Source(name, config=config)


def _behind(url: str) -> Source:
    """Only as much of the file as its header needs, by range."""
    import httpx

    name = url.partition("?")[0].rpartition("/")[2] or "model"
    try:
        with httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=True) as client:
            if name.endswith(".json"):
                return _described(_get(client, url, MOST_CONFIG_BYTES)[0], url.rstrip("/").split("/")[-2])
            return Source(name, _header(client, url, name))
    except httpx.HTTPError as exc:
        raise Unavailable(f"{url[:200]} cannot be fetched: {exc}") from exc


def _header(client: Any, url: str, name: str) -> GgufFile:
    size = FIRST_BYTES
    while True:
        data, total = _get(client, url, size)
        with tempfile.TemporaryDirectory(prefix="night-monk-") as aside:
            path = Path(aside) / name
            path.write_bytes(data)
            with path.open("r+b") as file:
                file.truncate(
                    max(total, len(data))
                )  # as long as the real one, which costs no disk: lengths are checked
            is_all = len(data) >= min(total, MOST_HEADER_BYTES)
            try:
                if is_all or gguf_file.read_table(path).data_start <= len(data):
                    return gguf_file.read(path)
            except ModelUnusable:
                if is_all or data[:4] != gguf_file.MAGIC:
                    raise
        size *= 4


def _get(client: Any, url: str, size: int) -> tuple[bytes, int]:
    """(at most the first `size` bytes, length of the whole)."""
    with client.stream("GET", url, headers={"range": f"bytes=0-{size - 1}"}) as answer:
        if answer.status_code not in (200, 206):
            raise NotFound(f"{url[:200]} answers {answer.status_code}", param="model")
        data = bytearray()
        for piece in answer.iter_bytes():
            data += piece
            if len(data) >= size:
                break
        span = answer.headers.get("content-range", "")
        told = span.rpartition("/")[2] if answer.status_code == 206 else answer.headers.get("content-length", "")
        if not told.isdigit():
            raise InvalidInput(f"{url[:200]} does not say how long it is; download it", param="model")
    return bytes(data[:size]), int(told)
