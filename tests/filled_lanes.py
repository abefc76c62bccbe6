"""How much memory a model really takes: a fresh process opens all lanes of its plan, fills their KV and computes behind it.

`python -m tests.filled_lanes CONFIG.json` prints a line of JSON: what was planned, and the most that was resident. The KV is
put in as state, not computed, since computing 131,072 tokens takes hours and allocates nothing more; then a full chunk is
computed behind all of it, so that every buffer is used to its end. Where state cannot be put in (sliding windows), the
tokens are computed.
"""

from __future__ import annotations

import ctypes
import gc
import json
import struct
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from monk.engine import gguf_file, memory
from monk.engine.client import AS_ITS_FILE_SAYS
from monk.engine.config import EngineConfig
from monk.engine.frames import Image
from monk.engine.gguf_file import GgufFile
from monk.engine.lane_plan import KV_BYTES
from monk.engine.memory import Plan

MAGIC, PATTERN = 0xAF143CD8, 0x2E  # f16 0x2e2e is 0.096, and so is a scale of q8_0
TYPES = {"f32": 0, "f16": 1, "q8_0": 8, "bf16": 30}
REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Weighing:
    """Bytes. Of what the plan counts, `moving` (KV on its way between lanes and to the disk) is not made here."""

    planned: int
    resident: int
    plan: dict[str, Any]

    @property
    def error(self) -> float:
        """Of the plan, as a share of what was resident; above 0 it promised too much."""
        return self.planned / self.resident - 1.0


def weigh(config: EngineConfig, timeout: float = 1800.0) -> Weighing:
    """In a process of its own. Raises RuntimeError with its last words."""
    command = [sys.executable, "-m", "tests.filled_lanes", json.dumps(config.to_json())]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=timeout, check=False)
    if done.returncode:
        raise RuntimeError(
            f"the process that was to be weighed ended with {done.returncode}: {done.stderr.strip()[-500:]}"
        )
    return Weighing(**json.loads(done.stdout.splitlines()[-1]))


def main(argument: str) -> None:
    from monk.engine import child
    from monk.engine.archive import open_archive  # noqa: F401  # what the engine's process has in memory beside the model
    from monk.engine.llama import LlamaModel
    from monk.engine.model_use import OwnSettings, settled
    from monk.engine.runner import Runner  # noqa: F401

    child.os.environ.update(child.NATIVE_ENVIRONMENT)
    config = EngineConfig.from_json(json.loads(argument))
    file = gguf_file.read(config.model_path)
    plan = memory.fit(file, config)
    house = settled(config.model_use, AS_ITS_FILE_SAYS, OwnSettings.of(file))
    model = LlamaModel(config, plan, lambda: None, file, house)
    lanes = {kind: model.streams if kind == "stream" else model.open_lane(kind) for kind in plan.lanes}  # type: ignore[arg-type]
    peak = resident_peak()
    for lane in lanes.values():
        _fill(lane, file, config, plan, can_restore=model.can_trim)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # of small images the C library keeps the memory for later
    Path("/proc/self/clear_refs").write_text("5")  # the images that KV was put in with are gone: measure from here on
    for lane in lanes.values():
        _compute(lane)
    peak = max(peak, resident_peak())
    of_lanes = sum(lane.total_bytes for kind, lane in plan.lanes.items() if kind != "stream")
    planned = plan.total_bytes - (plan.lane_bytes - of_lanes)
    # the mapped originals of repacked weights are the kernel's to take back: the plan counts the copy alone
    originals = plan.repack_bytes if config.mmap else 0
    weighing = Weighing(planned, peak - originals, plan.facts())
    sys.stdout.write(json.dumps(asdict(weighing)) + "\n")


