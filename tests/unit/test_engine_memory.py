"""The memory plan is arithmetic, and says no with figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monk.engine import embedded, gguf_file, machine, memory
from monk.engine.client import ModelUse
from monk.engine.config import EngineConfig
from monk.engine.gguf_file import GgufFile, Tensor
from monk.errors import MemoryTooSmall

GIB = 1 << 30


def qwen3_30b() -> GgufFile:
    """The figures of a real 30B-A3B model at four and a half bits, without its 18 GB."""
    metadata = {
        "general.architecture": "qwen3moe",
        "qwen3moe.block_count": 48,
        "qwen3moe.context_length": 262144,
        "qwen3moe.embedding_length": 2048,
        "qwen3moe.feed_forward_length": 6144,
        "qwen3moe.attention.head_count": 32,
        "qwen3moe.attention.head_count_kv": 4,
        "qwen3moe.attention.key_length": 128,
        "qwen3moe.attention.value_length": 128,
        "qwen3moe.expert_count": 128,
        "tokenizer.ggml.tokens": ["x"] * 151936,
    }
    path = Path("/models/qwen3-30b.gguf")
    return GgufFile(path, (path,), metadata, (Tensor("blk.0.big.weight", (256, 30_500_000_000 // 256), 14, 0),))


def config(**values: object) -> EngineConfig:
    return EngineConfig(Path("/models/qwen3-30b.gguf"), threads=8, **values)  # type: ignore[arg-type]


def test_kv_of_a_known_model_is_what_its_makers_say() -> None:
    plan = memory.fit(qwen3_30b(), config(context=131072, slots=1, flash_attention="on"), 256 * GIB)

    assert plan.kv_bytes_per_token == 96 * 1024
    assert plan.kv_bytes == 12 * GIB


def test_other_kv_takes_as_many_slots_as_fit_and_is_refused_with_figures_below_one() -> None:
    file, house = qwen3_30b(), config(context=131072, slots=4, kv_type_k="q8_0", kv_type_v="q8_0", flash_attention="on")
    plan = memory.fit(file, house, 128 * GIB)
    wanted = house.under(ModelUse(kv_type_k="f16", kv_type_v="f16"))

    fitted = memory.fit_again(file, wanted, plan, 80 * GIB)
    assert (plan.slots, fitted.slots, fitted.context) == (4, 2, 131072)
    assert fitted.total_bytes <= 79 * GIB < memory.fit_again(file, wanted, plan, 200 * GIB).total_bytes
    assert memory.fit_again(file, wanted, plan, 200 * GIB).slots == 4
    assert memory.fit_again(file, house, plan, 1 * GIB) == plan, "what it has is not asked for again"

    small = memory.fit(file, replace(house, slots=1), 128 * GIB)
    with pytest.raises(MemoryTooSmall, match=r"KV of 1 x 131072 tokens 12\.00.* are free after a reserve of 1\.00"):
        memory.fit_again(file, wanted, small, 20 * GIB)


def test_quantised_keys_take_half() -> None:
    halved = memory.kv_bytes_per_token(qwen3_30b(), config(kv_type_k="q8_0", kv_type_v="q8_0"))

    assert halved == int(96 * 1024 * 34 / 64)


def test_without_flash_attention_the_chunk_shrinks_until_kq_is_small() -> None:
    long = memory.fit(qwen3_30b(), config(context=131072, slots=1, flash_attention="off"), 256 * GIB)
    short = memory.fit(qwen3_30b(), config(context=4096, slots=1, flash_attention="off"), 256 * GIB)

    assert (long.ubatch, short.ubatch) == (64, 512)


def test_stretched_positions_make_the_chosen_context_longer() -> None:
    def chosen(**use: object) -> int:
        return memory.fit(qwen3_30b(), config(slots=1, model_use=ModelUse(**use)), 2048 * GIB).context  # type: ignore[arg-type]

    assert chosen() == 262144
    assert chosen(yarn_factor=2.0) == 2 * 262144
    assert chosen(rope_freq_scale=0.5) == 2 * 262144
    assert chosen(yarn_factor=4.0, yarn_original_context=32768) == 262144, "the file knows of a stretch already"


def test_it_gives_up_slots_before_context() -> None:
    wide = memory.fit(qwen3_30b(), config(), 256 * GIB)
    narrow = memory.fit(qwen3_30b(), config(), 44 * GIB)

    assert wide.slots == 16 and wide.context >= memory.DESIRED_CONTEXT
    assert narrow.slots < 16 and narrow.context >= memory.DESIRED_CONTEXT
    assert narrow.total_bytes <= 43 * GIB


def test_more_slots_than_usual_cost_neither_context_nor_most_of_the_memory() -> None:
    model = qwen3_30b()

    roomy, tight = memory.fit(model, config(), 4000 * GIB), memory.fit(model, config(), 1200 * GIB)
    asked = memory.fit(model, config(slots=32), 1200 * GIB)

    assert (roomy.slots, roomy.context) == (32, model.train_context)
    assert (tight.slots, tight.context) == (16, model.train_context)
    assert asked.slots == 32


def test_with_little_memory_it_takes_one_slot_with_what_fits() -> None:
    plan = memory.fit(qwen3_30b(), config(), 27 * GIB)

    assert plan.slots == 1
    assert memory.LEAST_CONTEXT <= plan.context < memory.DESIRED_CONTEXT


def test_a_refusal_has_figures_and_a_way_out() -> None:
    with pytest.raises(MemoryTooSmall) as caught:
        memory.fit(qwen3_30b(), config(context=131072, slots=16), 64 * GIB)

    error = caught.value
    assert "KV of 16 x 131072 tokens 192.00" in error.message
    assert "63.00 GiB are free after a reserve of 1.00" in error.message
    assert "slots with context 131072" in error.message
    assert error.facts["kv_bytes"] == 192 * GIB
    assert error.facts["available_bytes"] == 63 * GIB


def test_settings_named_in_a_refusal_do_fit() -> None:
    with pytest.raises(MemoryTooSmall) as caught:
        memory.fit(qwen3_30b(), config(context=131072, slots=16), 64 * GIB)
    context = int(caught.value.message.split("would fit: context ")[1].split()[0])

    assert memory.fit(qwen3_30b(), config(context=context, slots=16), 64 * GIB).context == context


def test_weights_alone_may_be_too_much() -> None:
    with pytest.raises(MemoryTooSmall, match="a smaller model"):
        memory.fit(qwen3_30b(), config(), 16 * GIB)


def test_a_reserve_that_alone_stands_in_the_way_is_named() -> None:
    with pytest.raises(MemoryTooSmall, match="lower MONK_MEMORY_RESERVE_BYTES"):
        memory.fit(qwen3_30b(), config(memory_reserve_bytes=60 * GIB), 64 * GIB)


@given(st.integers(min_value=0, max_value=600), st.sampled_from([0, 1, 4, 16]), st.sampled_from([0, 1000, 65536]))
def test_a_plan_never_takes_more_than_there_is(available_gib: int, slots: int, context: int) -> None:
    try:
        plan = memory.fit(qwen3_30b(), config(slots=slots, context=context), available_gib * GIB)
    except MemoryTooSmall:
        return
    assert plan.total_bytes + GIB <= available_gib * GIB
    assert plan.context % 256 == 0
    assert plan.context >= context
    assert plan.slots == slots or slots == 0


def test_a_sliding_window_holds_less() -> None:
    model = qwen3_30b()
    renamed = {key.replace("qwen3moe", "gemma3"): value for key, value in model.metadata.items()}
    windowed = GgufFile(
        model.path,
        model.parts,
        {**renamed, "general.architecture": "gemma3", "gemma3.attention.sliding_window": 1024},
        model.tensors,
    )
    settings = config(context=65536, slots=1)

    assert memory.fit(windowed, settings, 256 * GIB).kv_bytes < memory.fit(model, settings, 256 * GIB).kv_bytes / 4


def test_the_embedded_model_fits_here() -> None:
    plan = memory.fit(gguf_file.read(embedded.model_path()), EngineConfig(embedded.model_path()), 8 * GIB)

    assert plan.context == 8192
    assert plan.slots == 16
    assert memory.fit(gguf_file.read(embedded.model_path()), EngineConfig(embedded.model_path()), 20 * GIB).slots == 32


def test_the_machine_is_asked() -> None:
    assert machine.measured_available_bytes() > 100 << 20
    assert machine.physical_cores() >= 1
