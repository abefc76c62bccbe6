"""Blocks, forks and lanes with llama.cpp: the same words restored, forked, moved and alone; kills, damage and cancels."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from monk.engine import embedded, gguf_file, memory
from monk.engine.client import Finished, NewTokens, PrefillProgress, Sampling, ThoughtRequest
from monk.engine.config import EngineConfig
from monk.engine.process import EngineProcess
from monk.errors import EngineDied
from tests.engine_models import write_tiny_model
from tests.same_text import ROUNDING, assert_same_greedy, ids_of

pytestmark = pytest.mark.real

PATIENCE_SECONDS = 120.0
BLOCK = 128
BIAS = {257: -100.0, 258: -100.0}  # control tokens would end a random model's answer early

Start = Callable[..., EngineProcess]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Makes engines that keep blocks in `kv/`, and stops them afterwards."""
    made: list[EngineProcess] = []

    def make(path: Path, **values: object) -> EngineProcess:
        usual = {
            "context": 1024,
            "slots": 2,
            "threads": 1,
            "ubatch": 128,
            "kv_block_tokens": BLOCK,
            "beat_seconds": 0.1,
        }
        config = EngineConfig(path, kv_folder=tmp_path / "kv", **{**usual, **values})  # type: ignore[arg-type]
        made.append(EngineProcess(config))
        return made[-1]

    yield make
    for engine in made:
        engine.stop()


def request(name: str, prompt: tuple[int, ...], max_tokens: int = 16) -> ThoughtRequest:
    return ThoughtRequest(name, prompt, max_tokens, Sampling(logit_bias=BIAS))


def text_of(seed: int, length: int) -> tuple[int, ...]:
    return tuple((seed * 37 + at * at * 11) % 250 for at in range(length))


