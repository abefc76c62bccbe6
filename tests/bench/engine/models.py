"""The models that are measured: the embedded one in other weight formats, and tiny ones of other architectures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from monk.engine import embedded
from monk.engine.machine import physical_cores
from tests.bench.engine.peers import CACHE, REPOSITORY, PeerFailed

FORMATS = ("f16", "q8_0")
TINY = ("qwen3", "qwen3moe", "gemma3", "gpt-oss", "qwen35")
TINY_CONTROL_TOKENS = (257, 258)  # of their byte tokenizer


def embedded_as(weights: str, folder: Path = CACHE) -> Path:
    """SmolLM2-135M in that format, made once from the file that is installed.

    It is installed as Q4_1, so the F16 file has no better weights, only wider ones: right for time, not for wit.
    """
    path = folder / "models" / f"{embedded.NAME}.{embedded.SHA256[:8]}.{weights}.gguf"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        command = [sys.executable, "-m", "tests.bench.engine.models", str(embedded.model_path()), str(part), weights]
        done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
        if done.returncode:
            raise PeerFailed(f"{path.name} could not be made: {done.stderr.strip()[-300:]}")
        os.replace(part, path)
    return path


def tiny(architecture: str, folder: Path = CACHE) -> Path:
    """A model with random weights, with KV enough for memory to be about something."""
    from tests.engine_models import write_tiny_model

    path = folder / "models" / f"tiny-{architecture}.gguf"
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_tiny_model(
        path,
        architecture,
        layers=8 if architecture == "qwen35" else 6,
        width=512,
        heads=8,
        kv_heads=4,
        head_size=64,
        experts=8 if architecture in ("qwen3moe", "gpt-oss") else 0,
        window=512 if architecture in ("gemma3", "gpt-oss") else 0,
        context=8192,
    )


if __name__ == "__main__":
    from monk.engine.llama import WEIGHTS, requantise

    names = {name.lower(): name for name in WEIGHTS}
    requantise(Path(sys.argv[1]), Path(sys.argv[2]), names[sys.argv[3]], physical_cores())
