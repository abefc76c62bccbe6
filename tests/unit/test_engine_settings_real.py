"""Expert counts and rope settings on the real engine: they change what is said, and a mixed night says what each job says
alone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from monk.engine import gguf_file, memory
from monk.engine.client import KvFigures, ModelUse, NewTokens, Sampling, ThoughtRequest
from monk.engine.config import EngineConfig
from monk.engine.llama import LlamaModel
from monk.engine.native import Run
from monk.engine.process import EngineProcess
from monk.errors import EngineDied, InvalidInput, MemoryTooSmall, ModelUnusable
from monk.lora.shelf import Shelf
from tests.engine_models import write_tiny_model
from tests.lora_models import random_lora, shelved
from tests.same_text import assert_same_greedy, said

pytestmark = pytest.mark.real
PROMPTS = [tuple(b"The monk reads the " + word) for word in (b"first page.", b"second page.", b"last page of all.")]
LONG = tuple(b"A long document that is read once and kept. " * 8)
USES = (
    ModelUse(),
    ModelUse(experts=1),
    ModelUse(experts=6),
    ModelUse(rope_freq_base=500.0),
    ModelUse(yarn_factor=8.0, yarn_original_context=64),
    ModelUse(kv_type_v="q8_0", flash_attention="on"),
    ModelUse(experts=6, rope_freq_scale=0.25, kv_type_k="q8_0"),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "moe.gguf", "qwen3moe", experts=8)


@pytest.fixture
def engine(model: Path, tmp_path: Path) -> Iterator[EngineProcess]:
    kept: dict[str, Any] = {"kv_folder": tmp_path / "kv", "kv_block_tokens": 64}
    running = EngineProcess(EngineConfig(model, context=1024, slots=4, threads=1, beat_seconds=0.05, **kept))
    yield running
    running.stop()


def logprobs_of(engine: EngineProcess, request: ThoughtRequest) -> dict[int, float]:
    """Of the first token."""
    probe = replace(request, id=f"{request.id}-probe", max_tokens=1, sampling=Sampling(logprobs=8))
    return dict(next(m for m in engine.think(probe) if isinstance(m, NewTokens)).logprobs[0].top)


def wait_for(engine: EngineProcess, name: str, least: int) -> KvFigures:
    """The store's figures as soon as a beat has told of so many."""
    deadline = time.monotonic() + 20
    while getattr(engine.status().kv, name) < least and time.monotonic() < deadline:
        time.sleep(0.02)
    return engine.status().kv


def asked(use: ModelUse, prompt: tuple[int, ...], name: str) -> ThoughtRequest:
    return ThoughtRequest(name, prompt, 12, Sampling(logit_bias={258: -100.0}), model=use)


def test_a_mixed_night_says_what_each_thought_says_alone(engine: EngineProcess) -> None:
    alone = {
        (wave, n): said(engine, asked(USES[wave], PROMPTS[n], f"alone-{wave}-{n}"))
        for wave in range(len(USES))
        for n in range(3)
    }
    mixed = [(wave, number % 3, number) for number in range(6) for wave in (2, 0, 6, 3, 5, 1, 4)]

    with ThreadPoolExecutor(42) as pool:
        answers = list(pool.map(lambda k: said(engine, asked(USES[k[0]], PROMPTS[k[1]], f"mixed-{k}")), mixed))

    for (wave, prompt, _), ids in zip(mixed, answers, strict=True):
        assert ids == alone[wave, prompt], f"wave {wave}, prompt {prompt}"
    told = {tuple(alone[wave, n] for n in range(3)) for wave in range(len(USES))}
    assert len(told) >= len(USES) - 1, "only values in eight bits may say the same as in sixteen"
    assert engine.status().num_restarts == 0


def test_another_expert_count_and_another_rope_really_change_the_logits(engine: EngineProcess) -> None:
    told = [logprobs_of(engine, asked(use, LONG, f"logits-{at}")) for at, use in enumerate(USES)]

    deadline = time.monotonic() + 20
    last = {"experts": 6, "rope_freq_scale": 0.25, "kv_type_k": "q8_0"}
    while engine.status().runs_with != last and time.monotonic() < deadline:
        time.sleep(0.02)
    assert engine.status().runs_with == last, "as the last one"
    assert all(one != other for at, one in enumerate(told) for other in told[:at])
    same = logprobs_of(engine, asked(ModelUse(experts=2, rope_freq_base=10000.0), LONG, "as-in-the-file"))
    assert same == told[0]


