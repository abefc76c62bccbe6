"""Adapters that are broken by accident or by malice, each right but for one thing: {what it is: how it is made}.

A maker gets an empty folder and the model it shall seem to be for; what it returns is given to `Shelf.add`.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from monk.engine.gguf_file import GgufFile

Maker = Callable[[Path, GgufFile], Path]
WEIGHT, MODULE = "blk.0.attn_q.weight", "base_model.model.model.layers.0.self_attn.q_proj"
RANK = 4
SECRET = "the secret of another folder"
UINT32, FLOAT32, BOOL, TEXT, LIST, FLOAT64 = 4, 6, 7, 8, 9, 12  # types of metadata in GGUF
NESTING = 100_000
HUGE = 100 << 30


# --- PEFT folders


def factors(model: GgufFile, module: str = MODULE) -> dict[str, Any]:
    width, out = next(tensor.shape for tensor in model.tensors if tensor.name == WEIGHT)
    return {
        f"{module}.lora_A.weight": np.ones((RANK, width), np.float32),
        f"{module}.lora_B.weight": np.ones((out, RANK), np.float32),
    }


def folder_of(folder: Path, weights: Mapping[str, Any], **config: Any) -> Path:
    told = {"peft_type": "LORA", "r": RANK, "lora_alpha": 8, **config}
    (folder / "adapter_config.json").write_text(json.dumps(told))
    save_file(dict(weights), folder / "adapter_model.safetensors")
    return folder


def configured(**config: Any) -> Maker:
    return lambda folder, model: folder_of(folder, factors(model), **config)


def config_text(text: str) -> Maker:
    def make(folder: Path, model: GgufFile) -> Path:
        folder_of(folder, factors(model))
        (folder / "adapter_config.json").write_text(text)
        return folder

    return make


def weights_file(data: bytes) -> Maker:
    """In place of the weights."""

    def make(folder: Path, model: GgufFile) -> Path:
        folder_of(folder, factors(model))
        (folder / "adapter_model.safetensors").write_bytes(data)
        return folder

    return make


def named(module: str) -> Maker:
    return lambda folder, model: folder_of(folder, factors(model, module))


def filled(which: str, value: float) -> Maker:
    def make(folder: Path, model: GgufFile) -> Path:
        weights = factors(model)
        weights[f"{MODULE}.lora_{which}.weight"][0, 0] = value
        return folder_of(folder, weights)

    return make


def also(module_of: str, module: str) -> Maker:
    """The same factors a second time, under another name."""

    def make(folder: Path, model: GgufFile) -> Path:
        again = {name.replace(module_of, module): values for name, values in factors(model).items()}
        return folder_of(folder, {**factors(model), **again})

    return make


def instead(name: str, put: Callable[[Path], object]) -> Maker:
    def make(folder: Path, model: GgufFile) -> Path:
        folder_of(folder, factors(model))
        (folder / name).unlink()
        put(folder / name)
        return folder

    return make


def safetensors(header: str, num_bytes: int = 0) -> bytes:
    return struct.pack("<Q", len(header)) + header.encode() + bytes(num_bytes)


def tensor_told(shape: list[int], first: int, behind: int) -> str:
    return json.dumps({"dtype": "F32", "shape": shape, "data_offsets": [first, behind]})


def cut(folder: Path, model: GgufFile) -> Path:
    path = folder_of(folder, factors(model)) / "adapter_model.safetensors"
    os.truncate(path, path.stat().st_size - 1)
    return folder


def sparse(folder: Path, model: GgufFile) -> Path:
    """All is said rightly, and there is nothing but a hole of 100 GB."""
    header = f'{{"{MODULE}.lora_A.weight":{tensor_told([RANK, HUGE // 4 // RANK], 0, HUGE)}}}'
    path = folder_of(folder, factors(model)) / "adapter_model.safetensors"
    path.write_bytes(safetensors(header))
    os.truncate(path, 8 + len(header) + HUGE)
    return folder


def another_file(folder: Path) -> Path:
    path = folder.parent / "secret.txt"
    path.write_text(SECRET)
    return path


# --- archives


def bomb() -> bytes:
    """Small, and large when it is unpacked."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../adapter_model.safetensors", bytes(32 << 20))
    return data.getvalue()


def npz() -> bytes:
    data = io.BytesIO()
    np.savez(data, lora_A=np.ones(4))
    return data.getvalue()


