"""A second, slower look at the best passages: a cross-encoder reads question and passage together and says how well they fit.

Optional; unset, the order of `corpus/fusion.py` stands. Beside `corpus/embedding.py` the only import of sentence-transformers,
and never over the network either.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from corpus.embedding import first_line, load_errors, local_folder, offline
from monk.errors import ModelUnusable

_BATCH = 16  # question and passage together have up to 512 tokens


class Reranker(Protocol):
    """What a search needs of it. Threads may share it."""

    def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers, larger is better, 0..1; the same for the same texts. Raises ModelUnusable."""


class CrossEncoderModel:
    """A sentence-transformers CrossEncoder on the CPU with one output. Its files are looked for by the constructor; it is loaded
    at the first question."""

    def __init__(self, model: str, *, threads: int) -> None:
        """`model`: folder, or name of one that is on this machine. Raises ModelUnusable when it is missing or is no reranker."""
        self.name = model
        self._folder = local_folder(model, "reranker", "cross-encoder")
        self._threads = threads
        self._lock = threading.Lock()
        _check_head(self._folder)

    def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """See Reranker."""
        if not texts:
            return []
        with self._lock:
            try:
                found = self._model.predict(
                    [(question, text) for text in texts],
                    batch_size=_BATCH,
                    show_progress_bar=False,
                    activation_fn=self._sigmoid,
                )
            except (RuntimeError, ValueError, IndexError) as exc:
                raise self._unusable(f"fails on a question ({type(exc).__name__}: {first_line(exc)})") from exc
        values = [float(value) for value in found]
        if not all(math.isfinite(value) for value in values):
            raise self._unusable("answers with no numbers (NaN); its weights are damaged")
        return values

    @cached_property
    def _sigmoid(self) -> Any:
        import torch

        return torch.nn.Sigmoid()

    @cached_property
    def _model(self) -> Any:
        offline()
        import torch
        from sentence_transformers import CrossEncoder

        torch.set_num_threads(self._threads)
        try:
            model = CrossEncoder(str(self._folder), device="cpu", local_files_only=True)
        except load_errors() as exc:
            raise self._unusable(f"cannot be loaded ({type(exc).__name__}: {first_line(exc)})") from exc
        if model.num_labels != 1:
            raise self._unusable(f"has {model.num_labels} outputs, a reranker has one")
        return model.eval()

    def _unusable(self, reason: str) -> ModelUnusable:
        return ModelUnusable(
            f"reranker {self.name} {reason}; give a sentence-transformers CrossEncoder, or unset MONK_RERANKER",
            param="reranker",
        )


def _check_head(folder: Path) -> None:
    """Refuse a model that was not trained to score pairs: the library would give it a head of random numbers without a word."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kinds = [str(kind) for kind in config["architectures"]]
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ModelUnusable(
            f"{folder} holds no config.json of a model; give a sentence-transformers CrossEncoder, or unset MONK_RERANKER",
            param="reranker",
        ) from exc
    if not any(kind.endswith("ForSequenceClassification") for kind in kinds):
        raise ModelUnusable(
            f"{folder} is a {', '.join(kinds) or 'model of no kind'}, no reranker; give a sentence-transformers CrossEncoder, "
            "or unset MONK_RERANKER",
            param="reranker",
        )
