"""The thinking part of an answer, by token ids alone: when it is open, when it is ended, what is the answer."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monk.engine.client import Thinking, ThoughtRequest
from monk.engine.part import ThinkingPart
from monk.engine.request import check_request
from monk.errors import InvalidInput
from tests.engine_house import House, request, words_of
from tests.engine_lanes import END, next_token

OPEN, CLOSE = 90, 91
MARKS = Thinking(opening=(OPEN,), ending=(CLOSE,), closing=(70, 71, CLOSE), tokens=5)
CHANNELS = Thinking(opening=(80, 81, 82), ending=(80, 83, 82), closing=(84, 80, 83, 82), tokens=8)


def said_by(marks: Thinking, model: list[int]) -> tuple[list[int], ThinkingPart]:
    """The answer when the model says these tokens one after another, unless one is forced."""
    part, said, rest = ThinkingPart(marks), list[int](), list(model)
    while rest or part.forced is not None:
        said.append(part.forced if part.forced is not None else rest.pop(0))
        part.push(said[-1])
    return said, part


def test_a_part_that_ends_in_time_is_left_alone() -> None:
    said, part = said_by(MARKS, [OPEN, 1, 2, CLOSE, 3, 4, 5, 6, 7, 8])

    assert said == [OPEN, 1, 2, CLOSE, 3, 4, 5, 6, 7, 8]
    assert (part.num_tokens, part.was_cut, part.is_open) == (4, False, False)


def test_a_part_whose_budget_is_used_up_is_ended_and_the_answer_follows() -> None:
    said, part = said_by(MARKS, [OPEN, 1, 2, 3, 4, 5, 6])

    assert said == [OPEN, 1, 2, 3, 4, 70, 71, CLOSE, 5, 6]
    assert (part.num_tokens, part.was_cut, part.is_open) == (5, True, False)


def test_a_prompt_that_opened_the_part_leaves_the_model_in_it() -> None:
    said, _ = said_by(replace(MARKS, opened=True, tokens=2), [1, 2, 3, 4])

    assert said == [1, 2, 70, 71, CLOSE, 3, 4]


def test_an_answer_that_does_not_think_is_never_touched() -> None:
    said, part = said_by(MARKS, [1, OPEN, 2, 3, 4, 5, 6, 7, 8, 9])

    assert said == [1, OPEN, 2, 3, 4, 5, 6, 7, 8, 9]
    assert part.num_tokens == 0


def test_no_tokens_to_think_end_the_part_as_soon_as_it_is_opened() -> None:
    said, _ = said_by(replace(MARKS, closing=(CLOSE,), tokens=0), [OPEN, 1, 2])

    assert said == [OPEN, CLOSE, 1, 2]


def test_without_a_limit_a_part_only_tells_where_the_answer_begins() -> None:
    part = ThinkingPart(replace(MARKS, tokens=None))

    belongs = [part.push(token) for token in (OPEN, *range(50), CLOSE, 1)]

    assert belongs == [True] * 52 + [False]


def test_marks_of_several_tokens_are_known_by_all_of_them() -> None:
    in_time, part = said_by(CHANNELS, [80, 81, 82, 1, 80, 83, 82, 2])
    assert in_time[-1] == 2 and not part.was_cut and not part.is_open

    late, part = said_by(CHANNELS, [80, 81, 82, 1, 2, 3, 4, 5, 6])
    assert late == [80, 81, 82, 1, 2, 3, 4, 5, 84, 80, 83, 82, 6] and part.was_cut

    direct, part = said_by(CHANNELS, [80, 83, 82, 1, 2, 3, 4, 5, 6, 7])  # straight to the answer's channel
    assert direct == [80, 83, 82, 1, 2, 3, 4, 5, 6, 7] and not part.is_open


@given(st.lists(st.sampled_from([OPEN, CLOSE, 70, 71, 1, 2]), max_size=24), st.integers(0, 8), st.booleans())
def test_whatever_is_said_a_replay_of_its_beginning_goes_on_alike(model: list[int], tokens: int, opened: bool) -> None:
    marks = replace(MARKS, tokens=tokens, opened=opened)
    said, part = said_by(marks, model)

    for cut in range(len(said) + 1):
        replayed = ThinkingPart.behind(marks, tuple(said[:cut]))
        for token in said[cut:]:
            assert replayed.forced in (None, token)
            replayed.push(token)
        assert (replayed.num_tokens, replayed.was_cut, replayed.is_open) == (
            part.num_tokens,
            part.was_cut,
            part.is_open,
        )


@pytest.mark.parametrize(
    ("marks", "told"),
    [
        (replace(MARKS, tokens=-1), "-1 tokens to think"),
        (replace(MARKS, tokens=30), "leave nothing of max_tokens 20"),
        (replace(MARKS, closing=()), "without marks"),
        (replace(MARKS, ending=(999,)), "thinking has token 999"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused_with_its_figures(marks: Thinking, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        check_request(ThoughtRequest("t", (1, 2), 20, thinking=marks), vocab_size=100, context=4096)


# ── on the engine loop, with a model that is a table ──────────────────────────────────────────────────────────────────


def thinking(name: str, seed: int, saved: tuple[int, ...] = (), tokens: int = 6) -> ThoughtRequest:
    marks = Thinking((OPEN,), (CLOSE,), (70, 71, CLOSE), opened=True, tokens=tokens)
    return replace(request(name, range(seed, seed + 20), 24, saved), thinking=marks)


def whole(one: ThoughtRequest) -> list[int]:
    """Tokens of an undisturbed run, worked out by hand."""
    assert one.thinking is not None
    part, answer = ThinkingPart(one.thinking), list[int]()
    while len(answer) < one.max_tokens:
        token = part.forced if part.forced is not None else next_token([*one.prompt, *answer])
        if token == END:
            break
        part.push(token)
        answer.append(token)
    return answer


@pytest.mark.parametrize("speculates", [False, True])
def test_thoughts_are_made_to_answer_in_any_company(speculates: bool) -> None:
    house = House(slots=4, speculates=speculates, fork_cells=600)
    asked = [thinking(f"t{seed}", seed % 5, tokens=seed) for seed in range(2, 14)] + [request("plain", range(30), 24)]

    house.ask(*asked)
    house.work()

    for item in asked[:-1]:
        answer = whole(item)
        assert house.end_of(item.id).text == words_of(answer), item.id  # type: ignore[union-attr]
        assert answer[item.thinking.tokens :][:3] == [70, 71, CLOSE]  # type: ignore[union-attr,misc]


def test_a_thought_cut_anywhere_goes_on_as_if_it_had_not_been() -> None:
    answer = whole(thinking("whole", 3))

    for cut in range(len(answer)):
        house = House(slots=2)
        house.ask(thinking("cut", 3, saved=tuple(answer[:cut])))
        house.work()
        assert house.end_of("cut").text == words_of(answer), f"cut at {cut}"  # type: ignore[union-attr]


def test_a_forced_token_that_would_end_an_answer_does_not() -> None:
    marks = Thinking((OPEN,), (END, CLOSE), (END, CLOSE), opened=True, tokens=3)
    one = replace(request("t", range(20), 16), thinking=marks)
    answer = whole_with_end(one)

    for cut in (0, 3, 4, 5):
        house = House(slots=1)
        house.ask(replace(one, saved=tuple(answer[:cut])))
        house.work()
        assert house.end_of("t").text == words_of(answer), f"cut at {cut}"  # type: ignore[union-attr]


def whole_with_end(one: ThoughtRequest) -> list[int]:
    assert one.thinking is not None
    part, answer = ThinkingPart(one.thinking), list[int]()
    while len(answer) < one.max_tokens:
        forced = part.forced
        token = forced if forced is not None else next_token([*one.prompt, *answer])
        if token == END and forced is None:
            break
        part.push(token)
        answer.append(token)
    return answer


def test_two_budgets_make_two_thoughts_of_one_prompt() -> None:
    house = House(slots=4)
    asked = [thinking("a", 3, tokens=4), thinking("b", 3, tokens=8), thinking("c", 3, tokens=8)]

    house.ask(*asked)
    house.work()

    assert house.runner.counters.deduplicated == 1
    for item in asked:
        assert house.end_of(item.id).text == words_of(whole(item))  # type: ignore[union-attr]
