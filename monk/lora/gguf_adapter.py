"""Reads adapters in GGUF, whoever made them, and writes ours, the only ones that llama.cpp is given.

Reading is bounded: lengths are checked against the file before anything is taken in. What is written has f32 or f16 factors and
alpha as f32: another type of alpha makes llama.cpp abort the process.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np

from monk.engine.gguf_file import Table, Tensor, read_table
from monk.errors import AdapterUnusable, ModelUnusable
from monk.lora.adapter import Lora, Matrix, Pair

ALPHA, TYPE, LORA_TYPE = "adapter.lora.alpha", "general.type", "adapter.type"
INVOCATION = "adapter.alora.invocation_tokens"
SUFFIXES = (".lora_a", ".lora_b")


def read(path: Path) -> Lora:
    """The adapter in the file. Raises AdapterUnusable."""
    try:
        table = read_table(path)
    except ModelUnusable as exc:
        raise AdapterUnusable(
            exc.message.replace("give a model in GGUF format", "give a PEFT folder or a GGUF adapter")
        ) from exc
    _check_kind(path, table)
    alpha = table.metadata.get(ALPHA)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float):
        raise AdapterUnusable(f"{path} has {ALPHA} {alpha!r}; it must be a number")
    return Lora(
        architecture=str(table.metadata.get("general.architecture", "unknown")),
        alpha=float(alpha),
        pairs=_pairs(path, table),
        source=str(table.metadata.get("general.name") or path.stem),
        base_model=str(table.metadata.get("general.base_model.0.name") or ""),
    )


def write(lora: Lora, path: Path, kind: Literal["f32", "f16"] = "f32") -> str:
    """Store the adapter, on disk when this returns; the SHA-256 of the file. The same adapter gives the same bytes."""
    type_ = np.float32 if kind == "f32" else np.float16
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    writer = gguf.GGUFWriter(fresh, lora.architecture)
    writer.add_type("adapter")
    writer.add_string(LORA_TYPE, "lora")
    writer.add_float32(ALPHA, lora.alpha)
    for name in sorted(lora.pairs):
        pair = lora.pairs[name]
        writer.add_tensor(f"{name}.lora_a", np.ascontiguousarray(pair.a, type_))
        writer.add_tensor(f"{name}.lora_b", np.ascontiguousarray(pair.b, type_))
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with fresh.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as exc:
        fresh.unlink(missing_ok=True)
        raise AdapterUnusable(f"the adapter cannot be stored as {path}: {exc.strerror}") from exc
    return digest


def _check_kind(path: Path, table: Table) -> None:
    kind, sort = table.metadata.get(TYPE), table.metadata.get(LORA_TYPE)
    if kind != "adapter" or sort != "lora":
        raise AdapterUnusable(f"{path} is {kind or 'a model'}{f' of type {sort}' if sort else ''}, not a LoRA adapter")
    if table.metadata.get(INVOCATION):
        raise AdapterUnusable(f"{path} begins at a token (aLoRA), which is not supported; use a plain LoRA")


def _pairs(path: Path, table: Table) -> dict[str, Pair]:
    halves: dict[str, dict[str, Matrix]] = {}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        for tensor in table.tensors:
            suffix = tensor.name[-7:]
            if suffix not in SUFFIXES:
                raise AdapterUnusable(f"{path} holds {tensor.name[:200]!r}, which is no factor of a LoRA")
            both = halves.setdefault(tensor.name[:-7], {})
            if suffix in both:
                raise AdapterUnusable(f"{path} holds {tensor.name[:200]!r} twice")
            both[suffix] = _values(path, view, table.data_start, tensor)
    for name, both in halves.items():
        if len(both) != 2:
            raise AdapterUnusable(f"{path} has only one of lora_a and lora_b for {name[:200]}")
    return {name: Pair(both[".lora_a"], both[".lora_b"]) for name, both in halves.items()}


def _values(path: Path, view: Any, data_start: int, tensor: Tensor) -> Matrix:
    """One tensor in numpy's order of dimensions."""
    size = tensor.num_bytes
    shape = tensor.shape[::-1]
    if size is None or not 2 <= len(shape) <= 3 or tensor.num_elements == 0:
        raise AdapterUnusable(f"{path}: {tensor.name[:200]} has shape {shape} and type {tensor.type_id}; not a factor")
    start = data_start + tensor.offset
    rows = np.frombuffer(view[start : start + size], np.uint8).reshape(*shape[:-1], -1)
    kind = gguf.GGMLQuantizationType(tensor.type_id)
    try:
        values: Matrix = gguf.dequantize(rows, kind).astype(np.float32)
    except (NotImplementedError, ValueError) as exc:
        raise AdapterUnusable(f"{path}: factors of type {kind.name} cannot be read; use F16 or F32") from exc
    return values.reshape(shape)
