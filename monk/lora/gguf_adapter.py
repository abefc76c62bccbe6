"""Reads adapters in GGUF, whoever made them, and writes ours, the only ones that llama.cpp is given.

Reading is bounded: lengths are checked against the file before anything is taken in. What is written has f32 or f16 factors and
alpha as f32: another type of alpha makes llama.cpp abort the process.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
import numpy.typing as npt

from monk.engine.gguf_file import BLOCKS, Table, Tensor, read_table
from monk.errors import AdapterUnusable, ModelUnusable
from monk.lora.adapter import Lora, Matrix, Pair, check_size, printable

Kind = Literal["f32", "f16"]
ALPHA, TYPE, LORA_TYPE = "adapter.lora.alpha", "general.type", "adapter.type"
INVOCATION = "adapter.alora.invocation_tokens"
SUFFIXES = (".lora_a", ".lora_b")
MAX_TENSOR_NAME = 128  # characters; llama.cpp has room for 63 bytes
MEMORY_FACTOR = 2  # of the factors in f32: they, and one tensor before it is widened


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
        raise AdapterUnusable(f"{path} has {ALPHA} {str(alpha)[:80]!r}; it must be a number")
    return Lora(
        architecture=printable(table.metadata.get("general.architecture", "unknown")),
        alpha=float(alpha),
        pairs=_pairs(path, table),
        source=printable(table.metadata.get("general.name") or path.stem),
        base_model=printable(table.metadata.get("general.base_model.0.name") or ""),
    )


def read_kept(path: Path, sha256: str) -> Lora:
    """The same, of a file that must not have changed since it was written. Raises AdapterUnusable."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise AdapterUnusable(f"{path} cannot be read: {exc.strerror}") from exc
    if found != sha256:
        raise AdapterUnusable(f"{path} is damaged: its SHA-256 is {found}; remove the adapter and add it again")
    return read(path)


def write(lora: Lora, path: Path, kind: Kind = "f32") -> str:
    """Store the adapter, on disk when this returns; the SHA-256 of the file. The same adapter gives the same bytes.

    Raises AdapterUnusable where F16 cannot hold a value, and when the disk refuses; nothing is left then.
    """
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    writer = gguf.GGUFWriter(fresh, lora.architecture)
    writer.add_type("adapter")
    writer.add_string(LORA_TYPE, "lora")
    writer.add_float32(ALPHA, lora.alpha)
    for name in sorted(lora.pairs):
        pair = lora.pairs[name]
        writer.add_tensor(f"{name}.lora_a", stored_as(kind, pair.a, name))
        writer.add_tensor(f"{name}.lora_b", stored_as(kind, pair.b, name))
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
        _close(writer)
        fresh.unlink(missing_ok=True)
        raise AdapterUnusable(f"the adapter cannot be stored as {path}: {exc.strerror or exc}") from exc
    return digest


def stored_as(kind: Kind, values: Matrix, name: str) -> npt.NDArray[np.floating[Any]]:
    """In one piece, as it goes into a file. Raises AdapterUnusable for a value beyond F16."""
    if kind == "f16" and np.abs(values).max(initial=0.0) > np.finfo(np.float16).max:
        raise AdapterUnusable(f"the factors of {name} hold values beyond F16; write them as f32", tensor=name)
    return np.ascontiguousarray(values, np.float32 if kind == "f32" else np.float16)


def _close(writer: Any) -> None:
    """Without a word of what could not be written."""
    for file in writer.fout or ():
        with contextlib.suppress(OSError):
            file.close()


def _check_kind(path: Path, table: Table) -> None:
    kind, sort = table.metadata.get(TYPE), table.metadata.get(LORA_TYPE)
    if kind != "adapter" or sort != "lora":
        told = f"{printable(kind or 'a model')}{f' of type {printable(sort)}' if sort else ''}"
        raise AdapterUnusable(f"{path} is {told}, not a LoRA adapter")
    if table.metadata.get(INVOCATION):
        raise AdapterUnusable(f"{path} begins at a token (aLoRA), which is not supported; use a plain LoRA")


def _pairs(path: Path, table: Table) -> dict[str, Pair]:
    size = 4 * sum(tensor.num_elements for tensor in table.tensors)
    check_size(path, size, MEMORY_FACTOR * size)
    halves: dict[str, dict[str, Matrix]] = {}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        for tensor in table.tensors:
            suffix = tensor.name[-7:]
            if suffix not in SUFFIXES or len(tensor.name) > MAX_TENSOR_NAME:
                raise AdapterUnusable(f"{path} holds {tensor.name[:200]!r}, which is no factor of a LoRA")
            both = halves.setdefault(tensor.name[:-7], {})
            if suffix in both:
                raise AdapterUnusable(f"{path} holds {tensor.name!r} twice")
            both[suffix] = _values(path, view, table.data_start, tensor)
    for name, both in halves.items():
        if len(both) != 2:
            raise AdapterUnusable(f"{path} has only one of lora_a and lora_b for {name!r}")
    return {name: Pair(both[".lora_a"], both[".lora_b"]) for name, both in halves.items()}


def _values(path: Path, view: Any, data_start: int, tensor: Tensor) -> Matrix:
    """One tensor in numpy's order of dimensions."""
    size = tensor.num_bytes
    shape = tensor.shape[::-1]
    if size is None or not 2 <= len(shape) <= 3 or tensor.num_elements == 0 or shape[-1] % BLOCKS[tensor.type_id][0]:
        raise AdapterUnusable(f"{path}: {tensor.name!r} has shape {shape} and type {tensor.type_id}; not a factor")
    start = data_start + tensor.offset
    rows = np.frombuffer(view[start : start + size], np.uint8).reshape(*shape[:-1], -1)
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # what is no number is found by `check`
            values: Matrix = gguf.dequantize(rows, gguf.GGMLQuantizationType(tensor.type_id)).astype(np.float32)
    except (NotImplementedError, ValueError) as exc:
        raise AdapterUnusable(f"{path}: factors of type {tensor.type_id} cannot be read; use F16 or F32") from exc
    return values.reshape(shape)
