"""One loaded model, its words and grammars; with `lane.py` all that imports llama_cpp.

Every handle here has one owner, the thread that runs the engine loop; `tokenize`, `piece` and `request_abort` may be
called from others. What would abort the process (llama.cpp asserts on most misuse) is checked here first.
"""

from __future__ import annotations

import ctypes
import json
import logging
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import llama_cpp.llama_cpp as C
import numpy as np
import numpy.typing as npt

from monk.engine.client import AS_ITS_FILE_SAYS, AdapterUse, ModelUse, ThoughtRequest
from monk.engine.config import EngineConfig
from monk.engine.gguf_file import GgufFile
from monk.engine.grammar import check_grammar
from monk.engine.lane import LlamaLane, open_context
from monk.engine.machine import held_bytes, measured_available_bytes
from monk.engine.memory import Layout, Plan, fit_again
from monk.engine.model_use import said
from monk.engine.native import LaneKind
from monk.engine.pages import LOCK_REMEDY, Locker
from monk.engine.wardrobe import Wardrobe
from monk.errors import InvalidInput, MemoryTooSmall, ModelUnusable, MonkError

log = logging.getLogger(__name__)

NUMA = {"distribute": 1, "numactl": 3}  # GGML_NUMA_STRATEGY_*
Weights = Literal["F16", "Q8_0", "Q4_0"]
WEIGHTS: dict[Weights, int] = {
    "F16": C.LLAMA_FTYPE_MOSTLY_F16,
    "Q8_0": C.LLAMA_FTYPE_MOSTLY_Q8_0,
    "Q4_0": C.LLAMA_FTYPE_MOSTLY_Q4_0,
}
# control tokens whose text belongs to the answer: reasoning models mark their thinking with them
VISIBLE_CONTROL = frozenset({"<think>", "</think>", "[THINK]", "[/THINK]", "<|channel|>", "<|message|>"})

_last_lines: deque[str] = deque(maxlen=20)


@C.llama_log_callback  # type: ignore[untyped-decorator]
def _on_log(level: int, text: bytes, _data: object) -> None:
    """Keeps the reason at hand: llama.cpp reports failures as NULL and says why only here."""
    line = text.decode("utf-8", "replace").rstrip()
    if line and line != ".":
        _last_lines.append(line)


def last_log_lines() -> str:
    """What llama.cpp said last about something that failed, in one line."""
    telling = [line for line in _last_lines if "error" in line.lower() or "fail" in line.lower()]
    return "; ".join((telling or list(_last_lines))[-3:])


