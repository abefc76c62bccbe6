"""Which lane a thought goes to, and how it gets from one to the next.

    waiting ──admit──▶ streams                      alone, with a memory of its own
               │          └──▶ study ──▶ streams    the same; its long prompt is computed in the prefill lane
               └────────▶ study ──▶ forks           together with others, from one long beginning

The lanes beside the streams are opened when first needed. A model whose memory cannot be cut, or a plan without room for
them, works with streams alone.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from monk.engine.archive import Archive
from monk.engine.client import AS_ITS_FILE_SAYS, AdapterUse, ModelUse, wave_of
from monk.engine.counters import Counters
from monk.engine.drafts import Drafts
from monk.engine.forks import Forks
from monk.engine.frames import Image
from monk.engine.grouping import CELL_RATIO, LEAST_SHARED_TOKENS, Candidate, Group, Prices, best_group
from monk.engine.guessing import Guessing
from monk.engine.line import Line
from monk.engine.model_use import DENSE, OwnSettings
from monk.engine.native import Lane, Logits, Model
from monk.engine.placement import COPY_BYTES_PER_SECOND
from monk.engine.scheduler import Prefill, Scheduler, Step, Work
from monk.engine.sequence import Sequence, Tokens, common_prefix
from monk.engine.speculation import Pacer
from monk.engine.streams import StreamFacts, Streams
from monk.engine.study import Reading, Study
from monk.engine.voice import Voice
from monk.errors import MonkError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunnerConfig:
    """The engine's settings after all choices were made."""

    context: int
    block_tokens: int = 1024  # a prompt that misses at least this many tokens is computed in the prefill lane
    prefill_slice_seconds: float = 1.0
    decode_share: float = 0.25
    flush_seconds: float = 0.1
    share_prefixes: bool = True
    speculates: bool = False  # guesses tokens, where that pays and the model's memory can be cut back
    own: OwnSettings = DENSE
    house: ModelUse = AS_ITS_FILE_SAYS  # what the model runs with where a thought says nothing

    cell_ratio: float = CELL_RATIO  # as measured, like the next one, if it was
    copy_bytes_per_second: float = COPY_BYTES_PER_SECOND


