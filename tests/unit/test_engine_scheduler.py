"""What enters a batch: arithmetic, tested without a model."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from monk.engine.scheduler import Decode, Prefill, Scheduler, Step, Work


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
            assert 1 <= step.num_tokens <= chunk
            assert step.num_tokens >= min(pending[step.slot], 16)
            plan.did_prefill(step.num_tokens, step.num_tokens * 0.001, others_waited=True)
            pending[step.slot] = max(1, pending[step.slot] - step.num_tokens)
            continue
        plan.did_decode(0.01)
        for slot in step.slots:
            answers[slot] -= 1
            if not answers[slot]:
                del answers[slot]
    assert not answers


def test_two_lanes_that_decode_take_turns() -> None:
    plan = scheduler()
    works = [Work(0, 0, 1), Work(1, 1, 1), Work(1, 2, 1, lane="fork")]

    steps: list[Step | None] = [plan.next_step(works) for _ in range(4)]

    streams, forks = Decode((0, 1)), Decode((1,), "fork")
    assert steps in ([streams, forks] * 2, [forks, streams] * 2)


def test_the_last_token_of_a_reading_is_prefilled_not_decoded() -> None:
    assert scheduler().next_step([Work(0, 0, 1, lane="study")]) == Prefill(0, 1, "study")


def test_members_of_a_fork_are_prefilled_together_up_to_a_chunk() -> None:
    works = [Work(slot, slot, 30, lane="fork") for slot in range(1, 5)]

    assert scheduler(chunk=512).next_step(works) == Prefill(1, 120, "fork")
    assert scheduler(chunk=64).next_step(works) == Prefill(1, 64, "fork")


def test_each_lane_has_its_own_speed() -> None:
    plan = scheduler(chunk=512)
    plan.did_prefill(100, 1.0, others_waited=False)
    plan.did_prefill(1000, 1.0, others_waited=False, lane="study")
    waiting = Work(0, 9, 1)

    assert plan.next_step([waiting, Work(1, 1, 9000)]) == Prefill(1, 100)
    assert plan.next_step([waiting, Work(0, 1, 9000, lane="study")]) == Prefill(0, 512, "study")


def test_time_spent_on_fetching_counts_but_is_no_speed() -> None:
    plan = scheduler(slice_seconds=1.0)
    works = [Work(0, 0, 1), Work(0, 1, 9000, lane="study")]

    plan.did_prefill(0, 1.5, others_waited=True, lane="study")

    assert plan.next_step(works) == Decode((0,))
    assert plan.prefill_seconds_per_token == 0.0


def test_a_batch_that_is_soon_complete_is_waited_for() -> None:
    plan = scheduler(chunk=512, slice_seconds=1.0)
    plan.did_prefill(500, 1.0, others_waited=False)
    plan.did_prefill(500, 1.0, others_waited=True)
    few, many = [Work(1, 1, 3000)], [Work(1, 1, 9000)]

    assert plan.next_step([Work(0, 0, 1), *few]) == Prefill(1, 512), "seven seconds in all"
    assert plan.next_step([Work(0, 0, 1), *many]) == Decode((0,)), "nineteen"
    assert plan.next_step([Work(0, 0, 1, hurried=True), *few]) == Decode((0,))


def test_nobody_waits_longer_than_ten_slices_for_prompts_that_keep_coming() -> None:
    plan = scheduler(chunk=512, slice_seconds=1.0)
    plan.did_prefill(512, 1.0, others_waited=False)
    waited = 0.0
    while plan.next_step([Work(0, 0, 1), Work(1, 1, 500)]) != Decode((0,)):
        plan.did_prefill(500, 1.0, others_waited=True)
        waited += 1.0

    assert waited <= 10.0
