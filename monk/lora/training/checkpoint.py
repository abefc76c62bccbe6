"""Where a training was: one safetensors file, replaced whole, with a checksum of what is in it.

Values are numpy arrays by name; `facts` are JSON. `key` names the training: the recipe, the data and the model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from monk.errors import HomeUnusable
from monk.lora.whole import sync

Arrays = dict[str, npt.NDArray[Any]]


def save(path: Path, key: str, arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any]) -> None:
    """On disk when this returns. Raises HomeUnusable; what was there before then stays."""
    from safetensors.numpy import save_file

    told = {"key": key, "facts": json.dumps(facts), "checksum": _checksum(arrays)}
    fresh = path.with_name(f".{path.name}.new")
    try:
        save_file(dict(arrays), fresh, metadata=told)
        sync(fresh)
        fresh.replace(path)
        sync(path.parent)
    except OSError as exc:
        fresh.unlink(missing_ok=True)
        raise HomeUnusable(f"the checkpoint {path} cannot be written: {exc.strerror or exc}; make room") from exc


def load(path: Path, key: str) -> tuple[Arrays, dict[str, Any]] | None:
    """What was saved; None when there is nothing, it is another training's, or it is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            told = file.metadata() or {}
            if told.get("key") != key:
                return None
            arrays: Arrays = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    if _checksum(arrays) != told.get("checksum"):
        return None
    return arrays, json.loads(told["facts"])


def _checksum(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()
