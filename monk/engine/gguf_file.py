"""What a GGUF file says about itself, read in milliseconds and before llama.cpp sees it.

llama.cpp reports a bad file as NULL, or aborts. Here the header is walked with every length checked against the file's
size, so that a missing, truncated or foreign file ends in one clear ModelUnusable. Split models
(`-00001-of-00003.gguf`) are read as one.
"""

from __future__ import annotations

import mmap
import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monk.errors import ModelUnusable

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_ENTRIES = 1 << 20  # more metadata keys or tensors than any model has: the header is garbage
MAX_STRING_BYTES = 64 << 20
MAX_LIST = 1 << 24  # values of one list; the longest are vocabularies
CONTROL, USER_DEFINED = 3, 4  # tokenizer.ggml.token_type
_SPLIT = re.compile(r"^(?P<stem>.*)-(?P<part>\d{5})-of-(?P<parts>\d{5})\.gguf$")

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9

# type id: (elements per block, bytes per block); from the format's own table
BLOCKS: dict[int, tuple[int, int]] = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17),
}  # fmt: skip
REPACKED_TYPES = frozenset({2, 12, 20, 39})  # Q4_0, Q4_K, IQ4_NL, MXFP4: x86 keeps a second, faster copy


@dataclass(frozen=True, slots=True)
class Tensor:
    """One row of the tensor table. `num_bytes` is None for a type newer than this program."""

    name: str
    shape: tuple[int, ...]  # fastest dimension first, as in the file
    type_id: int
    offset: int

    @property
    def num_elements(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def num_bytes(self) -> int | None:
        block = BLOCKS.get(self.type_id)
        return None if block is None else self.num_elements // block[0] * block[1]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class GgufFile:
    """Metadata and tensor table of a model, all parts together. What is reckoned from it can be kept as long as it lives."""

    path: Path
    parts: tuple[Path, ...]
    metadata: dict[str, Any]
    tensors: tuple[Tensor, ...] = field(repr=False)

    # --- shape

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", "unknown"))

    def number(self, key: str, default: int = 0) -> int:
        """`<architecture>.<key>` as an integer; of a list its largest."""
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        return int(max(value, default=default)) if isinstance(value, list) else int(value)

    @property
    def num_layers(self) -> int:
        return self.number("block_count")

    @property
    def num_heads(self) -> int:
        return self.number("attention.head_count")

    @property
    def kv_heads(self) -> tuple[int, ...]:
        """Heads that have K and V, for each layer; 0 for a layer without attention state."""
        value = self.metadata.get(f"{self.architecture}.attention.head_count_kv", self.num_heads)
        per_layer = [int(item) for item in value] if isinstance(value, list) else [int(value)] * self.num_layers
        return tuple(per_layer[: self.num_layers])

    @property
    def head_size(self) -> int:
        return self.number("embedding_length") // max(1, self.num_heads)

    @property
    def key_length(self) -> int:
        return self.number("attention.key_length", self.head_size)

    @property
    def value_length(self) -> int:
        return self.number("attention.value_length", self.head_size)

    @property
    def train_context(self) -> int:
        return self.number("context_length")

    @property
    def embedding_length(self) -> int:
        return self.number("embedding_length")

    @property
    def num_experts(self) -> int:
        return self.number("expert_count")

    # --- sizes

    @property
    def weight_bytes(self) -> int:
        return sum(tensor.num_bytes or 0 for tensor in self.tensors)

    @property
    def repacked_bytes(self) -> int:
        """Weights that llama.cpp may copy into a faster layout on x86."""
        matrices = (item for item in self.tensors if item.type_id in REPACKED_TYPES and len(item.shape) > 1)
        return sum(item.num_bytes or 0 for item in matrices if not item.name.startswith("token_embd"))

    @property
    def num_parameters(self) -> int:
        return sum(tensor.num_elements for tensor in self.tensors)

    # --- words

    @property
    def tokens(self) -> list[str]:
        return list(self.metadata.get("tokenizer.ggml.tokens", []))

    @property
    def vocab_size(self) -> int:
        return len(self.metadata.get("tokenizer.ggml.tokens", []))

    @property
    def chat_template(self) -> str | None:
        template = self.metadata.get("tokenizer.chat_template")
        return template if isinstance(template, str) and template.strip() else None

    def special_token(self, role: str) -> str:
        """Text of the "bos" or "eos" token; empty if the file names none."""
        token = self.metadata.get(f"tokenizer.ggml.{role}_token_id")
        tokens = self.metadata.get("tokenizer.ggml.tokens", [])
        return tokens[token] if isinstance(token, int) and 0 <= token < len(tokens) else ""

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """Texts that stand for one control token, longest first: what a document may never turn into.

        Beside the tokens of type CONTROL also those of type USER_DEFINED that the chat template itself writes.
        """
        kinds = self.metadata.get("tokenizer.ggml.token_type", [])
        template = self.chat_template or ""
        marks = {"<think>", "</think>"}
        found = set()
        for text, kind in zip(self.metadata.get("tokenizer.ggml.tokens", []), kinds, strict=False):
            in_use = kind == USER_DEFINED and len(text) > 2 and text.strip() and (text in marks or text in template)
            if (kind == CONTROL and len(text) > 1) or in_use:
                found.add(text)
        return tuple(sorted(found, key=lambda text: (-len(text), text)))


def read(path: Path) -> GgufFile:
    """The model that starts at `path`. Raises ModelUnusable with the file, what is wrong, and the way out."""
    parts = _parts(path)
    first_metadata: dict[str, Any] = {}
    tensors: list[Tensor] = []
    for index, part in enumerate(parts):
        table = read_table(part)
        tensors += table.tensors
        if index == 0:
            first_metadata = table.metadata
    model = GgufFile(path, parts, first_metadata, tuple(tensors))
    _check_sense(model)
    return model


def _parts(path: Path) -> tuple[Path, ...]:
    match = _SPLIT.match(path.name)
    if match is None:
        return (path,)
    if int(match["part"]) != 1:
        raise ModelUnusable(
            f"{path} is part {int(match['part'])} of a split model; give its first part", file=str(path)
        )
    total = int(match["parts"])
    return tuple(path.with_name(f"{match['stem']}-{part:05d}-of-{total:05d}.gguf") for part in range(1, total + 1))


@dataclass(frozen=True, slots=True)
class Table:
    """One file's header, whatever it holds: a model, a part of one, an adapter."""

    metadata: dict[str, Any]
    tensors: list[Tensor]
    data_start: int  # byte in the file from which tensor offsets count
    entries: dict[str, tuple[int, int]]  # where each key with its value lies in the file: first byte, byte behind


def read_table(path: Path) -> Table:
    """The header of one GGUF file, every length checked against the file's size. Raises ModelUnusable."""
    try:
        status = path.stat()
        size = status.st_size
        if stat.S_ISDIR(status.st_mode):
            raise ModelUnusable(f"{path} is a folder; give the .gguf file in it", file=str(path))
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for without end
            raise ModelUnusable(f"{path} is no file; give a model in GGUF format", file=str(path))
        with path.open("rb") as file:
            if size < 24 or file.read(4) != MAGIC:
                raise ModelUnusable(
                    f"{path} is not a GGUF file ({size} bytes, no GGUF mark); give a model in GGUF format",
                    file=str(path),
                )
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                return _Header(path, view).read()
    except FileNotFoundError as exc:
        raise ModelUnusable(f"{path} does not exist; check the path of the model", file=str(path)) from exc
    except OSError as exc:
        raise ModelUnusable(f"{path} cannot be read: {exc.strerror}", file=str(path)) from exc


class _Header:
    """Walks one file's header; every read is checked against the end of the file."""

    def __init__(self, path: Path, view: mmap.mmap) -> None:
        self._path = path
        self._view = view
        self._size = len(view)
        self._at = 4

    def read(self) -> Table:
        try:
            return self._read()
        except struct.error as exc:
            raise self._truncated("its header is cut off") from exc
        except UnicodeDecodeError as exc:
            raise self._absurd("a key is not text") from exc
        except RecursionError as exc:
            raise self._absurd("lists in lists without end") from exc

    def _read(self) -> Table:
        version = self._scalar("I")
        if version not in VERSIONS:
            raise self._absurd(f"GGUF version {version}, known are 2 and 3")
        num_tensors, num_keys = self._scalar("Q"), self._scalar("Q")
        if num_tensors > MAX_ENTRIES or num_keys > MAX_ENTRIES:
            raise self._absurd(f"{num_tensors} tensors and {num_keys} metadata keys")
        metadata: dict[str, Any] = {}
        entries: dict[str, tuple[int, int]] = {}
        for _ in range(num_keys):
            first = self._at
            key, value = self._pair()
            metadata[key], entries[key] = value, (first, self._at)
        tensors = [self._tensor() for _ in range(num_tensors)]
        return Table(metadata, tensors, self._check_extent(metadata, tensors), entries)

    def _pair(self) -> tuple[str, Any]:
        key = self._string()
        return key, self._value(self._scalar("I"))

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string(errors="replace")
        if kind == _ARRAY:
            return self._array()
        if kind not in _SCALARS:
            raise self._absurd(f"metadata of unknown type {kind}")
        return self._scalar(_SCALARS[kind])

    def _array(self) -> list[Any]:
        kind, count = self._scalar("I"), self._scalar("Q")
        if count > min(self._size, MAX_LIST):
            raise self._absurd(f"a list of {count} values")
        if kind in _SCALARS:
            layout = struct.Struct(f"<{count}{_SCALARS[kind]}")
            values = list(layout.unpack_from(self._view, self._at))
            self._at += layout.size
            return values
        return [self._value(kind) for _ in range(count)]

    def _tensor(self) -> Tensor:
        name = self._string()
        num_dimensions = self._scalar("I")
        if num_dimensions > 8:
            raise self._absurd(f"tensor {name} has {num_dimensions} dimensions")
        shape = tuple(self._scalar("Q") for _ in range(num_dimensions))
        return Tensor(name, shape, self._scalar("I"), self._scalar("Q"))

    def _scalar(self, code: str) -> Any:
        layout = struct.Struct("<" + code)
        (value,) = layout.unpack_from(self._view, self._at)
        self._at += layout.size
        return value

    def _string(self, errors: str = "strict") -> str:
        length = self._scalar("Q")
        if length > MAX_STRING_BYTES:
            raise self._absurd(f"a text of {length} bytes")
        end = self._at + length
        if end > self._size:
            raise self._truncated("its header is cut off")
        text = self._view[self._at : end].decode("utf-8", errors)
        self._at = end
        return text

    def _check_extent(self, metadata: dict[str, Any], tensors: list[Tensor]) -> int:
        """Where the data begins."""
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment <= 0:
            raise self._absurd(f"alignment {alignment}")
        start = -(-self._at // alignment) * alignment
        ends = [start + item.offset + (item.num_bytes or 0) for item in tensors]
        needed = max(ends, default=self._at)
        if needed > self._size:
            raise self._truncated(f"its tensors end at byte {needed}", needed)
        return start

    def _truncated(self, what: str, needed: int | None = None) -> ModelUnusable:
        text = f"{self._path} is truncated: {what}, the file has {self._size} bytes; download it again"
        return ModelUnusable(text, file=str(self._path), size_bytes=self._size, needed_bytes=needed or 0)

    def _absurd(self, what: str) -> ModelUnusable:
        return ModelUnusable(f"{self._path} has a damaged header ({what}); download it again", file=str(self._path))


def _check_sense(model: GgufFile) -> None:
    """Refuse what llama.cpp could only assert on: not a language model, or numbers no model has."""
    if "general.architecture" not in model.metadata:
        raise ModelUnusable(f"{model.path} names no architecture; give a language model", file=str(model.path))
    for name, value in _vital_numbers(model):
        if not 0 < value < 1 << 24:
            raise ModelUnusable(
                f"{model.path} is no language model this program can plan: {name} is {value}; give another model",
                file=str(model.path),
            )
    if not model.vocab_size:
        raise ModelUnusable(f"{model.path} carries no tokenizer; give a model with one", file=str(model.path))


def _vital_numbers(model: GgufFile) -> Iterator[tuple[str, int]]:
    yield "block_count", model.num_layers
    yield "context_length", model.train_context
    yield "embedding_length", model.embedding_length
    yield "number of tensors", len(model.tensors)
