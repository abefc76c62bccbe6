"""Who gets the next slot, and why: a pure function over the line of waiting thoughts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from monk.engine.order import AGEING_SECONDS, HIGHEST_PRIORITY, URGENT_STEPS, Waiting, order, overtaking_seconds

SYSTEM = tuple(range(20))  # the words all prompts begin with


def prompt(document: int, question: int = 0, length: int = 200) -> npt.NDArray[np.int32]:
    """A prompt about a document, with a question of three tokens at its end."""
    return np.array([*SYSTEM, *[1000 + document] * length, question, question, 7], np.int32)


def waiting(arrival: int, document: int | None = None, question: int = 0, **fields: object) -> Waiting:
    tokens = prompt(arrival + 100 if document is None else document, question)
    return replace(Waiting(arrival, tokens, 100), **fields)  # type: ignore[arg-type]


def test_equal_thoughts_are_served_as_they_came() -> None:
    assert order([waiting(2, 1), waiting(0, 1), waiting(1, 1)]) == [1, 2, 0]
    assert order([]) == []
    assert order([waiting(0)]) == [0]


def test_priority_comes_before_everything_that_would_be_cheaper() -> None:
    line = [waiting(0, document=1, wave="law", max_new_tokens=900), waiting(1, document=2, priority=1)]

    assert order(line, held=[prompt(1)], wave="law") == [1, 0]


def test_a_pressing_deadline_lifts_a_thought_but_not_above_the_owner_s_clear_word() -> None:
    pressing = waiting(1, deadline_seconds=10.0)

    assert order([waiting(0), pressing], seconds_per_token=0.1) == [1, 0]
    assert order([waiting(0, priority=5), pressing], seconds_per_token=0.1) == [1, 0]
    assert order([waiting(0, priority=URGENT_STEPS + 1), pressing], seconds_per_token=0.1) == [0, 1]


def test_of_pressing_deadlines_the_nearest_is_first() -> None:
    line = [waiting(0, deadline_seconds=20.0), waiting(1, deadline_seconds=15.0)]

    assert order(line, seconds_per_token=0.1) == [1, 0]


def test_a_deadline_that_is_far_or_gone_does_not_press() -> None:
    for seconds in (1e6, -1.0):
        assert order([waiting(0), waiting(1, 100, deadline_seconds=seconds)], seconds_per_token=0.1) == [0, 1]


def test_the_running_wave_is_used_up_before_another_begins() -> None:
    line = [waiting(0, 1, wave="law"), waiting(1, 1), waiting(2, 1, wave="law"), waiting(3, 1, wave="tax")]

    assert order(line, wave="tax") == [3, 0, 2, 1]
    assert order(line, wave=None) == [1, 0, 2, 3]


def test_questions_on_one_document_run_back_to_back() -> None:
    line = [waiting(0, 1, 11), waiting(1, 2, 12), waiting(2, 1, 13), waiting(3, 2, 14)]

    assert order(line) == [0, 2, 1, 3]


def test_what_a_slot_holds_is_used_before_it_is_pushed_out() -> None:
    line = [waiting(0, 1), waiting(1, 2), waiting(2, 3)]

    assert order(line, held=[prompt(3, question=9), prompt(8)])[0] == 2


def test_words_that_all_prompts_begin_with_make_no_family() -> None:
    short, long = waiting(0, 1, max_new_tokens=50), waiting(1, 2, max_new_tokens=900)

    assert order([short, long, waiting(2, 1, max_new_tokens=50)], held=[np.array(SYSTEM, np.int32)]) == [1, 0, 2]


def test_long_answers_start_first_so_that_short_ones_fill_the_end() -> None:
    line = [waiting(0, max_new_tokens=10), waiting(1, max_new_tokens=1000), waiting(2, max_new_tokens=100)]

    assert order(line) == [1, 2, 0]


def test_waiting_wins_over_what_is_cheaper() -> None:
    old = waiting(0, 1, waited_seconds=AGEING_SECONDS + 1, max_new_tokens=1)
    cheaper = [waiting(number, 2, number, max_new_tokens=900) for number in range(1, 6)]

    assert order([*cheaper, old], held=[prompt(2)])[0] == 5


THOUGHTS = st.builds(
    lambda document, question, priority, deadline, wave, new: waiting(
        1, document, question, priority=priority, deadline_seconds=deadline, wave=wave, max_new_tokens=new
    ),
    st.integers(0, 3),
    st.integers(0, 9),
    st.integers(-HIGHEST_PRIORITY, HIGHEST_PRIORITY),
    st.none() | st.floats(-1e5, 1e5),
    st.sampled_from([None, "law", "tax"]),
    st.integers(1, 4000),
)
MOMENTS = st.floats(0, 4 * 200 * AGEING_SECONDS)


@given(st.lists(THOUGHTS, max_size=12))
@settings(deadline=None, max_examples=100)
def test_everyone_is_in_the_order_once(line: list[Waiting]) -> None:
    assert sorted(order(line, wave="law", seconds_per_token=0.5)) == list(range(len(line)))


@given(THOUGHTS, st.lists(st.tuples(THOUGHTS, MOMENTS), min_size=1, max_size=8), MOMENTS)
@settings(deadline=None, max_examples=200)
def test_nobody_who_comes_late_enough_gets_before_a_thought_whatever_it_is(
    thought: Waiting, others: list[tuple[Waiting, float]], waited: float
) -> None:
    """So each thought has only finitely many before it, and is served: nothing starves."""
    line = [replace(thought, arrival=0, waited_seconds=waited)]
    line += [replace(item, arrival=1, waited_seconds=min(moment, waited)) for item, moment in others]

    placed = order(line, held=[prompt(1)], wave="tax", seconds_per_token=0.5)

    for at in placed[: placed.index(0)]:
        assert line[0].waited_seconds - line[at].waited_seconds < overtaking_seconds(thought.priority)


def test_a_thought_of_the_lowest_priority_is_served_under_a_flood_of_the_highest() -> None:
    lowly = waiting(0, priority=-HIGHEST_PRIORITY)
    served_after = None
    seconds_per_service = overtaking_seconds(-HIGHEST_PRIORITY) / 50
    for step in range(60):
        now = step * seconds_per_service
        flood = waiting(step + 1, 3, priority=HIGHEST_PRIORITY, deadline_seconds=1.0)
        if order([replace(lowly, waited_seconds=now), flood], held=[prompt(3)], seconds_per_token=1.0)[0] == 0:
            served_after = step
            break

    assert served_after is not None and 40 <= served_after <= 51
