"""A lane with seats: thoughts that sit in its slots, computed together, and put right again when a call ends badly.

Works on sequences and runs of tokens; which thoughts get in, and what a slot holds at first, is told by those who build
on it (`streams.py`, `forks.py`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from monk.engine.counters import Counters
from monk.engine.guessing import Guessing
from monk.engine.native import ABORTED, DONE, Lane, Logits, Phase, Run
from monk.engine.scheduler import Decode, Scheduler, Work
from monk.engine.sequence import LaneName, Sequence, Tokens
from monk.engine.voice import Voice
from monk.errors import EngineFailed


@dataclass(slots=True)
class Slot:
    """A sequence of the lane and what it holds. After its owner is gone, `tokens` stay until somebody needs the slot."""

    number: int
    owner: Sequence | None = None
    tokens: Tokens = None  # type: ignore[assignment]  # set below: dataclasses refuse arrays as defaults
    last_used: int = 0

    def __post_init__(self) -> None:
        self.tokens = np.zeros(0, np.int32)


Part = tuple[Sequence, Run]


class Hall:
    """One thread. `numbers` are the slots thoughts may sit in."""

    name: LaneName

    def __init__(
        self,
        lane: Lane,
        numbers: Iterable[int],
        scheduler: Scheduler,
        voice: Voice,
        counters: Counters,
        guessing: Guessing,
    ) -> None:
        self._lane = lane
        self._guessing = guessing
        self._scheduler = scheduler
        self._voice = voice
        self._counters = counters
        self._slots = {number: Slot(number) for number in numbers}

    @property
    def owners(self) -> list[Sequence]:
        return [slot.owner for slot in self._slots.values() if slot.owner is not None]

    @property
    def has_free_slot(self) -> bool:
        return any(slot.owner is None for slot in self._slots.values())

    def works(self) -> list[Work]:
        return [
            Work(
                owner.slot,
                owner.order,
                owner.pending,
                blocked=self._is_blocked(owner),
                lane=self.name,
                hurried=owner.request.priority > 0,
            )
            for owner in self.owners
        ]

    def _is_blocked(self, sequence: Sequence) -> bool:
        raise NotImplementedError

    def _owner(self, number: int) -> Sequence:
        owner = self._slots[number].owner
        assert owner is not None, "a step was planned for an empty slot"
        return owner

    # --- steps

    def decode(self, step: Decode) -> None:
        """The last token of each, with the guesses behind it that pay; the wall time is divided by rows."""
        started = time.perf_counter()
        bundles = self._guessing.bundles([self._owner(number) for number in step.slots], self._room)
        if self._compute([(bundle.sequence, bundle.run) for bundle in bundles], "decode") is not None:
            self._guessing.learn(bundles, time.perf_counter() - started)

    def _room(self, sequence: Sequence) -> int:
        """Rows the sequence's memory takes beside that of its last token."""
        raise NotImplementedError

    def _prefill_part(self, sequence: Sequence, most: int) -> Part:
        """The next tokens of a prompt; logits when they are its last."""
        count = min(most, sequence.pending)
        tokens = np.asarray(sequence.tokens[sequence.computed : sequence.computed + count], np.int32)
        return sequence, Run(sequence.slot, sequence.computed, tokens, int(count == sequence.pending))

    def _compute(self, parts: list[Part], phase: Phase) -> float | None:
        """Compute the runs in one call and draw where logits came. Its seconds, or None if it did not end well."""
        code, seconds = self._counters.timed(lambda: self._lane.decode([run for _, run in parts], phase))
        self._account(parts, phase, seconds)
        if code != DONE:
            self._recover(parts, phase, code)
            return None
        for sequence, run in parts:
            sequence.computed += len(run.tokens) - run.num_guesses
            if phase == "prefill":
                sequence.num_prefilled += len(run.tokens)
                self._counters.prefill_tokens += len(run.tokens)
                self._voice.progress(sequence, sequence.computed)
        self._hear([(sequence, run) for sequence, run in parts if run.outputs])
        return seconds

    def _hear(self, parts: list[Part]) -> None:
        """Draw from the logits of a call."""
        num_rows = sum(run.outputs for _, run in parts)
        if not num_rows:
            return
        logits = self._lane.logits(num_rows)
        if num_rows == len(parts):
            self._draw([sequence for sequence, _ in parts], logits)
            return
        first = 0
        for sequence, run in parts:
            self._voice.draw_run(sequence, run.guesses, logits[first : first + run.outputs])
            self._cut_back(sequence, run.slot)
            first += run.outputs

    def _cut_back(self, sequence: Sequence, number: int) -> None:
        """Take the rows of rejected guesses out of the slot, also when the sequence has just left it."""
        slot = self._slots[number]
        if slot.owner is sequence:
            self._resync(sequence)
        elif self._lane.num_computed(number) > len(slot.tokens) and not self._lane.trim(number, len(slot.tokens)):
            self._lane.clear(number)
            slot.tokens = slot.tokens[:0]

    def _account(self, parts: list[Part], phase: Phase, seconds: float) -> None:
        total = sum(len(run.tokens) for _, run in parts)
        if phase == "prefill":
            self._counters.prefill_seconds += seconds
        else:
            self._counters.decode_seconds += seconds
            self._scheduler.did_decode(seconds)
        for sequence, run in parts:
            share = seconds * len(run.tokens) / total
            if phase == "prefill":
                sequence.prefill_seconds += share
            else:
                sequence.decode_seconds += share

    def _draw(self, sequences: list[Sequence], logits: Logits) -> None:
        self._voice.draw(sequences, logits)

    # --- after a step that did not end well

    def _recover(self, parts: list[Part], phase: Phase, code: int) -> None:
        """Put KV and bookkeeping back in step, and single out who cannot go on."""
        for sequence, _ in parts:
            self._resync(sequence)
        if code == ABORTED:
            return
        if len(parts) == 1 and not parts[0][1].num_guesses:
            self._refuse(parts[0][0], code)
            return
        for sequence, run in parts:
            if sequence.computed == run.start:  # else its memory had to be dropped: it is prefilled again
                self._compute([(sequence, run.without_guesses())], phase)

    def _refuse(self, sequence: Sequence, code: int) -> None:
        text = f"llama.cpp refused a batch (code {code}); the thought cannot go on"
        self._voice.fail(sequence, EngineFailed(text, return_code=code))

    def _resync(self, sequence: Sequence) -> None:
        """Make the slot hold exactly `computed` tokens again; if that is impossible, what it holds at first."""
        held = self._lane.num_computed(sequence.slot)
        if held == sequence.computed:
            return
        if held < sequence.computed or not self._lane.trim(sequence.slot, sequence.computed):
            self._reset(sequence)

    def _reset(self, sequence: Sequence) -> None:
        self._lane.clear(sequence.slot)
        sequence.computed = 0