def resident_peak() -> int:
    """The kernel's own high-water mark of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel tells no VmHWM")


def _fill(lane: Any, file: GgufFile, config: EngineConfig, plan: Plan, *, can_restore: bool) -> None:
    """Every sequence that holds tokens of its own, up to a chunk before its end."""
    unified = lane._num_streams == 1
    slots = range(1) if unified else range(lane.num_sequences)
    tokens = max(0, lane.num_cells - lane.most_tokens - lane.num_sequences)
    for slot in slots if tokens else ():
        if can_restore:
            image = synthetic_image(file, config, tokens, transposed=not plan.flash_attention)
            if not lane.restore(slot, image):
                raise RuntimeError(f"llama.cpp takes no such state of {tokens} tokens")
            assert lane.num_computed(slot) == tokens
            del image
        else:
            for start in range(0, tokens, lane.most_tokens):
                _run(lane, slot, start, min(lane.most_tokens, tokens - start), 1)


def _compute(lane: Any) -> None:
    """A chunk of full width at the end of the last sequence, as many of its rows with logits as the lane may want."""
    slot = 0 if lane._num_streams == 1 else lane.num_sequences - 1
    start = lane.num_computed(slot)
    rows = min(lane.most_tokens, lane.num_cells - start) - 1
    _run(lane, slot, start, rows, min(rows, lane.most_outputs))


def _run(lane: Any, slot: int, start: int, count: int, outputs: int) -> None:
    from monk.engine.native import DONE, Run

    tokens = (np.arange(start, start + count) % 200 + 3).astype(np.int32)
    code = lane.decode([Run(slot, start, tokens, outputs)], "prefill")
    if code != DONE:
        raise RuntimeError(f"llama_decode says {code} for {count} tokens behind {start}")
    lane.logits(outputs)


def synthetic_image(file: GgufFile, config: EngineConfig, tokens: int, *, transposed: bool) -> Image:
    """The state of one sequence as llama.cpp writes it (see `monk/engine/frames.py`), with the same value everywhere."""
    sizes = [_layer_bytes(file, config, heads, tokens, transposed) for heads in file.kv_heads]
    cells = np.zeros(tokens, np.dtype([("pos", "<i4"), ("count", "<u4"), ("seq", "<i4")]))
    cells["pos"], cells["count"] = np.arange(tokens), 1
    head = struct.pack("<IiII", MAGIC, 0, 1, tokens)
    layout = struct.pack("<II", int(transposed), len(sizes))
    total = len(head) + cells.nbytes + len(layout) + sum(len(h) + n for layer in sizes for h, n in layer)
    buffer: npt.NDArray[np.uint8] = np.empty(total, np.uint8)
    place = 0

    def put(data: bytes | memoryview) -> None:
        nonlocal place
        buffer[place : place + len(data)] = np.frombuffer(data, np.uint8)
        place += len(data)

    put(head)
    put(cells.tobytes())
    put(layout)
    for kind in (0, 1):  # all keys, then all values
        for layer in sizes:
            put(layer[kind][0])
            buffer[place : place + layer[kind][1]] = PATTERN
            place += layer[kind][1]
    assert place == total
    return Image.of(buffer)


def _layer_bytes(
    file: GgufFile, config: EngineConfig, heads: int, tokens: int, transposed: bool
) -> tuple[tuple[bytes, int], tuple[bytes, int]]:
    """(head, bytes behind it) of a layer's keys, and of its values."""

    def row(length: int, kind: str) -> int:
        size, elements = KV_BYTES[kind]
        return heads * length * size // elements

    k, v = row(file.key_length, config.kv_type_k), row(file.value_length, config.kv_type_v)
    keys = struct.pack("<iQ", TYPES[config.kv_type_k], k), k * tokens
    if file.number("attention.value_length_mla"):  # values are a part of the keys
        return keys, (b"", 0)
    if not transposed:
        return keys, (struct.pack("<iQ", TYPES[config.kv_type_v], v), v * tokens)
    width = heads * file.value_length
    return keys, (struct.pack("<iII", TYPES[config.kv_type_v], KV_BYTES[config.kv_type_v][0], width), v * tokens)


if __name__ == "__main__":
    main(sys.argv[1])
