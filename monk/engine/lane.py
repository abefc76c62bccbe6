"""One llama.cpp context over a loaded model, as numpy arrays and plain values; with `llama.py` all that llama_cpp does.

Owned by the thread of the engine loop. What would abort the process (llama.cpp asserts on most misuse) is checked here
first.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence as Row
from typing import Any

import llama_cpp.llama_cpp as C
import numpy as np
import numpy.typing as npt

from monk.engine.client import AS_ITS_FILE_SAYS, ModelUse
from monk.engine.config import EngineConfig
from monk.engine.frames import MARGIN_BYTES, Image, empty_buffer
from monk.engine.lane_plan import LanePlan
from monk.engine.memory import Plan
from monk.engine.native import Logits, Phase, Run

GGML_TYPES = {"f32": 0, "f16": 1, "q8_0": 8, "bf16": 30}
FLASH_ATTENTION = {"off": C.LLAMA_FLASH_ATTN_TYPE_DISABLED, "on": C.LLAMA_FLASH_ATTN_TYPE_ENABLED}
WHOLE_STATE = 0


class Batch:
    """Rows for one llama_decode, as arrays the C struct points into: filling costs nothing per token."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._tokens = np.zeros(capacity, np.int32)
        self._positions = np.zeros(capacity, np.int32)
        self._slots = np.zeros(capacity, np.int32)
        self._wants_logits = np.zeros(capacity, np.int8)
        self._one = np.ones(capacity, np.int32)
        self._slot_rows = (self._slots.ctypes.data + 4 * np.arange(capacity + 1)).astype(np.uint64)
        self._slot_rows[capacity] = 0
        self.struct = C.llama_batch(
            n_tokens=0,
            token=_pointer(self._tokens, ctypes.c_int32),
            embd=None,
            pos=_pointer(self._positions, ctypes.c_int32),
            n_seq_id=_pointer(self._one, ctypes.c_int32),
            seq_id=ctypes.cast(self._slot_rows.ctypes.data, ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
            logits=_pointer(self._wants_logits, ctypes.c_int8),
        )

    def fill(self, runs: Row[Run]) -> None:
        first = 0
        for run in runs:
            last = first + len(run.tokens)
            self._tokens[first:last] = run.tokens
            self._positions[first:last] = np.arange(run.start, run.start + last - first, dtype=np.int32)
            self._slots[first:last] = run.slot
            self._wants_logits[first : last - run.outputs] = 0
            self._wants_logits[last - run.outputs : last] = 1
            first = last
        self.struct.n_tokens = first


def _pointer(array: npt.NDArray[Any], kind: type[Any]) -> Any:  # Any: a ctypes pointer of a type made at run time
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))


