"""A LoRA in memory, in llama.cpp's terms, and whether it fits a model. Knows neither PEFT nor files.

For a base weight W [out, in] the adapter adds `scale * alpha / rank * B @ A`, A [rank, in], B [out, rank] (Hu et al. 2021,
arXiv:2106.09685). Weights of experts carry one more dimension in front, the expert.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from monk.engine.gguf_file import GgufFile
from monk.engine.machine import measured_available_bytes
from monk.errors import AdapterUnusable

Matrix = npt.NDArray[np.float32]
MAX_RANK = 4096
MAX_BYTES = 32 << 30  # of all factors
LEAST_ALPHA, MAX_ALPHA = 1e-6, 1e6  # beyond them an f32 ends, or sense
EMBEDDING = "token_embd.weight"
MAX_NAME = 300  # characters of what an adapter says of itself


@dataclass(frozen=True, slots=True)
class Pair:
    """The two factors for one weight: a [..., rank, in], b [..., out, rank]."""

    a: Matrix
    b: Matrix

    @property
    def rank(self) -> int:
        return int(self.a.shape[-2])


@dataclass(frozen=True, slots=True)
class Lora:
    """All factors by the name of the weight they change, such as blk.0.attn_q.weight."""

    architecture: str
    alpha: float
    pairs: Mapping[str, Pair] = field(repr=False)
    source: str = ""  # what the adapter calls itself
    base_model: str = ""  # what it says it was trained on; a hint, not a proof

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks that occur, rising."""
        return tuple(sorted({pair.rank for pair in self.pairs.values()}))

    @property
    def num_bytes(self) -> int:
        return sum(pair.a.nbytes + pair.b.nbytes for pair in self.pairs.values())

    def scale_of(self, pair: Pair) -> float:
        """What B @ A is multiplied by, worn at 1. As in llama.cpp, an alpha of 0 stands for none."""
        return self.alpha / pair.rank if self.alpha else 1.0


def check(lora: Lora, model: GgufFile) -> None:
    """Raises AdapterUnusable, naming both sides, unless every factor fits its weight and holds numbers."""
    if lora.architecture != model.architecture:
        raise AdapterUnusable(
            f"the adapter is for architecture {lora.architecture}, the model {model.path.name} is {model.architecture}; "
            "use an adapter that was trained on this model",
            adapter=lora.architecture,
            model=model.architecture,
        )
    if not lora.pairs:
        raise AdapterUnusable("the adapter changes nothing: it holds no pair of lora_A and lora_B")
    if lora.alpha and not LEAST_ALPHA <= abs(lora.alpha) <= MAX_ALPHA:  # also true for NaN
        raise AdapterUnusable(f"the adapter's alpha is {lora.alpha}; it must be a number up to {MAX_ALPHA:g}")
    weights = {tensor.name: tensor.shape[::-1] for tensor in model.tensors}
    for name, pair in lora.pairs.items():
        _check_pair(name, pair, weights.get(name), model.path.name)


def check_size(path: Path, num_bytes: int, memory_bytes: int) -> None:
    """Raises AdapterUnusable when a file holds more than any adapter, or reading it takes more memory than there is."""
    if num_bytes > MAX_BYTES:
        raise AdapterUnusable(f"{path} holds {num_bytes} bytes, more than any adapter; it is not read")
    free = measured_available_bytes()
    if memory_bytes > free:
        raise AdapterUnusable(
            f"{path} needs {memory_bytes / (1 << 30):.1f} GiB of memory to be read, {free / (1 << 30):.1f} are free"
        )


def printable(told: object) -> str:
    """What an adapter says of itself, on one line and not without end."""
    return "".join(sign if sign.isprintable() else "?" for sign in str(told)[:MAX_NAME])


def _check_pair(name: str, pair: Pair, weight: tuple[int, ...] | None, model: str) -> None:
    if weight is None:
        raise AdapterUnusable(
            f"the adapter changes {name[:200]!r}, which the model {model} does not have", tensor=name[:200]
        )
    if name == EMBEDDING:
        raise AdapterUnusable(
            f"the adapter changes the embeddings ({name}), which is not supported; merge it with PEFT", tensor=name
        )
    if pair.a.ndim < 2 or pair.a.ndim != pair.b.ndim or pair.a.shape[-2] != pair.b.shape[-1]:
        raise AdapterUnusable(
            f"the factors of {name} do not fit each other: A is {pair.a.shape}, B is {pair.b.shape}", tensor=name
        )
    if not 1 <= pair.rank <= MAX_RANK:
        raise AdapterUnusable(f"the rank of {name} is {pair.rank}; it must be from 1 to {MAX_RANK}", tensor=name)
    changed = (*pair.b.shape[:-1], pair.a.shape[-1])
    if changed != weight or pair.a.shape[:-2] != pair.b.shape[:-2]:
        raise AdapterUnusable(
            f"the adapter changes {name} as {_spelled(changed)}, in the model {model} it is {_spelled(weight)}; "
            "it was trained on another model",
            tensor=name,
        )
    if not (np.isfinite(pair.a).all() and np.isfinite(pair.b).all()):
        raise AdapterUnusable(f"the factors of {name} hold values that are not numbers; train it again", tensor=name)


def _spelled(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape)