def test_blocks_of_one_wave_are_not_restored_in_another(engine: EngineProcess) -> None:
    answers = {}
    for at, use in enumerate(USES[:4]):
        answers[at] = said(engine, asked(use, LONG, f"first-{at}"))
    blocks = len(USES[:4]) * (len(LONG) // 64)
    assert wait_for(engine, "blocks_written", blocks).hits == 0, "nothing of another wave"
    engine.stop()
    engine.start()

    for at, use in enumerate(USES[:4]):
        assert said(engine, asked(use, LONG, f"second-{at}")) == answers[at]

    found = wait_for(engine, "hits", blocks)
    assert (found.failures, found.blocks_written) == (0, blocks), "each finds its own"


def test_what_would_abort_the_process_is_one_error(engine: EngineProcess) -> None:
    before = said(engine, asked(USES[2], PROMPTS[0], "before"))

    for use in (ModelUse(experts=0), ModelUse(experts=9), ModelUse(rope_freq_base=float("inf"))):
        with pytest.raises(InvalidInput, match=r"experts|rope_freq_base"):
            said(engine, asked(use, PROMPTS[0], f"bad-{use}"))

    assert said(engine, asked(USES[2], PROMPTS[0], "after")) == before
    assert engine.status().num_restarts == 0


def test_a_killed_engine_goes_on_in_the_wave_of_each_thought(engine: EngineProcess) -> None:
    requests = [replace(asked(use, PROMPTS[0], f"k{at}"), max_tokens=900) for at, use in enumerate(USES[:4])]
    whole = [said(engine, replace(request, id=f"{request.id}-whole")) for request in requests]
    streams = [engine.think(request) for request in requests]
    saved: list[list[int]] = [[] for _ in requests]
    first = streams[0].receive(30.0)
    while not isinstance(first, NewTokens):
        first = streams[0].receive(30.0)
    saved[0] += first.ids

    os.kill(engine.status().pid or 0, signal.SIGKILL)
    died = 0
    for at, stream in enumerate(streams):
        try:
            for message in stream:
                saved[at] += message.ids if isinstance(message, NewTokens) else ()
        except EngineDied:
            died += 1
    assert died >= 3, "only the wave that ran can have ended"

    with ThreadPoolExecutor(4) as pool:
        again = [replace(request, saved=tuple(ids)) for request, ids in zip(requests, saved, strict=True)]
        rest = list(pool.map(lambda request: said(engine, request), again))
    for at, ids in enumerate(whole):
        assert_same_greedy(engine, requests[at], ids, (*saved[at], *rest[at]))


def test_the_house_may_set_what_all_thoughts_run_with(model: Path, engine: EngineProcess) -> None:
    wanted = said(engine, asked(USES[2], PROMPTS[1], "by-the-thought"))
    own = said(engine, asked(USES[0], PROMPTS[1], "as-in-the-file"))
    house = EngineProcess(EngineConfig(model, context=512, slots=2, threads=1, model_use=USES[2]))
    try:
        assert said(house, asked(ModelUse(), PROMPTS[1], "by-the-house")) == wanted
        assert said(house, asked(ModelUse(experts=2), PROMPTS[1], "against-the-house")) == own
    finally:
        house.stop()


def test_settings_of_the_house_that_the_model_cannot_have_are_told_at_the_start(tmp_path: Path) -> None:
    dense = write_tiny_model(tmp_path / "dense.gguf")
    engine = EngineProcess(EngineConfig(dense, context=512, slots=1, threads=1, model_use=ModelUse(experts=4)))

    with pytest.raises(ModelUnusable, match=r"dense.gguf: experts is 4, and this model has none"):
        engine.card(60.0)
    engine.stop()


def test_an_adapter_is_worn_again_over_weights_that_were_loaded_anew(
    model: Path, engine: EngineProcess, tmp_path: Path
) -> None:
    worn = (shelved(Shelf(tmp_path / "shelf"), "a", random_lora(model, 1, ("attn_q",)), model),)

    told = [
        said(engine, replace(asked(use, PROMPTS[2], f"{at}"), adapters=adapters))
        for at, (use, adapters) in enumerate([(USES[0], worn), (USES[2], worn), (USES[2], ()), (USES[0], worn)])
    ]

    assert told[0] == told[3]
    assert len(set(told)) == 3


def opened(model: Path, slots: int) -> LlamaModel:
    """With a plan for a machine that is larger than this one by what is reserved: nothing that takes more fits."""
    file = gguf_file.read(model)
    config = EngineConfig(model, context=512, slots=slots, threads=1, memory_reserve_bytes=1 << 40)
    return LlamaModel(config, memory.fit(file, config, 2 << 40), lambda: None, file)


def test_kv_that_takes_more_room_than_there_is_goes_without_other_lanes(model: Path) -> None:
    loaded = opened(model, slots=4)
    try:
        house, forks = loaded.layout, loaded.fork_size
        loaded.wear((), ModelUse(kv_type_k="f32", kv_type_v="f32"))
        wide, rest = loaded.layout, (loaded.streams.num_sequences, loaded.fork_size)
        loaded.wear((), ModelUse(kv_type_k="q8_0", kv_type_v="q8_0", flash_attention="on"))
        narrow = loaded.layout
        loaded.wear((), ModelUse())
    finally:
        loaded.close()

    assert (rest, wide.kv_bytes_per_token) == ((4, (0, 0)), 2 * house.kv_bytes_per_token)
    assert forks == (1024, 8)
    assert narrow.kv_bytes_per_token == house.kv_bytes_per_token * 34 // 64
    assert (house.flash_attention, narrow.flash_attention) == (False, True)
    assert loaded.layout == house


def test_experts_there_is_no_memory_for_are_refused_with_figures_and_the_house_goes_on(model: Path) -> None:
    loaded = opened(model, slots=1)
    try:
        told = r"with experts 6: moe.gguf needs \d+\.\d+ GiB \(weights .*\), 0\.00 GiB are free after a reserve of 1024\.00"
        with pytest.raises(MemoryTooSmall, match=told):
            loaded.wear((), ModelUse(experts=6))
        assert loaded.streams.decode([Run(0, 0, PROMPTS[0])], "prefill") == 0
        loaded.wear((), ModelUse(rope_freq_base=500.0))
        assert loaded.streams.num_computed(0) == 0, "another context, and nothing in it"
    finally:
        loaded.close()