class Exploding:
    """A pickle that makes a folder when it is opened."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self._path),))


def exploded(folder: Path) -> Path:
    """Where such a pickle leaves its mark."""
    return folder.parent / "exploded"


def pickled(folder: Path, model: GgufFile) -> Path:
    weights = folder_of(folder, factors(model)) / "adapter_model.safetensors"
    weights.write_bytes(pickle.dumps(Exploding(exploded(folder))))
    return folder


def pickle_beside(folder: Path, model: GgufFile) -> Path:
    pickled(folder, model)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    return folder


def pickle_alone(folder: Path, model: GgufFile) -> Path:
    path = folder / "adapter.bin"
    path.write_bytes(pickle.dumps(Exploding(exploded(folder))))
    return path


# --- GGUF, written by hand: the format's own writer refuses most of this


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def entry(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def row(name: str | bytes, shape: tuple[int, ...], offset: int, type_id: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, type_id, offset)


def gguf_bytes(
    entries: list[bytes],
    rows: list[bytes],
    data: bytes = b"",
    counts: tuple[int, int] | None = None,
    version: int = 3,
) -> bytes:
    num_rows, num_entries = counts or (len(rows), len(entries))
    header = b"GGUF" + struct.pack("<IQQ", version, num_rows, num_entries) + b"".join([*entries, *rows])
    return header.ljust(-(-len(header) // 32) * 32, b"\0") + data


def entries_of(model: GgufFile, alpha: bytes | None = None) -> list[bytes]:
    return [
        entry("general.architecture", TEXT, text(model.architecture)),
        entry("general.type", TEXT, text("adapter")),
        entry("adapter.type", TEXT, text("lora")),
        entry("adapter.lora.alpha", FLOAT32, struct.pack("<f", 8.0)) if alpha is None else alpha,
    ]


def rows_of(model: GgufFile, name: str = WEIGHT) -> tuple[list[bytes], bytes]:
    """The table of one right pair, and its values."""
    a, b = factors(model).values()
    rows = [row(f"{name}.lora_a", a.shape[::-1], 0), row(f"{name}.lora_b", b.shape[::-1], a.nbytes)]
    return rows, a.tobytes() + b.tobytes()


def gguf_of(make: Callable[[GgufFile], bytes]) -> Maker:
    def made(folder: Path, model: GgufFile) -> Path:
        path = folder / "adapter.gguf"
        path.write_bytes(make(model))
        return path

    return made


def right(model: GgufFile) -> bytes:
    rows, data = rows_of(model)
    return gguf_bytes(entries_of(model), rows, data)


def with_alpha(alpha: bytes) -> Maker:
    return gguf_of(lambda model: gguf_bytes(entries_of(model, alpha), *rows_of(model)))


def with_entry(extra: bytes) -> Maker:
    return gguf_of(lambda model: gguf_bytes([*entries_of(model), extra], *rows_of(model)))


def with_name(name: str) -> Maker:
    return gguf_of(lambda model: gguf_bytes(entries_of(model), *rows_of(model, name)))


def with_value(value: float) -> Maker:
    def make(model: GgufFile) -> bytes:
        rows, data = rows_of(model)
        return gguf_bytes(entries_of(model), rows, struct.pack("<f", value) + data[4:])

    return gguf_of(make)


def with_rows(change: Callable[[list[bytes]], list[bytes]]) -> Maker:
    def make(model: GgufFile) -> bytes:
        rows, data = rows_of(model)
        return gguf_bytes(entries_of(model), change(rows), data)

    return gguf_of(make)


def with_counts(num_rows: int, num_entries: int) -> Maker:
    return gguf_of(lambda model: gguf_bytes(entries_of(model), *rows_of(model), counts=(num_rows, num_entries)))


def sparse_gguf(folder: Path, model: GgufFile) -> Path:
    path = folder / "adapter.gguf"
    shape = (HUGE // 4 // RANK, RANK)
    path.write_bytes(gguf_bytes(entries_of(model), [row(f"{WEIGHT}.lora_a", shape, 0)]))
    os.truncate(path, path.stat().st_size + HUGE)
    return path


def file_put(put: Callable[[Path], object]) -> Maker:
    def make(folder: Path, model: GgufFile) -> Path:
        put(folder / "adapter.gguf")
        return folder / "adapter.gguf"

    return make


def file_of(name: str, data: Callable[[], bytes]) -> Maker:
    def make(folder: Path, model: GgufFile) -> Path:
        (folder / name).write_bytes(data())
        return folder / name

    return make


def alpha_entry(kind: int, value: bytes) -> bytes:
    return entry("adapter.lora.alpha", kind, value)


WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"

FOLDERS: Mapping[str, Maker] = {
    "weights cut by a byte": cut,
    "no weights": lambda folder, model: folder_of(folder, {}),
    "not a number": filled("A", float("nan")),
    "infinity": filled("B", float("inf")),
    "a path up as a name": named("base_model.model.../../../etc/passwd"),
    "an absolute path as a name": named("/etc/passwd"),
    "a name with NUL": named(f"{MODULE}\0"),
    "a name with newlines": named(f"{MODULE}\n\n\x1b[2J"),
    "a name of a megabyte": named("x" * (1 << 20)),
    "an expert of 5000 digits": named(f"base_model.model.model.layers.0.mlp.experts.{'9' * 5000}.up_proj"),
    "one factor twice": also(".lora_A.", ".lora_A.default."),
    "one weight by two names": also("model.model.layers", "model.model.language_model.layers"),
    "one key twice in the header": weights_file(
        safetensors("{" + ",".join([f'"{MODULE}.lora_A.weight":{tensor_told([1, 1], 0, 4)}'] * 2) + "}", 4)
    ),
    "a header without end": weights_file(struct.pack("<Q", HUGE) + b"{}"),
    "a header of nothing": weights_file(bytes(64)),
    "a nested header": weights_file(safetensors('{"a":' + "[" * NESTING)),
    "a tensor of 100 GB": weights_file(
        safetensors(f'{{"{MODULE}.lora_A.weight":{tensor_told([1 << 20, 25 << 10], 0, HUGE)}}}', 64)
    ),
    "a tensor beyond all numbers": weights_file(
        safetensors(f'{{"{MODULE}.lora_A.weight":{tensor_told([1 << 62, 1 << 62], 0, 64)}}}', 64)
    ),
    "a hole of 100 GB": sparse,
    "a zip bomb as weights": weights_file(bomb()),
    "arrays of numpy as weights": weights_file(npz()),
    "a pickle as weights": pickled,
    "a pickle beside": pickle_beside,
    "weights that are another file": instead(WEIGHTS, lambda path: path.symlink_to(another_file(path.parent))),
    "a configuration that is another file": instead(CONFIG, lambda path: path.symlink_to(another_file(path.parent))),
    "weights that link to nothing": instead(WEIGHTS, lambda path: path.symlink_to("nothing")),
    "weights that link to themselves": instead(WEIGHTS, lambda path: path.symlink_to(path)),
    "weights without end": instead(WEIGHTS, lambda path: path.symlink_to("/dev/zero")),
    "a configuration without end": instead(CONFIG, lambda path: path.symlink_to("/dev/zero")),
    "weights from a pipe": instead(WEIGHTS, os.mkfifo),
    "a configuration from a pipe": instead(CONFIG, os.mkfifo),
    "weights that are a folder": instead(WEIGHTS, lambda path: path.mkdir()),
    "a nested configuration": config_text('{"a":' * NESTING + "1" + "}" * NESTING),
    "lists in the configuration": config_text("[" * NESTING + "]" * NESTING),
    "a configuration that is no text": instead(CONFIG, lambda path: path.write_bytes(b"\xff\xfe\x00")),
    "alpha that is a list": configured(lora_alpha=[8]),
    "alpha that is true": configured(lora_alpha=True),
    "alpha that is infinite": config_text('{"peft_type":"LORA","r":4,"lora_alpha":1e999}'),
    "alpha that is no number": config_text('{"peft_type":"LORA","r":4,"lora_alpha":NaN}'),
    "alpha too small for a float": configured(lora_alpha=1e-40),
    "alpha of a module as text": configured(alpha_pattern={"q_proj": "8"}),
    "alpha of a module that is no number": configured(alpha_pattern={"q_proj": float("nan")}),
    "alphas as a list": configured(alpha_pattern=["q_proj"]),
    "a pattern that takes years": configured(alpha_pattern={"((([a-z_.0-9]+)+)+)+!": 8}),
    "a pattern of many repeats": configured(alpha_pattern={".*" * 40 + "!": 8}),
    "a pattern that is none": configured(alpha_pattern={"(": 8}),
}

FILES: Mapping[str, Maker] = {
    "cut by a byte": gguf_of(lambda model: right(model)[:-1]),
    "empty": file_of("adapter.gguf", bytes),
    "a mark and no more": file_of("adapter.gguf", lambda: b"GGUF"),
    "version 99": gguf_of(lambda model: gguf_bytes(entries_of(model), *rows_of(model), version=99)),
    "no tensors": gguf_of(lambda model: gguf_bytes(entries_of(model), [])),
    "not a number": with_value(float("nan")),
    "infinity": with_value(float("-inf")),
    "another architecture": gguf_of(lambda model: right(model).replace(text(model.architecture), text("llamb"), 1)),
    "an architecture with newlines": with_entry(entry("general.architecture", TEXT, text("\n\x1b[2J" * 100))),
    "one tensor twice": with_rows(lambda rows: [*rows, rows[0]]),
    "half a pair": with_rows(lambda rows: rows[:1]),
    "a pair of nothing": with_rows(lambda rows: [row(f"{WEIGHT}.lora_{half}", (0, 4), 0) for half in "ab"]),
    "a tensor of 100 GB": with_rows(lambda rows: [row(f"{WEIGHT}.lora_a", (HUGE // 16, 4), 0), rows[1]]),
    "a tensor beyond all numbers": with_rows(lambda rows: [row(f"{WEIGHT}.lora_a", (1 << 63, 1 << 63), 0), rows[1]]),
    "a tensor behind the file": with_rows(lambda rows: [row(f"{WEIGHT}.lora_a", (64, 4), 1 << 63), rows[1]]),
    "a tensor of 9 dimensions": with_rows(lambda rows: [row(f"{WEIGHT}.lora_a", (1,) * 9, 0), rows[1]]),
    "a tensor of whole numbers": with_rows(lambda rows: [row(f"{WEIGHT}.lora_a", (16, 4), 0, 26), rows[1]]),
    "a tensor of an unknown type": with_rows(lambda rows: [row(f"{WEIGHT}.lora_a", (64, 4), 0, 4711), rows[1]]),
    "rows that are no blocks": with_rows(lambda rows: [row(f"{WEIGHT}.lora_a", (33, 4), 0, 8), rows[1]]),
    "a tensor whose name is no text": with_rows(lambda rows: [row(b"\xff\xfe.lora_a", (64, 4), 0), rows[1]]),
    "a path up as a name": with_name("../../../etc/passwd"),
    "an absolute path as a name": with_name("/etc/passwd"),
    "a name with NUL": with_name(f"{WEIGHT}\0"),
    "a name with newlines": with_name(f"{WEIGHT}\n\n\x1b[2J"),
    "a name of a megabyte": with_name("x" * (1 << 20)),
    "2^63 tensors": with_counts(1 << 63, 4),
    "2^63 keys": with_counts(2, 1 << 63),
    "as many tensors as are believed": with_counts(1 << 20, 4),
    "a text of 2^62 bytes": with_entry(text("a") + struct.pack("<IQ", TEXT, 1 << 62)),
    "a list of 2^62 values": with_entry(text("a") + struct.pack("<IIQ", LIST, UINT32, 1 << 62)),
    "a list of 2^62 texts": with_entry(text("a") + struct.pack("<IIQ", LIST, TEXT, 1 << 62)),
    "lists in lists": with_entry(entry("a", LIST, struct.pack("<IQ", LIST, 1) * NESTING)),
    "a value of an unknown type": with_entry(text("a") + struct.pack("<IQ", 4711, 1)),
    "an alignment of nothing": with_entry(entry("general.alignment", UINT32, struct.pack("<I", 0))),
    "alpha that is text": with_alpha(alpha_entry(TEXT, text("8"))),
    "alpha that is true": with_alpha(alpha_entry(BOOL, b"\1")),
    "alpha that is a list": with_alpha(alpha_entry(LIST, struct.pack("<IQf", FLOAT32, 1, 8.0))),
    "alpha that is no number": with_alpha(alpha_entry(FLOAT32, struct.pack("<f", float("nan")))),
    "alpha that is infinite": with_alpha(alpha_entry(FLOAT32, struct.pack("<f", float("inf")))),
    "alpha too large for a float": with_alpha(alpha_entry(FLOAT64, struct.pack("<d", 1e300))),
    "alpha too small for a float": with_alpha(alpha_entry(FLOAT64, struct.pack("<d", 1e-60))),
    "an embedding": with_name("token_embd.weight"),
    "a hole of 100 GB": sparse_gguf,
    "a zip bomb": file_of("adapter.zip", bomb),
    "a zip bomb named gguf": file_of("adapter.gguf", bomb),
    "arrays of numpy": file_of("adapter.npz", npz),
    "a pickle": pickle_alone,
    "another file": file_put(lambda path: path.symlink_to(another_file(path.parent))),
    "a link to nothing": file_put(lambda path: path.symlink_to("nothing")),
    "a link to itself": file_put(lambda path: path.symlink_to(path)),
    "a file without end": file_put(lambda path: path.symlink_to("/dev/zero")),
    "a pipe": file_put(os.mkfifo),
}
