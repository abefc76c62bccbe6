"""What stands in memory beside the engine's own plan: the daemon with its models for the library, and adapters."""

from __future__ import annotations

from collections.abc import Sequence as Row
from dataclasses import dataclass
from pathlib import Path

from monk.engine.gguf_file import read_table
from monk.errors import InvalidInput, ModelUnusable, NotFound

# resident memory of a daemon whose library is open, without the weights of its models: interpreter, torch, Chroma (measured)
DAEMON_BYTES = 560 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """One thing beside the engine: a name, its bytes, and where they are from."""

    name: str
    num_bytes: int
    formula: str


def parts(adapters: Row[Path], embedding_model: str | None, reranker: str | None) -> tuple[Part, ...]:
    """`embedding_model`: None for the embedded one; `reranker`: None for none. Raises NotFound, InvalidInput, ModelUnusable."""
    found = [_adapter(path) for path in adapters]
    found.append(Part("daemon", DAEMON_BYTES, "interpreter, torch and the index of the library, as measured"))
    found.append(_library_model("embedding model", embedding_model))
    if reranker is not None:
        found.append(_library_model("reranker", reranker))
    return tuple(found)


def _adapter(path: Path) -> Part:
    """As the engine keeps it: its factors as they are in the file; KV and weights stay as without it."""
    path = path.expanduser()
    folder_file = path / "adapter_model.safetensors"
    name = f"adapter {path.stem}"
    if folder_file.is_file():
        return Part(name, folder_file.stat().st_size, "the factors, as they lie in the PEFT folder")
    if not path.exists():
        raise NotFound(f"there is no adapter {str(path)[:200]}; give a GGUF file or a PEFT folder", param="adapter")
    if path.is_dir():
        raise InvalidInput(f"{path} holds no adapter_model.safetensors; give a PEFT folder", param="adapter")
    tensors = read_table(path).tensors
    if not any(tensor.name.endswith((".lora_a", ".lora_b")) for tensor in tensors):
        raise InvalidInput(f"{path} is no adapter: it has no factors lora_a and lora_b", param="adapter")
    return Part(name, sum(tensor.num_bytes or 0 for tensor in tensors), "the factors of all its matrices")


def _library_model(name: str, model: str | None) -> Part:
    from corpus.embedding import weight_bytes

    family = "sentence-transformers" if name == "embedding model" else "cross-encoder"
    try:
        size = weight_bytes(model, name.replace(" ", "_"), family)
    except ModelUnusable as error:
        return Part(name, 0, f"not counted: {error.message}")
    return Part(name, size, "its weights, loaded at the first text")