class LlamaLane:
    """A `Lane`. `context` is an open llama_context, freed by `close`."""

    def __init__(self, context: Any, shape: LanePlan, config: EngineConfig, plan: Plan, vocab_size: int) -> None:
        self._context = context
        self._memory = C.llama_get_memory(context)
        self._vocab_size = vocab_size
        self._threads = {"prefill": plan.threads_batch, "decode": plan.threads}
        self._threads_single = config.threads_single or plan.threads
        self._num_streams = 1 if shape.unified else shape.sequences
        self.most_outputs = shape.outputs
        self._batch = Batch(shape.batch)
        self._phase: Phase = "prefill"
        self.num_sequences = shape.sequences
        self.num_cells = int(C.llama_n_ctx(context) if shape.unified else C.llama_n_ctx_seq(context))
        self.most_tokens = shape.batch

    # --- decoding

    def decode(self, runs: Row[Run], phase: Phase) -> int:
        self._fill(self._batch, runs)
        return self.compute(self._batch, phase)

    def prepared(self, runs: Row[Run]) -> Batch:
        """For `compute`, later: where time is measured, as little as possible should stand beside llama.cpp's own."""
        batch = Batch(sum(len(run.tokens) for run in runs))
        self._fill(batch, runs)
        return batch

    def compute(self, batch: Batch, phase: Phase) -> int:
        """What llama_decode says."""
        self._set_threads(phase)
        return int(C.llama_decode(self._context, batch.struct))

    def _fill(self, batch: Batch, runs: Row[Run]) -> None:
        count = sum(len(run.tokens) for run in runs)
        assert 0 < count <= self._batch.capacity, "more tokens than the batch holds would abort the process"
        assert sum(run.outputs for run in runs) <= self.most_outputs, "so would more outputs than are reserved"
        assert all(0 <= run.slot < self.num_sequences and run.outputs <= len(run.tokens) for run in runs)
        batch.fill(runs)

    def _set_threads(self, phase: Phase) -> None:
        """llama.cpp has one number for calls of a single row and one for all others, whatever they are for."""
        if phase != self._phase:
            self._phase = phase
            C.llama_set_n_threads(self._context, self._threads_single, self._threads[phase])

    def use_threads(self, threads: int) -> None:
        """For all calls of this lane, whatever the plan says."""
        self._threads = {"prefill": threads, "decode": threads}
        self._threads_single = threads
        C.llama_set_n_threads(self._context, threads, threads)

    def logits(self, rows: int) -> Logits:
        return np.ctypeslib.as_array(C.llama_get_logits(self._context), (rows, self._vocab_size))

    # --- KV

    def num_computed(self, slot: int) -> int:
        return int(C.llama_memory_seq_pos_max(self._memory, slot)) + 1

    def trim(self, slot: int, length: int) -> bool:
        return bool(C.llama_memory_seq_rm(self._memory, slot, length, -1))

    def clear(self, slot: int) -> None:
        C.llama_memory_seq_rm(self._memory, slot, -1, -1)

    def copy(self, source: int, target: int, start: int = -1, end: int = -1) -> None:
        assert self._num_streams == 1 or start == end == -1, "a part between streams would abort the process"
        C.llama_memory_seq_cp(self._memory, source, target, start, end)

    def save(self, slot: int) -> Image:
        size = int(C.llama_state_seq_get_size_ext(self._context, slot, WHOLE_STATE))
        buffer = empty_buffer(size)
        place = _pointer(buffer[MARGIN_BYTES:], ctypes.c_uint8)
        written = int(C.llama_state_seq_get_data_ext(self._context, place, size, slot, WHOLE_STATE))
        return Image.read(buffer, MARGIN_BYTES, MARGIN_BYTES + written)

    def restore(self, slot: int, image: Image) -> bool:
        blob = image.framed(self._num_streams)
        place = _pointer(blob, ctypes.c_uint8)
        read = int(C.llama_state_seq_set_data_ext(self._context, place, len(blob), slot, WHOLE_STATE))
        if read != len(blob):
            self.clear(slot)
        return read == len(blob)

    def wear(self, handles: Row[Any], scales: Row[float]) -> int:
        """Replace the adapters, by their llama_adapter_lora; nonzero when llama.cpp refuses."""
        if not handles:
            return int(C.llama_set_adapters_lora(self._context, None, 0, None))
        array = (C.llama_adapter_lora_p_ctypes * len(handles))(*handles)
        return int(
            C.llama_set_adapters_lora(self._context, array, len(handles), (ctypes.c_float * len(scales))(*scales))
        )

    def close(self) -> None:
        if self._context:
            C.llama_free(self._context)
            self._context = None


def open_context(
    model: Any, config: EngineConfig, plan: Plan, shape: LanePlan, abort_flag: Any, use: ModelUse = AS_ITS_FILE_SAYS
) -> Any:
    """A llama_context, or NULL: the log tells why. `abort_flag`: two bytes; a first one other than 0 ends a decode."""
    params = C.llama_context_default_params()
    params.n_ctx = shape.cells
    params.n_batch = params.n_ubatch = shape.batch
    params.n_seq_max = shape.sequences
    params.n_outputs_max = shape.outputs
    params.n_threads = config.threads_single or plan.threads
    params.n_threads_batch = plan.threads_batch
    params.flash_attn_type = FLASH_ATTENTION["on" if plan.flash_attention else "off"]
    params.type_k = GGML_TYPES[config.kv_type_k]
    params.type_v = GGML_TYPES[config.kv_type_v]
    params.kv_unified = shape.unified
    params.swa_full = plan.swa_full
    params.no_perf = True
    _set_rope(params, use)
    # strlen of a two-byte buffer as the callback: it is asked after every graph node, and Python would be far too slow
    strlen = ctypes.cast(ctypes.CDLL(None).strlen, ctypes.c_void_p)
    params.abort_callback = ctypes.cast(strlen, C.ggml_abort_callback)
    params.abort_callback_data = ctypes.cast(abort_flag, ctypes.c_void_p)
    return C.llama_init_from_model(model, params)


def _set_rope(params: Any, use: ModelUse) -> None:
    """Positions, where they are set otherwise than in the file; 0 is how llama.cpp says "as in the file"."""
    params.rope_freq_base = use.rope_freq_base or 0.0
    params.rope_freq_scale = use.rope_freq_scale or 0.0
    if use.yarn_factor is not None:
        params.rope_scaling_type = C.LLAMA_ROPE_SCALING_TYPE_YARN
        params.rope_freq_scale = 1.0 / use.yarn_factor
        params.yarn_orig_ctx = use.yarn_original_context or 0
    elif use.rope_freq_scale is not None:
        params.rope_scaling_type = C.LLAMA_ROPE_SCALING_TYPE_LINEAR
