"""Guessed tokens in the engine loop, on models that are tables: the answers never change, only the number of steps.

The model repeats what it said five tokens ago, now and then with a slip: guesses are mostly right, and sometimes not.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence as Row

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monk.engine import sampler
from monk.engine.client import Finished, NewTokens, Sampling, ThoughtRequest
from monk.engine.drafts import MOST_IDLE_NODES, Drafts, group_key
from monk.engine.guessing import Guessing
from monk.engine.lookup import NO_DRAFT
from monk.engine.native import ABORTED, NO_ROOM
from monk.engine.speculation import Pacer, Wish
from tests.engine_house import House, expected, request
from tests.engine_lanes import END, VOCAB, next_token

PERIOD = 5
CHUNK = 64


def repeats(held: list[int]) -> int:
    """The token of a period before; every eighth time or so another one."""
    slips = sum((at + 3) * token for at, token in enumerate(held)) % 8 == 0
    if len(held) < PERIOD or slips:
        return next_token(held)
    return held[-PERIOD]


class Eager(Pacer):
    """Takes along as many guesses as a list says, round and round, and more than there are if it says so."""

    def __init__(self, counts: Row[int]) -> None:
        super().__init__(streams=True, most_rows=CHUNK)
        self._counts = itertools.cycle(counts)

    def choose(self, wishes: Row[Wish]) -> list[int]:
        return [min(next(self._counts), wish.room, CHUNK // len(wishes) - 1) for wish in wishes]


def guessing_house(counts: Row[int] = (4,), slots: int = 3, fork_cells: int = 0) -> House:
    """It guesses in both lanes, as much as it is told."""
    house = House(slots=slots, chunk=CHUNK, fork_cells=fork_cells, speculates=True)
    house.model.says = repeats
    lanes = house.runner._lanes
    lanes._guessing_in = lambda lane, streams: Guessing(lanes._drafts, Eager(counts), lanes._counters)  # type: ignore[method-assign,assignment,misc]
    lanes._streams._guessing = lanes._guessing_in(house.model.streams, streams=True)
    return house


def assert_right(house: House, *requests: ThoughtRequest) -> None:
    for item in requests:
        end = house.end_of(item.id)
        assert isinstance(end, Finished), end
        assert (end.reason, end.text) == expected(item, repeats), item.id
        ids = [token for message in house.heard[item.id] if isinstance(message, NewTokens) for token in message.ids]
        assert "".join(f"{token} " for token in ids).startswith(end.text)
        assert end.num_decoded == len(ids)


def test_right_guesses_save_steps() -> None:
    plain, guessing = House(slots=1), guessing_house([6], slots=1)
    plain.model.says = repeats
    asked = request("t", range(40), 200)
    for house in (plain, guessing):
        house.ask(asked)
        house.work()

    assert_right(guessing, asked)
    assert guessing.runner.counters.steps < plain.runner.counters.steps / 2
    assert guessing.runner.counters.accepted_tokens > 60
    assert guessing.runner.counters.accepted_tokens <= guessing.runner.counters.drafted_tokens


def test_nothing_is_left_of_rejected_guesses() -> None:
    house = guessing_house([7])
    asked = [request(f"t{at}", range(at, at + 20), 30) for at in range(3)]
    house.ask(*asked)

    for _ in range(40):
        house.runner.turn()
        for slot in house.runner._lanes._streams._slots.values():
            known = slot.tokens.tolist() if slot.owner is None else slot.owner.tokens[: slot.owner.computed]
            assert list(house.model.streams.held[slot.number].values()) == known

    assert_right(house, *asked)


def test_an_answer_ends_at_its_limit_within_a_run_of_right_guesses() -> None:
    for limit in range(1, 12):
        house = guessing_house([8], slots=1)
        asked = request("t", [*range(20), *range(20)], limit)

        house.ask(asked)
        house.work()

        assert_right(house, asked)


def test_an_end_token_and_a_stop_string_within_a_run_end_the_thought() -> None:
    loop = [50, 51, 52, 53, END, *range(60, 66)]

    def says(held: list[int]) -> int:
        return loop[(loop.index(held[-1]) + 1) % len(loop)]

    prompt = [*loop, *loop, 60]
    for stop, text in (((), "61 62 63 64 65 50 51 52 53 "), (("65 50",), "61 62 63 64 ")):
        house = guessing_house([8], slots=1)
        house.model.says = says
        house.ask(ThoughtRequest("t", tuple(prompt), 50, stop=stop))
        house.work()

        end = house.end_of("t")
        assert isinstance(end, Finished)
        assert (end.reason, end.text) == ("stop", text)
        held = list(house.model.streams.held[0].values())
        assert held == house.runner._lanes._streams._slots[0].tokens.tolist()
        assert house.runner.counters.accepted_tokens > 0


def test_drawn_tokens_are_those_of_single_steps_whatever_was_guessed() -> None:
    """Temperature, penalties and seeds: a draw depends on its own row, its index and the tokens before it."""
    sampling = Sampling(temperature=5.0, seed=3, repeat_penalty=1.3, repeat_last_n=6, logprobs=2)
    asked = [ThoughtRequest(f"t{at}", tuple(range(at, at + 30)), 60, sampling) for at in range(2)]
    told = []
    for house in (House(slots=2), guessing_house([5, 3], slots=2)):
        house.model.says = repeats
        house.ask(*asked)
        house.work()
        told.append([[m for m in house.heard[item.id] if isinstance(m, NewTokens)] for item in asked])

    plain, guessed = (
        [([id_ for m in thought for id_ in m.ids], [lp for m in thought for lp in m.logprobs]) for thought in side]
        for side in told
    )
    assert plain == guessed


class EvenGuard:
    """Allows even tokens only, and dies of an accept it did not allow, as the native one would."""

    def __init__(self) -> None:
        self.accepted: list[int] = []
        self.tested = -1

    def allows(self, token: int) -> bool:
        self.tested = token
        return token % 2 == 0

    def mask(self, logits: sampler.Logits) -> None:
        logits[1::2] = -float("inf")

    def accept(self, token: int) -> None:
        assert token % 2 == 0, "the process would have been gone"
        self.accepted.append(token)

    def close(self) -> None: ...


def test_a_grammar_follows_only_what_is_really_said() -> None:
    answers = []
    for house in (House(slots=1), guessing_house([6], slots=1)):
        guard = EvenGuard()
        house.model.says = repeats
        house.model.guard_for = lambda _, guard=guard: guard  # type: ignore[method-assign,misc]
        house.ask(ThoughtRequest("t", tuple(range(0, 60, 2)) * 2, 60, Sampling(grammar="root ::= [0-9]+")))
        house.work()
        ids = [id_ for m in house.heard["t"] if isinstance(m, NewTokens) for id_ in m.ids]
        assert ids == guard.accepted
        answers.append(ids)

    assert answers[0] == answers[1] and len(answers[0]) > 20


def test_members_of_a_fork_lane_guess_too_and_leave_nothing_behind() -> None:
    house = guessing_house([5, 0, 3], slots=2, fork_cells=2048)
    asked = [request(f"t{at}", [*range(3, 83)] * 4 + [40 + at], 40) for at in range(4)]

    house.ask(*asked)
    house.work()

    assert_right(house, *asked)
    counters = house.runner.counters
    assert counters.forked_tokens > 0 and counters.accepted_tokens > 0
    assert all(not held for held in house.model.lanes["fork"].held[1:])


def test_a_call_refused_with_guesses_is_made_again_without() -> None:
    house = guessing_house([6], slots=1)
    asked = request("t", range(40), 60)
    house.model.codes = [0, 0, 0, 0, NO_ROOM, 0, 0, -1, 0, ABORTED]

    house.ask(asked)
    house.work()

    assert_right(house, asked)


def test_a_memory_that_cannot_be_cut_never_gets_a_guess() -> None:
    house = House(slots=2, can_trim=False, chunk=CHUNK, speculates=True)
    house.model.says = repeats
    asked = request("t", range(40), 60)

    house.ask(asked)
    house.work()

    assert_right(house, asked)
    assert house.runner.counters.drafted_tokens == 0


def test_guesses_switch_themselves_on_by_what_steps_cost() -> None:
    """The real pacer over a model whose calls take no time per row at all."""
    house = House(slots=2, chunk=CHUNK, speculates=True)
    house.model.says = repeats
    asked = [request(f"t{at}", range(at, at + 40), 900) for at in range(2)]

    house.ask(*asked)
    house.work()

    assert_right(house, *asked)
    assert house.runner.counters.drafted_tokens > 0


def test_text_that_never_repeats_gets_no_rows() -> None:
    house = House(slots=2, chunk=CHUNK, speculates=True)
    house.model.says = lambda held: (held[-1] * 7 + len(held) * len(held)) % (VOCAB - 1)
    asked = request("t", random.Random(1).sample(range(90), 40), 300)

    house.ask(asked)
    house.work()

    assert house.runner.counters.drafted_tokens <= 8


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(1, 40)), min_size=1, max_size=8
    ),
    st.lists(st.integers(0, 9), min_size=1, max_size=9),
    st.lists(st.sampled_from([0, 0, 0, 0, ABORTED, NO_ROOM]), max_size=30),
    st.lists(st.booleans(), min_size=8, max_size=8),
    st.integers(1, 4),
)
def test_whatever_is_guessed_refused_or_cancelled_everybody_says_their_own(
    thoughts: list[tuple[list[int], int]], counts: list[int], codes: list[int], cancelled: list[bool], slots: int
) -> None:
    house = guessing_house(counts, slots=slots)
    asked = [request(f"t{at}", [5] * 12 + prompt, length) for at, (prompt, length) in enumerate(thoughts)]
    for item, gone in zip(asked, cancelled, strict=False):
        house.ask(item)
        house.runner.turn()
        house.runner.turn()
        if gone:
            house.runner.cancel(item.id)
            house.runner._read_inbox()
    house.model.codes = [code for code in codes if code != NO_ROOM or not house.runner._lanes.line]
    house.work()

    for item in asked:
        end = house.end_of(item.id)
        if not isinstance(end, Finished):
            assert NO_ROOM in codes  # twice in a row for one thought alone
        elif end.reason == "cancelled":
            assert expected(item, repeats)[1].startswith(end.text)
        else:
            assert (end.reason, end.text) == expected(item, repeats)


# --- who remembers what


def thought(name: str, prompt: Row[int], group: str = "") -> ThoughtRequest:
    return ThoughtRequest(name, tuple(prompt), 100, group=group)


def test_a_thought_learns_from_its_group_and_from_nobody_else() -> None:
    drafts = Drafts()
    drafts.follow(1, thought("one", [1, 2, 3], "job"), [1, 2, 3, 10, 11, 12, 13])
    drafts.follow(2, thought("kin", [9, 8], "job"), [9, 8, 10, 11, 12])
    drafts.follow(3, thought("stranger", [9, 8], "other"), [9, 8, 10, 11, 12])

    assert drafts.propose(2, 4)[0].ids == (13,)
    assert drafts.propose(3, 4)[0] == NO_DRAFT


def test_thoughts_without_a_group_are_kin_when_their_prompts_are_the_same() -> None:
    assert group_key(thought("a", [1, 2])) == group_key(thought("b", [1, 2])) != group_key(thought("c", [1, 3]))


def test_a_group_is_remembered_for_the_next_thought_but_not_for_ever() -> None:
    drafts = Drafts()
    document = list(range(1000))
    drafts.follow(1, thought("first", document, "job"), [*document, 1, 2])
    drafts.end(1)
    drafts.follow(2, thought("second", document, "job"), [*document, 500, 501, 502])
    assert drafts.propose(2, 2)[0].ids == (503, 504)
    drafts.end(2)

    for number in range(5):
        drafts.follow(number, thought(f"n{number}", [1], f"g{number}"), range(MOST_IDLE_NODES // 3))
        drafts.end(number)

    assert drafts.num_nodes <= MOST_IDLE_NODES


@pytest.mark.parametrize("room", [0, 1, 3])
def test_a_nearly_full_slot_gets_no_more_rows_than_fit(room: int) -> None:
    house = guessing_house([9], slots=1)
    house.model.streams.num_cells = 20 + 10 + room
    asked = request("t", range(20), 10)

    house.ask(asked)
    longest = 0
    while house.runner.turn():
        longest = max(longest, len(house.model.streams.held[0]))

    assert_right(house, asked)
    assert longest <= 30 + room
