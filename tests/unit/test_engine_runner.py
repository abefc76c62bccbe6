"""The engine loop on a model that is a table: sharing, recovery and order, without llama.cpp.

The model says the sum of all tokens before, modulo the vocabulary: any mistake in what a slot holds changes the answer.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monk.engine.client import Finished, Message, NewTokens, PrefillProgress, ThoughtRequest
from monk.engine.runner import ABORTED, NO_ROOM, Runner, RunnerConfig
from monk.engine.sequence import Guard
from monk.errors import EngineFailed, MonkError

VOCAB = 97
END = 96


class SumModel:
    """A model in ten lines. `codes` are returned by coming calls; `computed` counts the tokens it was given."""

    vocab_size = VOCAB
    context = 4096

    def __init__(self, slots: int, can_trim: bool = True) -> None:
        self.can_trim = can_trim
        self.held: list[list[int]] = [[] for _ in range(slots)]
        self.codes: list[int] = []
        self.computed = 0
        self.poison: int | None = None  # a slot whose rows are always refused
        self._logits = np.zeros((0, VOCAB), np.float32)

    def decode_chunk(self, slot: int, start: int, tokens: npt.NDArray[np.int32], *, wants_logits: bool) -> int:
        return self._compute([slot], [start], [list(map(int, tokens))])

    def decode_rows(self, slots: list[int], positions: list[int], tokens: list[int]) -> int:
        assert slots == sorted(slots)
        return self._compute(slots, positions, [[token] for token in tokens])

    def _compute(self, slots: list[int], positions: list[int], rows: list[list[int]]) -> int:
        code = self.codes.pop(0) if self.codes else 0
        if code or self.poison in slots:
            return code or -1
        for slot, position, tokens in zip(slots, positions, rows, strict=True):
            assert len(self.held[slot]) == position, "positions must continue"
            self.held[slot] += tokens
            self.computed += len(tokens)
        self._logits = np.zeros((len(slots), VOCAB), np.float32)
        for row, slot in enumerate(slots):
            self._logits[row, next_token(self.held[slot])] = 9.0
        return 0

    def logits(self, rows: int) -> npt.NDArray[np.float32]:
        return self._logits[:rows]

    def num_computed(self, slot: int) -> int:
        return len(self.held[slot])

    def trim(self, slot: int, length: int) -> bool:
        if self.can_trim:
            del self.held[slot][length:]
        return self.can_trim

    def clear(self, slot: int) -> None:
        self.held[slot] = []

    def copy(self, source: int, target: int) -> None:
        self.held[target] = list(self.held[source])

    def piece(self, token: int) -> bytes:
        return f"{token} ".encode()

    def is_end(self, token: int) -> bool:
        return token == END

    def guard_for(self, request: ThoughtRequest) -> Guard | None:
        return None

    def request_abort(self) -> None: ...

    def clear_abort(self) -> None: ...


def next_token(held: list[int]) -> int:
    return (sum((at + 1) * token for at, token in enumerate(held)) * 31 + 7) % VOCAB


def expected(request: ThoughtRequest) -> tuple[str, str]:
    """(reason, text) of an undisturbed run."""
    tokens = [*request.prompt, *request.saved]
    while len(tokens) - len(request.prompt) < request.max_tokens:
        token = next_token(tokens)
        if token == END:
            return "stop", words_of(tokens[len(request.prompt) :])
        tokens.append(token)
    return "length", words_of(tokens[len(request.prompt) :])


def words_of(tokens: list[int]) -> str:
    return "".join(f"{token} " for token in tokens)


class House:
    """A runner over a SumModel, driven by hand."""

    def __init__(self, slots: int = 4, chunk: int = 16, can_trim: bool = True, stream_bytes: int = 1) -> None:
        self.model = SumModel(slots, can_trim)
        self.heard: dict[str, list[Message | MonkError]] = {}
        config = RunnerConfig(4096, slots, chunk, weight_bytes=1000, stream_bytes=stream_bytes, flush_seconds=0)
        self.runner = Runner(self.model, config, lambda name, item: self.heard.setdefault(name, []).append(item))

    def ask(self, *requests: ThoughtRequest) -> None:
        for request in requests:
            self.runner.think(request)
            self.runner._read_inbox()

    def work(self) -> None:
        for _ in range(10_000):
            if not self.runner.turn():
                return
        raise AssertionError("it never ends")

    def end_of(self, name: str) -> Message | MonkError:
        return self.heard[name][-1]


def request(name: str, prompt: range | list[int], max_tokens: int = 10, saved: tuple[int, ...] = ()) -> ThoughtRequest:
    return ThoughtRequest(name, tuple(token % 90 for token in prompt), max_tokens, saved=saved)


def assert_right(house: House, *requests: ThoughtRequest) -> None:
    for item in requests:
        end = house.end_of(item.id)
        assert isinstance(end, Finished), end
        assert (end.reason, end.text) == expected(item), item.id


def test_many_thoughts_over_few_slots_each_say_their_own() -> None:
    house = House(slots=3)
    asked = [request(f"t{at}", range(at, at + 5 + 7 * at), 4 + at) for at in range(9)]

    house.ask(*asked)
    house.work()

    assert_right(house, *asked)
    assert house.runner.counters.active == 0 or all(slot.owner is None for slot in house.runner._slots)


def test_tokens_and_progress_are_told_in_order() -> None:
    house = House(chunk=16)
    asked = request("t", range(40), 5)

    house.ask(asked)
    house.work()

    heard = house.heard["t"]
    assert heard[:3] == [PrefillProgress(16, 40), PrefillProgress(32, 40), PrefillProgress(40, 40)]
    ids = [token for message in heard if isinstance(message, NewTokens) for token in message.ids]
    text = "".join(message.text for message in heard if isinstance(message, NewTokens))
    assert words_of(ids) == text == expected(asked)[1]


def test_identical_prompts_are_computed_once() -> None:
    house = House(slots=4)
    asked = [request(f"t{at}", range(200), 1) for at in range(4)]

    house.ask(*asked)
    house.work()

    assert_right(house, *asked)
    assert house.model.computed == 200


def test_a_shared_beginning_is_computed_once() -> None:
    house = House(slots=4)
    asked = [request(f"t{at}", [*range(300), *range(at * 7, at * 7 + 10)], 3) for at in range(4)]

    house.ask(*asked)
    house.work()

    assert_right(house, *asked)
    assert house.model.computed < 310 + 3 * 20 + 4 * 3


def test_a_conversation_goes_on_in_the_slot_it_left() -> None:
    house = House(slots=2)
    first = request("first", range(100), 3)
    house.ask(first)
    house.work()
    computed = house.model.computed
    second = request("second", [*range(100), *range(50, 60)], 3)

    house.ask(second)
    house.work()

    assert_right(house, first, second)
    assert house.model.computed - computed <= 10 + 3


def test_memory_that_cannot_be_cut_is_still_right_and_still_shares_twins() -> None:
    house = House(slots=4, can_trim=False)
    asked = [request(f"t{at}", range(200), 5) for at in range(3)]
    asked += [request("longer", [*range(200), 1, 2, 3], 5), request("other", range(5, 90), 5)]

    house.ask(*asked)
    house.work()

    assert_right(house, *asked)
    assert house.model.computed < 200 + 90 + 3 + 5 * 6


def test_a_source_that_is_cancelled_frees_its_followers() -> None:
    for can_trim in (True, False):
        house = House(slots=2, chunk=8, can_trim=can_trim)
        asked = [request("gone", range(100), 50), request("stays", range(100), 5)]
        house.ask(*asked)
        for _ in range(3):
            house.runner.turn()

        house.runner.cancel("gone")
        house.runner._read_inbox()
        house.work()

        end = house.end_of("gone")
        assert isinstance(end, Finished) and end.reason == "cancelled"
        assert_right(house, asked[1])


def test_an_aborted_step_is_done_again() -> None:
    house = House()
    asked = [request("a", range(40), 6), request("b", range(3, 20), 6)]
    house.model.codes = [0, ABORTED, 0, 0, ABORTED, ABORTED, 0, ABORTED]

    house.ask(*asked)
    house.work()

    assert_right(house, *asked)


def test_a_refused_batch_is_taken_apart_and_only_the_culprit_fails() -> None:
    house = House(slots=3, stream_bytes=1 << 40)  # moving a thought is never worth it
    asked = [request(f"t{at}", range(at, at + 9), 8) for at in range(3)]
    house.ask(*asked)
    for _ in range(4):
        house.runner.turn()
    house.model.poison = 1

    house.work()

    assert isinstance(house.end_of("t1"), EngineFailed)
    assert_right(house, asked[0], asked[2])


def test_a_prefill_without_room_fails_its_own_thought_only() -> None:
    house = House()
    asked = [request("full", range(30), 3), request("fine", range(50, 80), 3)]
    house.model.codes = [NO_ROOM]

    house.ask(*asked)
    house.work()

    assert isinstance(house.end_of("full"), EngineFailed)
    assert_right(house, asked[1])


def test_saved_tokens_are_continued() -> None:
    whole = request("whole", range(30), 12)
    ids = [int(word) for word in expected(whole)[1].split()]
    rest = replace(whole, id="rest", saved=tuple(ids[:5]))
    house = House()

    house.ask(rest)
    house.work()

    end = house.end_of("rest")
    assert isinstance(end, Finished)
    assert end.text == expected(whole)[1]
    assert end.num_decoded == len(ids) - 5


def test_a_gap_is_closed_when_nobody_waits() -> None:
    house = House(slots=4)
    asked = [request(f"t{at}", range(at * 11, at * 11 + 20), 3 if at < 2 else 200) for at in range(4)]

    house.ask(*asked)
    house.work()

    assert_right(house, *asked)


def test_stopping_pauses_everything_and_loses_no_token() -> None:
    house = House(slots=1)
    asked = [request("running", range(30), 500), request("waiting", range(40, 60), 5)]
    house.ask(*asked)
    for _ in range(6):
        house.runner.turn()

    house.runner.stop()
    house.runner.run()

    for name in ("running", "waiting"):
        end = house.end_of(name)
        assert isinstance(end, Finished) and end.reason == "paused"
    told = [token for message in house.heard["running"] if isinstance(message, NewTokens) for token in message.ids]
    assert expected(asked[0])[1].startswith(words_of(told))
    assert told


def test_the_same_id_twice_is_refused() -> None:
    house = House()

    house.ask(request("t", range(9)), request("t", range(9)))

    assert isinstance(house.end_of("t"), EngineFailed)


prompts = st.lists(st.integers(0, 3), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(prompts, st.integers(1, 8), st.booleans()), min_size=1, max_size=12),
    st.lists(st.sampled_from([0, 0, 0, ABORTED]), max_size=30),
    st.booleans(),
    st.integers(1, 5),
)
def test_whatever_is_shared_aborted_or_cancelled_nobody_gets_anothers_words(
    thoughts: list[tuple[list[int], int, bool]], codes: list[int], can_trim: bool, slots: int
) -> None:
    house = House(slots=slots, chunk=16, can_trim=can_trim)
    house.model.codes = list(codes)
    asked = [request(f"t{at}", [5] * 30 + prompt, length) for at, (prompt, length, _) in enumerate(thoughts)]
    for item, (_, _, cancelled) in zip(asked, thoughts, strict=True):
        house.ask(item)
        house.runner.turn()
        if cancelled:
            house.runner.cancel(item.id)
            house.runner._read_inbox()
    house.work()

    for item in asked:
        end = house.end_of(item.id)
        assert isinstance(end, Finished)
        if end.reason == "cancelled":
            assert expected(item)[1].startswith(end.text)
        else:
            assert (end.reason, end.text) == expected(item)


@pytest.mark.parametrize("max_tokens", [1, 2])
def test_a_prompt_of_one_token_works(max_tokens: int) -> None:
    house = House()
    asked = request("t", [5], max_tokens)

    house.ask(asked)
    house.work()

    assert_right(house, asked)