def wait_for(happens: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happens():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def plain(start: Start, path: Path, asked: ThoughtRequest, **values: object) -> tuple[int, ...]:
    """What an engine without blocks and sharing says."""
    engine = start(path, kv_limit_bytes=0, share_prefixes=False, **values)
    (ids,) = ids_of(engine.think(asked))
    assert engine.status().kv.blocks_written == 0
    engine.stop()
    return ids


def test_restored_says_what_computed_said_also_in_another_width(start: Start, tiny: Path) -> None:
    asked = request("t", text_of(1, 700))
    alone = plain(start, tiny, asked)
    first = start(tiny)
    (computed,) = ids_of(first.think(asked))
    wait_for(lambda: first.status().kv.blocks_written == 5)
    assert_same_greedy(first, asked, alone, computed, ROUNDING)
    first.stop()

    for values in ({}, {"context": 2048, "slots": 3}, {"ubatch": 64, "slots": 1}):
        again = start(tiny, **values)
        end: Finished | None = None
        ids: list[int] = []
        for message in again.think(asked):
            ids += message.ids if isinstance(message, NewTokens) else ()
            end = message if isinstance(message, Finished) else end
        assert end is not None and end.num_prefilled == 700 - 5 * BLOCK
        assert_same_greedy(again, asked, computed, tuple(ids), ROUNDING)
        wait_for(lambda engine=again: engine.status().kv.hits == 5)
        assert again.status().kv.tokens_restored == 5 * BLOCK
        assert again.status().kv.failures == 0
        again.stop()


@pytest.mark.parametrize(
    ("architecture", "values"),
    [
        ("qwen3", {"flash_attention": "on"}),
        ("qwen3", {"kv_type_k": "q8_0"}),
        ("qwen3", {"kv_type_v": "q8_0"}),
        ("deepseek2", {}),  # keys alone, and of all heads together
        ("deepseek2", {"flash_attention": "on"}),
        ("deepseek2", {"kv_type_k": "q8_0", "kv_type_v": "q8_0"}),
    ],
)
def test_every_layout_of_kv_can_be_kept(
    start: Start, tmp_path: Path, architecture: str, values: dict[str, object]
) -> None:
    tiny = write_tiny_model(tmp_path / "tiny.gguf", architecture, experts=8 * (architecture == "deepseek2"))
    asked = request("t", text_of(2, 400))
    first = start(tiny, **values)
    (computed,) = ids_of(first.think(asked))
    wait_for(lambda: first.status().kv.blocks_written == 3)
    first.stop()

    again = start(tiny, **values)
    (restored,) = ids_of(again.think(asked))

    assert_same_greedy(again, asked, computed, restored, ROUNDING)
    wait_for(lambda: again.status().kv.hits == 3)


def test_settings_that_shape_kv_find_nothing_of_each_other(start: Start, tiny: Path) -> None:
    asked = request("t", text_of(3, 300), 2)
    for count, values in enumerate(({}, {"flash_attention": "on"}, {"kv_type_k": "q8_0"}, {"kv_block_tokens": 100})):
        engine = start(tiny, **values)
        ids_of(engine.think(asked))
        wait_for(lambda engine=engine: engine.status().kv.blocks_written > 1)
        assert engine.status().kv.hits == 0, (count, values)
        assert engine.status().kv.failures == 0
        engine.stop()


def test_a_kill_in_the_middle_of_a_prefill_loses_at_most_a_block(start: Start) -> None:
    engine = start(embedded.model_path(), context=2048, threads=2, kv_block_tokens=256)
    prompt = tuple(engine.tokenize([]) or ()) + tuple(1000 + (at * at) % 40000 for at in range(1600))
    asked = ThoughtRequest("t", prompt, 4)
    stream = engine.think(asked)
    with pytest.raises(EngineDied):
        for message in stream:
            if isinstance(message, PrefillProgress) and message.done >= 700:
                wait_for(lambda: engine.status().kv.blocks_written >= 2)
                os.kill(engine.status().pid or 0, signal.SIGKILL)

    resumed = list(engine.think(asked))

    first = resumed[0]
    assert isinstance(first, PrefillProgress) and first.done == 256
    end = resumed[-1]
    assert isinstance(end, Finished) and end.num_prefilled <= 1600 - 2 * 256
    wait_for(lambda: engine.status().kv.hits >= 2)
    wait_for(lambda: engine.status().kv.blocks_held == 1600 // 256 + 1)  # and the last 64 tokens by themselves


def test_another_question_on_the_same_document_computes_no_more_than_a_few_tokens_of_it(start: Start) -> None:
    document = tuple(1000 + (at * at) % 40000 for at in range(2 * 256 + 200))
    engine = start(embedded.model_path(), context=2048, threads=2, kv_block_tokens=256)
    alone = ThoughtRequest("b", (*document, *range(300, 330)), 4)
    ids_of(engine.think(ThoughtRequest("a", (*document, *range(200, 220)), 2)))
    wait_for(lambda: engine.status().kv.blocks_written == 4)  # two whole ones, half of one, a quarter
    engine.stop()

    again = start(embedded.model_path(), context=2048, threads=2, kv_block_tokens=256)
    end = list(again.think(alone))[-1]

    assert isinstance(end, Finished) and end.num_prefilled == 200 - 128 - 64 + 30
    wait_for(lambda: again.status().kv.hits == 4)
    assert again.status().kv.tokens_restored == 2 * 256 + 128 + 64
    alone_said = plain(start, embedded.model_path(), alone, context=2048, threads=2)
    assert_same_greedy(again, alone, alone_said, ids_of(again.think(replace(alone, id="c")))[0], ROUNDING)


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign"])
def test_a_bad_block_is_deleted_and_computed_again(
    start: Start, tiny: Path, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    asked = request("t", text_of(4, 400))
    first = start(tiny)
    (computed,) = ids_of(first.think(asked))
    wait_for(lambda: first.status().kv.blocks_written == 3)
    first.stop()
    files = sorted(path for path in (tmp_path / "kv").rglob("*") if path.is_file())
    victim, other = files[0], files[1]
    data = bytearray(other.read_bytes() if damage == "foreign" else victim.read_bytes())
    if damage == "cut":
        del data[-1000:]
    elif damage == "flipped":
        data[len(data) // 2] ^= 4
    victim.write_bytes(data)

    again = start(tiny)
    (after,) = ids_of(again.think(asked))

    assert_same_greedy(again, asked, computed, after, ROUNDING)
    wait_for(lambda: again.status().kv.failures == 1 and again.status().kv.blocks_held == 3)
    told = [record for record in caplog.records if record.levelname == "WARNING"]
    assert [record.name for record in told] == ["monk.engine.process"]  # from the child, in the parent's journal


def test_a_folder_that_cannot_be_written_changes_nothing(start: Start, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "kv").write_text("a file where the folder should be")
    asked = request("t", text_of(5, 400))

    engine = start(tiny)
    (ids,) = ids_of(engine.think(asked))

    assert_same_greedy(engine, asked, plain(start, tiny, asked), ids, ROUNDING)
    assert engine.status().kv.blocks_written == 0


def test_questions_on_one_document_are_forked_and_say_what_each_says_alone(start: Start, tiny: Path) -> None:
    document = text_of(6, 600)
    asked = [request(f"q{at}", (*document, *text_of(at, 5 + at))) for at in range(5)]
    engine = start(tiny)

    together = ids_of(*[engine.think(item) for item in asked])

    wait_for(lambda: engine.status().forked_tokens > 0)
    for item, ids in list(zip(asked, together, strict=True))[::2]:
        assert_same_greedy(engine, item, plain(start, tiny, item), ids, ROUNDING)


def test_twins_are_computed_once(start: Start, tiny: Path) -> None:
    asked = [request(f"twin{at}", text_of(7, 300), 40) for at in range(3)]
    engine = start(tiny)

    heard = ids_of(*[engine.think(item) for item in asked])

    assert heard[0] == heard[1] == heard[2]
    wait_for(lambda: engine.status().decode_tokens >= len(heard[0]))  # the figures come with the next beat
    assert (engine.status().deduplicated, engine.status().prefill_tokens) == (2, 300)


def test_a_sliding_window_keeps_nothing_and_says_the_same(start: Start, tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "gemma.gguf", "gemma3", window=256, layers=6)
    asked = [request(f"t{at}", (*text_of(8, 600), at)) for at in range(3)]
    engine = start(path)

    together = ids_of(*[engine.think(item) for item in asked])

    for item, ids in zip(asked[:2], together, strict=False):
        assert_same_greedy(engine, item, plain(start, path, item), ids, ROUNDING)
    status = engine.status()
    assert (status.kv.blocks_written, status.forked_tokens) == (0, 0)


def test_cancels_in_prefill_and_fork_lane_are_quick_and_hurt_nobody(start: Start) -> None:
    engine = start(embedded.model_path(), context=4096, threads=2, ubatch=512, slots=2)
    document = tuple(1000 + (at * at) % 40000 for at in range(2000))
    gone = engine.think(ThoughtRequest("gone", tuple(reversed(document)), 8))
    assert isinstance(gone.receive(PATIENCE_SECONDS), PrefillProgress)
    started = time.monotonic()
    gone.cancel()
    end = list(gone)[-1]
    assert isinstance(end, Finished) and end.reason == "cancelled"
    assert time.monotonic() - started < 5.0

    asked = [ThoughtRequest(f"q{at}", (*document[:600], 2000 + at), 12, Sampling()) for at in range(3)]
    streams = [engine.think(item) for item in asked]
    streams[1].cancel()

    ends = [list(stream)[-1] for stream in streams]
    assert [end.reason for end in ends if isinstance(end, Finished)][1] == "cancelled"
    assert all(isinstance(end, Finished) and end.num_decoded for end in (ends[0], ends[2]))


def test_memory_with_all_lanes_open_is_within_the_plan(start: Start, tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "wide.gguf", layers=4, kv_heads=4, head_size=128)
    values = {"context": 2048, "slots": 4, "threads": 1, "ubatch": 128}
    plan = memory.fit(gguf_file.read(path), EngineConfig(path, **values))  # type: ignore[arg-type]
    document = text_of(9, 1700)
    asked = [request(f"q{at}", (*document, *text_of(at, 9)), 8) for at in range(3)]
    engine = start(path, **values)

    ids_of(*[engine.think(item) for item in asked])
    ids_of(*[engine.think(request(f"long{at}", text_of(20 + at, 2000), 8)) for at in range(4)])

    beat = engine.status().beat_at
    wait_for(lambda: engine.status().forked_tokens > 0 and engine.status().beat_at > beat + 0.2)
    assert plan.lane_bytes > 64 << 20
    assert engine.status().rss_bytes < 1.1 * plan.total_bytes + (24 << 20)
    assert engine.status().rss_bytes > 0.6 * plan.total_bytes