class LlamaModel:
    """A model in memory. Raises ModelUnusable when llama.cpp refuses the file or the context."""

    def __init__(
        self,
        config: EngineConfig,
        plan: Plan,
        on_progress: Callable[[], None],
        file: GgufFile | None = None,
        house: ModelUse = AS_ITS_FILE_SAYS,
    ) -> None:
        """`file`: its header, without which only rope settings can be changed. `house`: what the model runs with by `config`,
        checked."""
        C.llama_log_set(_on_log, ctypes.c_void_p(0))
        if config.binding is not None and config.binding.native != "off":
            C.llama_numa_init(NUMA[config.binding.native])
        C.llama_backend_init()
        self._config, self._plan, self._file, self._house = config, plan, file, house
        self._as_in_house = config, plan
        self._on_progress = on_progress
        self._closed = False
        self._lanes: list[LlamaLane] = []
        self._abort_flag = ctypes.create_string_buffer(2)
        self._pieces: dict[int, bytes] = {}
        self._model: Any = None
        self._words: Any = None
        self._use: ModelUse | None = None  # None: no context is open
        self._experts: int | None = None  # the loaded weights are used with
        self._run_with(house)
        # whoever asks for words, and every grammar, holds the vocabulary: where the model may go, it must not be the model's
        self._words = self._load_words() if file is not None and file.num_experts else None
        self._vocab = C.llama_model_get_vocab(self._words or self._model)
        self.adds_bos = bool(C.llama_vocab_get_add_bos(self._vocab))
        self.context = min(plan.context, self.streams.num_cells)
        self.can_trim = not self._cannot_trim(plan)

    # --- loading

    def _run_with(self, use: ModelUse) -> None:
        """Close what runs otherwise, and open it so. Raises MonkError: then nothing is open."""
        if use == self._use:
            return
        self._close_lanes()
        self._use = None
        if use.experts != self._experts:
            self._free_model()  # before the other one comes: two may not fit
        self._config, self._plan = self._planned(use)
        if self._model is None:
            self._model = self._load(use.experts)
            self._experts = use.experts
            self._wardrobe = Wardrobe(self._model, last_log_lines)
            self.vocab_size = int(C.llama_vocab_n_tokens(C.llama_model_get_vocab(self._model)))
        self._use = use
        self.streams = self._open_streams()

    def _load(self, experts: int | None) -> Any:
        params = self._model_params()
        params.load_mode = _load_mode(self._config)
        params.use_extra_bufts = self._config.repack
        overrides: Any = (C.llama_model_kv_override * 2)()  # the second one ends the list
        if experts is not None:
            assert self._file is not None and 1 <= experts <= self._file.num_experts, "llama.cpp would abort"
            overrides[0].tag = C.LLAMA_KV_OVERRIDE_TYPE_INT
            overrides[0].key = f"{self._file.architecture}.expert_used_count".encode()
            overrides[0].value.val_i64 = experts
            params.kv_overrides = overrides

        @C.llama_progress_callback  # type: ignore[untyped-decorator]
        def progress(_share: float, _data: object) -> bool:
            self._on_progress()
            return True

        params.progress_callback = progress
        locker = Locker() if self._config.mlock else None
        model = self._loaded(params)
        if locker is not None and (problem := locker.lock(self._plan.weight_bytes - self._plan.repack_bytes)):
            C.llama_model_free(model)
            raise ModelUnusable(
                f"{self._config.model_path.name} is loaded, and {problem}; {LOCK_REMEDY}", param="mlock"
            )
        return model

    def _load_words(self) -> Any:
        """A handle that has the vocabulary and no weights."""
        params = self._model_params()
        params.vocab_only = True
        return self._loaded(params)

    def _model_params(self) -> Any:
        params = C.llama_model_default_params()
        params.n_gpu_layers = 0
        return params

    def _loaded(self, params: Any) -> Any:
        model = C.llama_model_load_from_file(str(self._config.model_path).encode(), params)
        if not model:
            raise ModelUnusable(f"{self._config.model_path} cannot be loaded: {last_log_lines()}")
        return model

    def _planned(self, use: ModelUse) -> tuple[EngineConfig, Plan]:
        """Other KV types, another attention and more experts need other room. Raises MemoryTooSmall."""
        config, plan = self._as_in_house
        if self._file is None or use == self._house:
            return config, plan
        config = config.under(use)
        try:
            return config, fit_again(self._file, config, plan, measured_available_bytes() + held_bytes())
        except MemoryTooSmall as exc:
            raise MemoryTooSmall(f"with {said(use)}: {exc.message}", param="model", **exc.facts) from exc

    def _open_streams(self) -> LlamaLane:
        lane = self.open_lane("stream")
        if lane is None:
            self._use, reason = None, last_log_lines()
            raise ModelUnusable(f"{self._config.model_path}: llama.cpp opens no context with these settings: {reason}")
        return lane

    def open_lane(self, kind: LaneKind) -> LlamaLane | None:
        """A context of its own. None when the memory plan has no room for it or llama.cpp refuses."""
        return self.open_lane_under(self._config, self._plan, kind)

    def open_lane_under(self, config: EngineConfig, plan: Plan, kind: LaneKind) -> LlamaLane | None:
        """The same by other settings and another plan, which must be for this model."""
        shape = plan.lanes.get(kind)
        if shape is None:
            return None
        use = self._use or AS_ITS_FILE_SAYS
        context = open_context(self._model, config, plan, shape, self._abort_flag, use)
        if not context:
            log.warning("llama.cpp opens no such context", extra={"lane": kind, "reason": last_log_lines()})
            return None
        self._lanes.append(LlamaLane(context, shape, config, plan, self.vocab_size))
        self._wardrobe.put_on(self._lanes[-1])
        return self._lanes[-1]

    def close_lane(self, lane: LlamaLane) -> None:
        self._lanes.remove(lane)
        lane.close()

    def wear(self, adapters: tuple[AdapterUse, ...], use: ModelUse) -> None:
        try:
            self._run_with(use)
            self._wardrobe.wear(adapters, self._lanes)
        except MonkError:
            self._run_with(self._house)
            self._wardrobe.wear((), self._lanes)
            raise

    @property
    def layout(self) -> Layout:
        return self._plan.layout

    @property
    def fork_size(self) -> tuple[int, int]:
        fork = self._plan.lanes.get("fork")
        return (fork.cells, fork.sequences - 1) if fork is not None else (0, 0)

    def _cannot_trim(self, plan: Plan) -> bool:
        recurrent = C.llama_model_is_recurrent(self._model) or C.llama_model_is_hybrid(self._model)
        windowed = int(C.llama_model_n_swa(self._model)) > 0 and not plan.swa_full
        return bool(recurrent or windowed)

    def request_abort(self) -> None:
        """Make a running llama_decode return 2 within about a millisecond. From any thread."""
        self._abort_flag[0] = b"\1"

    def clear_abort(self) -> None:
        self._abort_flag[0] = b"\0"

    # --- words

    def tokenize(self, text: str, *, control: bool, add_special: bool) -> list[int]:
        """Ids of the text. With `control` false no control token can come out of it."""
        data = text.encode("utf-8", "replace")
        room = len(data) + 8
        ids = (C.llama_token * room)()
        count = C.llama_tokenize(self._vocab, data, len(data), ids, room, add_special, control)
        if count < 0:
            ids = (C.llama_token * -count)()
            count = C.llama_tokenize(self._vocab, data, len(data), ids, -count, add_special, control)
        if count < 0:
            raise InvalidInput(f"text of {len(data)} bytes cannot be tokenised")
        return list(ids[:count])

    def piece(self, token: int) -> bytes:
        """The bytes a token adds to an answer; none for control tokens."""
        known = self._pieces.get(token)
        if known is None:
            known = self._pieces[token] = self._render(token)
        return known

    def _render(self, token: int) -> bytes:
        plain = self._to_piece(token, special=False)
        if plain or not C.llama_vocab_is_control(self._vocab, token):
            return plain
        shown = self._to_piece(token, special=True)
        return shown if shown.decode("utf-8", "replace") in VISIBLE_CONTROL else b""

    def _to_piece(self, token: int, *, special: bool) -> bytes:
        buffer = ctypes.create_string_buffer(64)
        length = C.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, special)
        if length < 0:
            buffer = ctypes.create_string_buffer(-length)
            length = C.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, special)
        return buffer.raw[: max(length, 0)]

    def is_end(self, token: int) -> bool:
        """True for any token that ends a generation, not just the model's main one."""
        return bool(C.llama_vocab_is_eog(self._vocab, token))

    def bos_text(self) -> str:
        token = int(C.llama_vocab_bos(self._vocab))
        return self._to_piece(token, special=True).decode("utf-8", "replace") if token >= 0 else ""

    def guard_for(self, request: ThoughtRequest) -> GrammarGuard | None:
        """The grammar a thought asks for, at its start. Raises InvalidInput when it cannot be read."""
        grammar = request.sampling.grammar
        if request.sampling.json_schema is not None:
            grammar = schema_to_grammar(request.sampling.json_schema)
        return None if grammar is None else GrammarGuard(self._vocab, self.vocab_size, grammar)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._close_lanes()
        self._free_model()
        if self._words is not None:
            C.llama_model_free(self._words)

    def _close_lanes(self) -> None:
        for lane in self._lanes:
            lane.close()
        self._lanes.clear()

    def _free_model(self) -> None:
        if self._model is not None:
            C.llama_model_free(self._model)
            self._model = None