class Lanes:
    """All of them, and `line` before them. One thread. `archive`: where blocks of KV are kept, if anywhere."""

    def __init__(
        self,
        model: Model,
        config: RunnerConfig,
        scheduler: Scheduler,
        voice: Voice,
        counters: Counters,
        archive: Archive | None,
    ) -> None:
        self._model = model
        self._config = config
        self._scheduler = scheduler
        self._voice = voice
        self._counters = counters
        self._keeps_blocks = archive is not None and model.can_trim
        self._drafts = Drafts() if config.speculates and model.can_trim else None
        self._archive = archive
        self._open_halls()
        self._at_home()
        self.line = Line(model.can_trim, lambda: scheduler.decode_step_seconds)
        self._news = False  # somebody came or went since groups were last looked for
        if not model.can_trim:
            log.info("this model's memory cannot be cut: prompts are neither kept on disk nor forked")

    def _open_halls(self) -> None:
        """Over the model's contexts as they are now."""
        model, config, rest = self._model, self._config, (self._scheduler, self._voice, self._counters)
        self._layout = layout = model.layout
        self._scheduler.chunk = layout.chunk
        facts = StreamFacts(
            model.can_trim,
            layout.weight_bytes,
            layout.stream_bytes,
            config.share_prefixes,
            config.copy_bytes_per_second,
        )
        self._lane = model.streams
        guessing = self._guessing_in(self._lane, streams=not layout.in_place)
        slots = range(1) if layout.in_place else range(self._lane.num_sequences)
        self._streams = Streams(self._lane, slots, facts, *rest, guessing, self._send_to_study)
        self._study = Study(self._open_study, self._archive, self._streams, *rest, layout.in_place)
        self._forks: Forks | None = None
        self._may_fork = model.can_trim and config.share_prefixes and not layout.flash_attention and not layout.in_place

    def _open_study(self) -> Lane | None:
        return self._model.streams if self._layout.in_place else self._model.open_lane("prefill")

    def _at_home(self) -> None:
        """The model is bare, and runs as it does for the house."""
        self._join_wave((), self._config.house)

    def _join_wave(self, adapters: tuple[AdapterUse, ...], model: ModelUse) -> None:
        """Of those who are seated; the others wait until all of them have left."""
        self.model_use, self.adapters = model, adapters
        self._wave = wave_of(adapters, model)
        if self._archive is not None:
            self._archive.wave = self._wave

    def _guessing_in(self, lane: Lane, *, streams: bool) -> Guessing:
        pacer = Pacer(streams=streams, most_rows=min(lane.most_outputs, lane.most_tokens))
        return Guessing(self._drafts, pacer, self._counters)

    # --- the line

    def enter(self, sequence: Sequence) -> None:
        self.line.enter(sequence)
        self._news = True

    @property
    def num_seated(self) -> int:
        return len(self._streams.owners) + (len(self._forks.owners) if self._forks is not None else 0)

    def admit(self) -> None:
        """Seats for as many as there are, in the best order; then copies and moves that have become possible."""
        if self._wave_goes_on():
            if self._news:
                self._news = False
                self._form_group()
                self._join_forks()
                self._hold_back()
            self._seat_in_streams()
        self._streams.settle(somebody_waits=bool(self.line))

    def _seat_in_streams(self) -> None:
        """Who comes next may depend on who has just been seated."""
        while self._streams.has_free_slot:
            sequence = self.line.next_for_streams(self._wave, self._held)
            if sequence is None:
                return
            self.line.leave(sequence)
            self._streams.seat(sequence)

    @property
    def _held(self) -> list[Tokens]:
        """What the slots hold or will hold."""
        return [owner.row for owner in self._streams.owners]

    def _wave_goes_on(self) -> bool:
        """False while slots must run empty because the next in the line needs another wave; it changes in the end."""
        while any(sequence.wave != self._wave for sequence in self.line):
            if self.num_seated and not self._news and not self._streams.has_free_slot:
                return False
            first = self.line.first(self._wave, self._held)
            if first.wave == self._wave:
                return True
            if self.num_seated:
                return False
            self._change_wave(first)
        return True

    def _change_wave(self, first: Sequence) -> None:
        """Have the model wear and be set as this thought wants; KV never crosses over. If it cannot, the thought fails."""
        self._streams.forget()
        self._study.forget()
        if self._forks is not None:
            self._forks.forget()
        self._counters.waves += 1
        wanted = first.request.adapters, first.request.model
        try:
            self._model.wear(*wanted)
            self._join_wave(*wanted)
        except MonkError as error:
            self._at_home()
            self._voice.fail(first, error)
        if self._model.streams is not self._lane:
            self._open_halls()

    def leave(self, sequence: Sequence, *, keep: bool) -> None:
        """The thought is over. `keep`: what it computed may be used by others."""
        self._news = True
        if self._drafts is not None:
            self._drafts.end(sequence.order)
        if sequence.lane is None:
            self.line.leave(sequence)
            return
        if sequence.lane == "fork":
            self._leave_fork(sequence)
        else:
            self._study.drop(sequence)
            self._streams.release(sequence, keep=keep)

    # --- steps

    def works(self) -> list[Work]:
        forks = self._forks.works() if self._forks is not None else []
        return [*self._streams.works(), *self._study.works(), *forks]

    def run(self, step: Step, *, others_waited: bool) -> None:
        """`others_waited`: somebody could have decoded meanwhile."""
        if not isinstance(step, Prefill):
            (self._forks if step.lane == "fork" and self._forks is not None else self._streams).decode(step)
        elif step.lane == "study":
            self._study.prefill(step, others_waited=others_waited)
        elif step.lane == "fork" and self._forks is not None:
            self._forks.prefill(step, others_waited=others_waited)
        else:
            self._streams.prefill(step, others_waited=others_waited)

    # --- the prefill lane

    def _send_to_study(self, sequence: Sequence, missing: int) -> bool:
        """True if the prefill lane computes the rest of this prompt."""
        if not self._keeps_blocks or missing < self._config.block_tokens or not self._study.open():
            return False
        sequence.in_study = True

        def done(image: Image | None, logits: Logits | None) -> None:
            if logits is None:
                sequence.in_study = False  # its slot computes it
            else:
                self._streams.receive(sequence, image, logits)

        self._study.ask(Reading(sequence.row, sequence.order, sequence, wants_logits=True, done=done))
        return True

    # --- the fork lane

    def _join_forks(self) -> None:
        """Let those in who share what is in the fork lane already, and with nobody else much more."""
        if self._forks is None:
            return
        for sequence in self.line.of(self._wave):
            if self._forks.takes(sequence) and not self._is_closer_to_others(sequence, len(self._forks.shared)):
                self.line.leave(sequence)
                self._forks.join(sequence)

    def _hold_back(self) -> None:
        """Keep those out of the streams for whom a seat in the fork lane is worth waiting for."""
        kin: list[Sequence] = []
        if self._forks is not None and not self._forks.is_empty:
            length = len(self._forks.shared)
            later = [sequence for sequence in self.line.of(self._wave) if self._forks.takes_later(sequence)]
            kin = [sequence for sequence in later if not self._is_closer_to_others(sequence, length)]
        self.line.hold_back(kin)

    def _is_closer_to_others(self, sequence: Sequence, shared: int) -> bool:
        """True if it could take over far more than these shared tokens elsewhere."""
        row = sequence.row
        if self._streams.kept_for(row) > shared:
            return True
        others = [other for other in [*self.line, *self._streams.owners] if other is not sequence]
        return any(common_prefix(row, other.row) >= shared + LEAST_SHARED_TOKENS for other in others)

    def _form_group(self) -> None:
        """Fork those who share a beginning, if the lane is free; also those whose prompt is not computed yet."""
        if not self._may_fork or (self._forks is not None and not self._forks.is_empty):
            return
        early = [owner for owner in self._streams.owners if owner.pending > 1 and not owner.num_decoded]
        candidates = sorted(
            (item for item in [*self.line.of(self._wave), *early] if not item.no_fork), key=lambda item: item.order
        )
        if len(candidates) < 2:
            return
        group = self._best_group(candidates)
        if group is not None and self._open_forks():
            members = [candidates[place] for place in group.members]
            if self._forks is None or not self._forks.holds(members[0].row[: group.length]):
                self._gather(members, group.length)

    def _best_group(self, candidates: list[Sequence]) -> Group | None:
        cells, members = self._model.fork_size
        rows = [Candidate(item.row, item.remaining) for item in candidates]
        return best_group(rows, cells, members, self._prices)

    @property
    def _prices(self) -> Prices:
        """Weights count as many cells of KV as are as many bytes."""
        return Prices(self._layout.weight_bytes / self._layout.kv_bytes_per_token, self._config.cell_ratio)

    def _open_forks(self) -> bool:
        """Have both lanes ready; if that fails once, it is not tried again."""
        if self._forks is None and self._study.open():
            lane = self._model.open_lane("fork")
            if lane is not None:
                self._forks = Forks(
                    lane,
                    self._scheduler,
                    self._voice,
                    self._counters,
                    self._guessing_in(lane, streams=False),
                    self._config.block_tokens,
                    self._prices,
                    self._send_back,
                )
        self._may_fork = self._forks is not None
        return self._may_fork

    def _gather(self, members: list[Sequence], length: int) -> None:
        """Take the members out of where they are, and have their beginning computed."""
        assert self._forks is not None
        for sequence in members:
            if sequence.lane is None:
                self.line.leave(sequence)
            else:
                self._study.drop(sequence)
                self._streams.release(sequence, keep=True)
        shared = members[0].row[:length]
        self._forks.form(shared, members)
        self._ask_for_beginning(members[0])

    def _ask_for_beginning(self, payer: Sequence) -> None:
        forks = self._forks
        assert forks is not None
        reading = Reading(
            forks.shared, payer.order, payer, wants_logits=False, done=lambda image, _logits: forks.receive(image)
        )
        self._study.ask(reading)

    def _leave_fork(self, sequence: Sequence) -> None:
        """If it was the one whose beginning is being computed, another member takes over."""
        assert self._forks is not None
        was_payer = self._study.is_for(sequence)
        self._study.drop(sequence)
        self._forks.release(sequence)
        if was_payer and (others := self._forks.owners):
            self._ask_for_beginning(min(others, key=lambda item: item.order))

    def _send_back(self, sequence: Sequence) -> None:
        self.line.enter_first(sequence)
        self._news = True
