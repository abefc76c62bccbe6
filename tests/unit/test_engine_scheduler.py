"""What enters a batch and who gets which slot: arithmetic, tested without a model."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monk.engine.scheduler import (
    LEAST_SHARED,
    Decode,
    Placement,
    Prefill,
    Scheduler,
    SlotView,
    Work,
    compaction,
    least_shared_tokens,
    place,
)

PROMPT = np.arange(100, dtype=np.int32)


def scheduler(chunk: int = 512, slice_seconds: float = 1.0, share: float = 0.25) -> Scheduler:
    return Scheduler(chunk, slice_seconds, share)


def test_nothing_to_do_is_no_step() -> None:
    assert scheduler().next_step([]) is None
    assert scheduler().next_step([Work(0, 0, 9, blocked=True)]) is None


def test_prompts_are_computed_in_order_of_arrival_and_in_chunks() -> None:
    step = scheduler(chunk=100).next_step([Work(0, 2, 50), Work(1, 1, 250)])

    assert step == Prefill(slot=1, num_tokens=100)


def test_all_decoding_slots_share_a_step_in_rising_order() -> None:
    assert scheduler().next_step([Work(2, 0, 1), Work(0, 1, 1), Work(1, 2, 1, blocked=True)]) == Decode((0, 2))


def test_during_a_long_prefill_running_thoughts_get_their_share_of_time() -> None:
    plan = scheduler(chunk=512, slice_seconds=1.0, share=0.25)
    works = [Work(0, 0, 1), Work(1, 1, 10_000_000)]
    clock = {"prefill": 0.0, "decode": 0.0}
    longest_wait = waited = 0.0
    for _ in range(3000):
        step = plan.next_step(works)
        if isinstance(step, Prefill):
            seconds = step.num_tokens * 0.001
            plan.did_prefill(step.num_tokens, seconds, others_waited=True)
            clock["prefill"] += seconds
            waited += seconds
        else:
            plan.did_decode(0.05)
            clock["decode"] += 0.05
            longest_wait, waited = max(longest_wait, waited), 0.0

    assert longest_wait <= 1.2
    assert 0.2 < clock["decode"] / (clock["prefill"] + clock["decode"]) < 0.3


def test_a_chunk_shrinks_to_the_rest_of_the_slice_when_others_wait() -> None:
    plan = scheduler(chunk=512)
    plan.did_prefill(100, 1.0, others_waited=False)

    waited_for = plan.next_step([Work(0, 0, 1), Work(1, 1, 9000)])
    alone = plan.next_step([Work(1, 1, 9000)])

    assert waited_for == Prefill(1, 100)
    assert alone == Prefill(1, 512)


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 3000)), min_size=1, max_size=8), st.integers(16, 512))
def test_everything_ends(thoughts: list[tuple[int, int]], chunk: int) -> None:
    plan = scheduler(chunk=chunk, slice_seconds=0.1)
    answers = {slot: answer for slot, (answer, _) in enumerate(thoughts)}
    pending = {slot: prompt for slot, (_, prompt) in enumerate(thoughts)}
    for _ in range(sum(answer for answer, _ in thoughts) + sum(prompt for _, prompt in thoughts) + 10):
        step = plan.next_step([Work(slot, slot, pending[slot]) for slot in answers])
        if step is None:
            break
        if isinstance(step, Prefill):
            assert 1 <= step.num_tokens <= min(chunk, pending[step.slot])
            plan.did_prefill(step.num_tokens, step.num_tokens * 0.001, others_waited=True)
            pending[step.slot] = max(1, pending[step.slot] - step.num_tokens)
            continue
        plan.did_decode(0.01)
        for slot in step.slots:
            answers[slot] -= 1
            if not answers[slot]:
                del answers[slot]
    assert not answers


def view(slot: int, *, free: bool, tokens: np.ndarray = PROMPT[:0], computed: int = 0, last_used: int = 0) -> SlotView:
    return SlotView(slot, free, tokens.astype(np.int32), computed, last_used)


def test_the_lowest_empty_slot_is_taken_first() -> None:
    slots = [view(0, free=False, tokens=PROMPT + 500), view(1, free=True), view(2, free=True)]

    assert place(PROMPT, slots, can_trim=True) == Placement(1)
    assert place(PROMPT, slots[:1], can_trim=True) is None


def test_of_used_slots_the_one_forgotten_longest_is_taken() -> None:
    slots = [
        view(0, free=True, tokens=PROMPT + 300, computed=100, last_used=9),
        view(1, free=True, tokens=PROMPT + 500, computed=100, last_used=4),
    ]

    assert place(PROMPT, slots, can_trim=True) == Placement(1)


def test_a_beginning_left_in_a_free_slot_is_kept_but_for_the_last_token() -> None:
    slots = [view(0, free=True), view(1, free=True, tokens=PROMPT, computed=100)]

    assert place(PROMPT, slots, can_trim=True) == Placement(1, kept=99)
    assert place(PROMPT[:60], slots, can_trim=True) == Placement(1, kept=59)


def test_a_beginning_that_a_neighbour_is_computing_is_waited_for() -> None:
    other = np.concatenate([PROMPT[:80], PROMPT[:30] + 700])
    slots = [view(0, free=False, tokens=other, computed=10), view(1, free=True)]

    assert place(PROMPT, slots, can_trim=True) == Placement(1, 0, source=0, shared=80)


def test_an_identical_prompt_is_shared_whole_while_it_is_prefilled() -> None:
    fresh = [view(0, free=False, tokens=PROMPT, computed=0), view(1, free=True)]
    later = [view(0, free=False, tokens=PROMPT, computed=110), view(1, free=True)]

    assert place(PROMPT, fresh, can_trim=True) == Placement(1, 0, source=0, shared=100)
    assert place(PROMPT, later, can_trim=True) == Placement(1, 0, source=0, shared=99)


def test_memory_that_cannot_be_cut_is_shared_only_whole() -> None:
    longer = np.concatenate([PROMPT, PROMPT[:5]])
    partly = [view(0, free=False, tokens=longer, computed=0), view(1, free=True)]
    whole = [view(0, free=False, tokens=PROMPT, computed=0), view(1, free=True)]
    left_behind = [view(0, free=True, tokens=PROMPT, computed=100)]

    assert place(PROMPT, partly, can_trim=False) == Placement(1)
    assert place(longer, whole, can_trim=False) == Placement(1, 0, source=0, shared=100)
    assert place(PROMPT, left_behind, can_trim=False) == Placement(0)
    assert place(longer, left_behind, can_trim=False) == Placement(0, kept=100)


def test_short_beginnings_are_not_worth_a_copy() -> None:
    other = np.concatenate([PROMPT[: LEAST_SHARED - 1], PROMPT + 700])
    slots = [view(0, free=False, tokens=other), view(1, free=True)]

    assert place(PROMPT, slots, can_trim=True) == Placement(1)
    assert least_shared_tokens(4_000_000_000, 0.01) == 200
    assert least_shared_tokens(4_000_000_000, 0.0) == LEAST_SHARED


def test_a_gap_is_closed_when_its_cost_over_the_rest_is_higher_than_a_move() -> None:
    active = [(0, 500), (3, 400)]

    assert compaction(active, weight_bytes=10**9, stream_bytes=10**9) == (3, 1)
    assert compaction(active, weight_bytes=10**6, stream_bytes=10**9) is None
    assert compaction([(0, 500), (1, 400)], weight_bytes=10**9, stream_bytes=1) is None
    assert compaction([], weight_bytes=1, stream_bytes=1) is None
