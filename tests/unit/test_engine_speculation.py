"""How many guessed tokens pay, by arithmetic over chances and measured seconds."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from monk.engine.callcost import CallCost, RowCost
from monk.engine.lookup import Draft
from monk.engine.speculation import (
    FIRST_PROBE_STEPS,
    LAST_PROBE_STEPS,
    LEAST_GAIN,
    LONGEST_DRAFT,
    PLAIN_EVERY_STEPS,
    PROBE_DRAFT,
    Pacer,
    Wish,
    stream_passes,
)
from monk.engine.trust import Trust

SURE = tuple(0.97**place for place in range(1, LONGEST_DRAFT + 1))
DOUBTFUL = tuple(0.2**place for place in range(1, 5))


def taught(
    seconds_of_rows: dict[int, float], *, streams: bool = False, sequences: int = 1, most_rows: int = 64
) -> Pacer:
    """A pacer that has measured calls with these numbers of rows."""
    pacer = Pacer(streams=streams, most_rows=most_rows)
    for _ in range(20):
        for rows, seconds in seconds_of_rows.items():
            extra = rows // sequences - 1
            pacer.tell(range(sequences), [extra] * sequences, seconds)
        pacer.tell(range(sequences), [0] * sequences, seconds_of_rows[sequences])
    return pacer


def bandwidth_bound(rows: int) -> float:
    return 1.0 + 0.01 * rows


def compute_bound(rows: int) -> float:
    return 0.1 + 1.0 * rows


# --- trust


def test_trust_starts_careful_and_grows_with_the_length_of_the_match() -> None:
    trust = Trust()

    assert 0.0 < trust.chance(3) < trust.chance(6) < trust.chance(40) < 1.0


def test_guesses_that_held_are_believed_and_guesses_that_failed_are_not() -> None:
    copying, inventing = Trust(), Trust()
    for _ in range(40):
        copying.learn(Draft((1, 2, 3), 9), [1, 2, 3, 4])
        inventing.learn(Draft((1, 2, 3), 9), [7])

    assert copying.chance(9) > 0.9
    assert inventing.chance(9) < 0.1


def test_only_the_first_wrong_guess_counts_against_its_length() -> None:
    trust, untouched = Trust(), Trust()

    trust.learn(Draft((1, 2, 3), 3), [1, 9])

    assert trust.chance(3) > untouched.chance(3)
    assert trust.chance(4) < untouched.chance(4)
    assert trust.chance(5) == untouched.chance(5)


def test_a_new_thought_starts_from_what_the_others_saw() -> None:
    everybody = Trust()
    first = Trust(everybody)
    for _ in range(40):
        first.learn(Draft((1,), 3), [2])

    assert Trust(everybody).chance(3) < 0.1


def test_trust_follows_a_text_that_changes() -> None:
    trust = Trust()
    for right in [True] * 300 + [False] * 100:
        trust.learn(Draft((1,), 3), [1 if right else 2])

    assert trust.chance(3) < 0.25


@given(st.lists(st.tuples(st.integers(3, 20), st.booleans()), max_size=200), st.integers(3, 20))
def test_chances_stay_chances_and_reach_falls(past: list[tuple[int, bool]], matched: int) -> None:
    trust = Trust(Trust())
    for length, right in past:
        trust.learn(Draft((1,), length), [1 if right else 2])

    reach = trust.reach(Draft(tuple(range(8)), matched))

    assert all(0.0 < chance < 1.0 for chance in reach)
    assert all(left > right for left, right in itertools.pairwise(reach))


# --- costs


def test_costs_between_two_measurements_lie_between() -> None:
    cost = RowCost()
    cost.tell(1, 1.0)
    cost.tell(5, 3.0)

    assert cost.at(1) == 1.0
    assert cost.at(3) == 2.0
    assert cost.at(5) < cost.at(10)


def test_one_slow_step_is_no_news() -> None:
    cost = RowCost()
    for seconds in [1.0] * 20 + [500.0] + [1.0] * 20:
        cost.tell(4, seconds)

    assert 0.9 < cost.at(4) < 1.1


def test_one_bad_moment_does_not_decide_for_ever() -> None:
    cost = RowCost()
    cost.tell(1, 1.0)
    cost.tell(2, 1.1)
    cost.tell(16, 900.0)
    for step in range(2100):
        cost.tell(1 + step % 2, 1.0 + 0.1 * (step % 2))

    assert cost.at(16) < 10.0


def test_costs_grow_with_the_contexts_even_where_they_are_not_measured_again() -> None:
    cost = RowCost()
    cost.tell(1, 1.0)
    cost.tell(8, 2.0)
    for step in range(200):
        cost.tell(1, 1.0 + step / 100)

    assert 3.0 < cost.at(8) < 8.0


def test_a_number_of_sequences_not_seen_yet_borrows_the_curve() -> None:
    cost = CallCost()
    cost.tell([(1, 1)], 1.0)
    cost.tell([(1, 4)], 1.2)
    cost.tell([(2, 2)], 1.1)

    assert cost.knows(1, 4) and not cost.knows(2, 4)
    assert 1.1 < cost.at(2, 4) < 1.4


# --- passes


def test_neighbours_with_equal_rows_are_one_pass() -> None:
    assert stream_passes([0, 1, 2], [4, 4, 4]) == [(3, 12)]


def test_gaps_and_ragged_rows_cost_more_passes() -> None:
    assert stream_passes([0, 2, 3], [1, 1, 1]) == [(1, 1), (2, 2)]
    assert stream_passes([0, 1, 2, 3], [1, 4, 1, 4]) == [(4, 4), (1, 3), (1, 3)]
    assert stream_passes([0, 1], [3, 5]) == [(2, 6), (1, 2)]


@given(st.dictionaries(st.integers(0, 20), st.integers(1, 9), min_size=1))
def test_passes_compute_every_row_once(rows: dict[int, int]) -> None:
    slots = sorted(rows)

    passes = stream_passes(slots, [rows[slot] for slot in slots])

    assert sum(count for _, count in passes) == sum(rows.values())
    assert all(count % sequences == 0 for sequences, count in passes)


# --- the choice


def test_a_text_that_is_surely_copied_takes_long_drafts_where_rows_are_cheap() -> None:
    pacer = taught({rows: bandwidth_bound(rows) for rows in (1, 4, 8, 16)})

    assert pacer.choose([Wish(0, SURE)])[0] > 10


def test_doubtful_guesses_and_dear_rows_are_not_tried() -> None:
    cheap = taught({rows: bandwidth_bound(rows) for rows in (1, 4, 8, 16)})
    dear = taught({rows: compute_bound(rows) for rows in (1, 4, 8, 16)})

    assert cheap.choose([Wish(0, DOUBTFUL)])[0] <= 2
    assert dear.choose([Wish(0, SURE)]) == [0]
    assert cheap.choose([Wish(0)]) == [0]


def test_in_one_pass_only_those_draft_who_have_something_to_copy() -> None:
    pacer = taught({rows: bandwidth_bound(rows) for rows in (4, 8, 16, 32)}, sequences=4)

    counts = pacer.choose([Wish(0), Wish(1, SURE), Wish(2), Wish(3, DOUBTFUL)])

    assert counts[0] == counts[2] == 0
    assert counts[1] > 4 > counts[3]


def test_in_streams_all_bring_equally_many_rows_or_the_passes_are_paid_for() -> None:
    wishes = [Wish(0), Wish(1, SURE), Wish(2)]
    cheap = taught({rows: bandwidth_bound(rows) for rows in (3, 9, 15, 30)}, sequences=3, streams=True)
    dear = taught({rows: 1.0 + rows for rows in (3, 9, 15, 30)}, sequences=3, streams=True)

    together = cheap.choose(wishes)
    assert len(set(together)) == 1 and together[0] > 1
    assert dear.choose(wishes) == [0, 0, 0]


def test_no_sequence_gets_more_rows_than_its_memory_or_the_call_takes() -> None:
    costs = {rows: bandwidth_bound(rows) for rows in (2, 8, 16)}
    one_pass = taught(costs, sequences=2, most_rows=10)
    streams = taught(costs, sequences=2, streams=True, most_rows=10)

    assert one_pass.choose([Wish(0, SURE, room=2), Wish(1, SURE)]) == [2, 6]
    assert max(streams.choose([Wish(0, SURE, room=2), Wish(1, SURE)])) <= 4
    assert streams.choose([Wish(0, SURE, room=0), Wish(1, SURE)])[0] == 0


@given(
    st.lists(st.lists(st.floats(0.05, 0.99), max_size=4), min_size=1, max_size=3),
    st.floats(0.01, 1.0),
    st.floats(0.01, 1.0),
)
@settings(deadline=None, max_examples=60)
def test_no_other_choice_promises_more_in_one_pass(chances: list[list[float]], fixed: float, per_row: float) -> None:
    wishes = [Wish(slot, tuple(itertools.accumulate(row, lambda a, b: a * b))) for slot, row in enumerate(chances)]
    pacer = Pacer(streams=False, most_rows=64)
    most = len(wishes) + sum(map(len, chances))
    for _ in range(3):
        for rows in range(len(wishes), most + 1):
            counts = [rows - len(wishes), *[0] * (len(wishes) - 1)]
            pacer.tell(range(len(wishes)), counts, fixed + per_row * rows)

    def rate(counts: list[int]) -> float:
        tokens = len(counts) + sum(wish.worth(count) for wish, count in zip(wishes, counts, strict=True))
        return tokens / (fixed + per_row * (len(counts) + sum(counts)))

    best, _ = pacer._best(wishes)
    worth = [
        list(counts)
        for counts in itertools.product(*(range(len(row) + 1) for row in chances))
        if all(
            wish.reach[:count] == () or wish.reach[count - 1] >= 0.05
            for wish, count in zip(wishes, counts, strict=True)
        )
    ]
    assert rate(best) >= max(map(rate, worth)) * 0.999 / (1.0 if any(best) else LEAST_GAIN), (
        "it must be worth the doubt"
    )


# --- finding out


def test_what_rows_cost_is_found_out_by_a_short_trial() -> None:
    pacer = Pacer(streams=False, most_rows=64)
    steps = []
    for _ in range(3 * FIRST_PROBE_STEPS):
        counts = pacer.choose([Wish(0, SURE)])
        steps.append(counts[0])
        pacer.tell([0], counts, bandwidth_bound(1 + counts[0]))

    assert max(steps) > 8  # cheap rows were discovered and used


def test_where_rows_are_dear_trials_become_rare() -> None:
    pacer = taught({1: compute_bound(1), 4: compute_bound(4), 8: compute_bound(8)})
    trials = []
    for step in range(1900):
        counts = pacer.choose([Wish(0, SURE)])
        if any(counts):
            trials.append((step, counts[0]))
        pacer.tell([0], counts, compute_bound(1 + counts[0]))

    assert 2 <= len(trials) <= 8
    assert all(count <= PROBE_DRAFT for _, count in trials)
    gaps = [right[0] - left[0] for left, right in itertools.pairwise(trials)]
    assert gaps == sorted(gaps) and gaps[-1] <= 2 * LAST_PROBE_STEPS


def test_a_trial_that_splits_into_many_passes_is_not_made() -> None:
    pacer = taught({16: compute_bound(16)}, sequences=16, streams=True)
    wishes = [Wish(slot, SURE if slot % 2 else ()) for slot in range(16)]

    for _ in range(3 * FIRST_PROBE_STEPS):
        counts = pacer.choose(wishes)
        pacer.tell(range(16), counts, compute_bound(16 + sum(counts)))
        assert len(stream_passes(range(16), [1 + count for count in counts])) <= 2


def test_where_nothing_matches_no_step_ever_carries_a_guess() -> None:
    pacer = taught({1: 1.0})
    unlikely = tuple(0.04**place for place in range(1, 5))

    for wish in [Wish(0), Wish(0, unlikely)] * 2000:
        counts = pacer.choose([wish])
        assert counts == [0]
        pacer.tell([0], counts, 1.0)


def test_the_plain_step_is_not_forgotten_while_guessing_pays() -> None:
    pacer = taught({rows: bandwidth_bound(rows) for rows in (1, 4, 8, 16)})
    plain = 0
    for _ in range(4 * PLAIN_EVERY_STEPS):
        counts = pacer.choose([Wish(0, SURE)])
        plain += not any(counts)
        pacer.tell([0], counts, bandwidth_bound(1 + counts[0]))

    assert 3 <= plain <= 5


def test_rows_that_become_dear_switch_guessing_off() -> None:
    pacer = taught({rows: bandwidth_bound(rows) for rows in (1, 4, 8, 16)})
    drafts = []
    for _ in range(1000):
        counts = pacer.choose([Wish(0, SURE)])
        drafts.append(counts[0])
        pacer.tell([0], counts, compute_bound(1 + counts[0]) if any(counts) else 1.0)

    assert drafts[0] > 8
    assert sum(map(bool, drafts[600:])) < 40