def requantise(source: Path, target: Path, weights: Weights, threads: int) -> None:
    """Write a copy of a model with its weights in another format. Raises ModelUnusable; an unfinished file may be left."""
    C.llama_log_set(_on_log, ctypes.c_void_p(0))
    C.llama_backend_init()
    params = C.llama_model_quantize_default_params()
    params.nthread, params.ftype, params.allow_requantize = threads, WEIGHTS[weights], True
    if C.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params)) != 0:
        raise ModelUnusable(f"{source} cannot be written as {weights}: {last_log_lines()}", file=str(source))


def _load_mode(config: EngineConfig) -> int:
    if not config.mmap:
        return int(C.LLAMA_LOAD_MODE_NONE)
    return int(C.LLAMA_LOAD_MODE_MMAP_MLOCK if config.mlock else C.LLAMA_LOAD_MODE_MMAP)


class GrammarGuard:
    """Follows one answer through a grammar. llama.cpp aborts on an illegal accept: only tested tokens get there."""

    def __init__(self, vocab: Any, vocab_size: int, grammar: str) -> None:
        check_grammar(grammar)
        _last_lines.clear()
        self._vocab = vocab
        self._sampler = C.llama_sampler_init_grammar(vocab, grammar.encode("utf-8", "replace"), b"root")
        if not self._sampler:
            raise InvalidInput(f"grammar is not valid GBNF: {last_log_lines()}", param="grammar")
        self._rows = np.zeros(vocab_size, dtype=[("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])
        self._tested: int | None = None

    def allows(self, token: int) -> bool:
        row = np.zeros(1, dtype=self._rows.dtype)
        row["id"] = token
        self._apply(row)
        allowed = bool(row["logit"][0] > -np.inf)
        self._tested = token if allowed else None
        return allowed

    def mask(self, logits: npt.NDArray[np.float32]) -> None:
        self._rows["id"] = np.arange(len(self._rows))
        self._rows["logit"] = 0.0
        self._apply(self._rows)
        logits[self._rows["logit"] == -np.inf] = -np.inf

    def accept(self, token: int) -> None:
        """Go on behind `token`, tested again unless `allows` just did. Raises InvalidInput for an illegal one."""
        if self._tested != token and not self.allows(token):
            raise InvalidInput(f"token {token} is not allowed by the grammar here", param="grammar")
        self._tested = None
        C.llama_sampler_accept(self._sampler, token)

    def _apply(self, rows: npt.NDArray[Any]) -> None:
        data = ctypes.cast(rows.ctypes.data, C.llama_token_data_p)
        array = C.llama_token_data_array(data=data, size=len(rows), selected=-1, sorted=False)
        C.llama_sampler_apply(self._sampler, ctypes.byref(array))

    def close(self) -> None:
        if self._sampler:
            C.llama_sampler_free(self._sampler)
            self._sampler = None


def schema_to_grammar(schema: dict[str, Any]) -> str:
    """GBNF of a JSON schema. Raises InvalidInput with the reason when it uses what cannot be translated."""
    from llama_cpp.llama_grammar import json_schema_to_gbnf

    try:
        return str(json_schema_to_gbnf(json.dumps(schema)))
    except Exception as exc:  # the converter raises whatever it stumbles over
        raise InvalidInput(f"json_schema cannot be turned into a grammar: {exc!r}", param="json_schema") from exc
