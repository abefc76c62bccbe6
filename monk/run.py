"""One claimed job as its kind sees it: the `jobs.context.Context` over database, engine and library."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from corpus.library import Library, WholeDocument
from corpus.retrieval import EVERYWHERE, Hit
from db.events import Events
from db.feedback import Feedback
from db.library import DocumentFilter
from db.models import Job
from db.steps import Steps
from jobs.context import Ask, ChatMessage, Said
from jobs.prompts import Prompts
from monk.benching import Benching, Yard
from monk.budget import TimeBudget, TokenBudget
from monk.engine.client import AdapterUse, EngineClient, ModelUse, Segment
from monk.engine.model_use import over, told
from monk.engine.template import ChatTemplate, opens_thinking
from monk.errors import InvalidInput
from monk.lora.shelf import Shelf
from monk.lora.training.room import Room
from monk.lora.training.session import Stop
from monk.lora.wear import Worn, choose
from monk.reach.reading import Reading, of_card
from monk.reach.record import Reach, Reaches
from monk.reach.warnings import MEASURED_BY, beyond
from monk.teaching import Teaching
from monk.thinking import Paused, Terms, Thinker, seed_of

Result = TypeVar("Result")
MOST_SAMPLES = 256
WARNED = "beyond reach"  # the step of a job with a prompt longer than the model is known to read


@dataclass(frozen=True, slots=True)
class Tools:
    """What all runs share."""

    steps: Steps
    events: Events
    engine: EngineClient
    library: Library
    prompts: Prompts
    thinker: Thinker
    template: Callable[[], ChatTemplate]
    shelf: Shelf
    feedback: Feedback
    room: Room
    yard: Yard
    model_use: ModelUse  # what the model runs with, where a job does not say otherwise
    thinking: float  # share of a thought's tokens for its thinking part, where nobody says otherwise
    reaches: Reaches
    plain: Callable[[ModelUse], ModelUse]  # settings without those that the model's file has itself
    now: Callable[[], datetime]


class Run:
    """One attempt at one job. `pausing` and `lost` are set from outside; the run notices at its next step or token."""

    def __init__(self, job: Job, tools: Tools) -> None:
        self.job = job
        self.pausing = threading.Event()
        self.why_paused = ""
        self.lost = threading.Event()
        self._tools = tools
        self._time = TimeBudget(job.budget.get("minutes"), job.used_seconds)
        self._tokens = TokenBudget(job.budget.get("tokens"))
        self._dressing = threading.Lock()
        self._warning = threading.Lock()
        self._reach: dict[Reading, Reach | None] = {}
        self._bench: Benching | None = None
        self._use: ModelUse | None = None
        self._worn: tuple[AdapterUse, ...] | None = None
        self._terms = Terms(job, self.pausing, self.lost, self._time.left, self._adapters, self._model)

    def pause(self, why: str) -> None:
        """Have it stop where it stands; the first reason is told."""
        if not self.pausing.is_set():
            self.why_paused = why
            self.pausing.set()

    @property
    def job_id(self) -> str:
        return self.job.id

    @property
    def input(self) -> dict[str, Any]:
        return self.job.input

    @property
    def budget(self) -> dict[str, Any]:
        return self.job.budget

    @property
    def seed(self) -> int:
        return self.job.seed

    def used_seconds(self) -> float:
        """How long this job has run, in all its attempts."""
        return self._time.used()

    @property
    def context_tokens(self) -> int:
        return self._tools.engine.card().context

    def step(self, name: str, work: Callable[[], Result]) -> Result:
        saved = self._tools.steps.find_step(self.job.id, name)
        if saved is not None:
            return saved.result  # type: ignore[no-any-return]  # JSON of what `work` returned
        self._stop_if_asked()
        started_at = self._tools.now()
        result = work()
        self._tools.steps.save_step(self.job, name, result, started_at, self._tools.now())
        return result

    def think(self, name: str, messages: list[ChatMessage], ask: Ask) -> Said:
        return self._side_by_side(lambda i, ask: self._think(name, i, messages, ask), 1, ask)[0]

    def think_samples(self, name: str, messages: list[ChatMessage], ask: Ask, samples: int) -> list[Said]:
        if not 1 <= samples <= MOST_SAMPLES:
            raise InvalidInput(
                f"budget.samples is {samples}; between 1 and {MOST_SAMPLES} can be thought", param="budget"
            )
        return self._side_by_side(lambda i, ask: self._think(name, i, messages, ask), samples, ask)

    def think_each(self, name: str, prompts: list[list[ChatMessage]], ask: Ask) -> list[Said]:
        return self._side_by_side(lambda i, ask: self._think(f"{name}-{i + 1}", 0, prompts[i], ask), len(prompts), ask)

    def count_tokens(self, text: str) -> int:
        return len(self._tools.engine.tokenize([Segment(text, control=False)], add_bos=False))

    def prompt_tokens(self, messages: list[ChatMessage]) -> int:
        return len(self._tools.engine.tokenize(self._segments(messages)))

    def retrieve(self, query: str, limit: int, only: DocumentFilter = EVERYWHERE) -> list[Hit]:
        return self._tools.library.search(query, limit, only)

    def passages_around(self, hit: Hit, max_characters: int) -> list[Hit]:
        return self._tools.library.passages_around(hit, max_characters)

    def document(self, name: str) -> WholeDocument:
        return self._tools.library.read_document(name)

    def prompt(self, name: str, **values: Any) -> str:
        return self._tools.prompts.render(name, values)

    def note(self, type_: str, data: dict[str, Any]) -> None:
        self._tools.events.tell(type_, data, self._tools.now(), self.job.id)

    def keep_reach(self, measured: dict[str, Any]) -> dict[str, Any]:
        reading, now = self._reading(self._terms), self._tools.now()
        reach = self._tools.reaches.keep(reading, measured["table"], measured["control"], now, self.job.id)
        return reach.summary()

    def with_warnings(self, result: dict[str, Any]) -> dict[str, Any]:
        """The result, and what was to be said of how it came about."""
        said = self._tools.steps.find_step(self.job.id, WARNED)
        return result if said is None else {**result, "warnings": [*result.get("warnings", []), said.result["message"]]}

    @property
    def training(self) -> Teaching:
        tools = self._tools
        return Teaching(self, tools.engine, tools.template, tools.library, tools.feedback, tools.room)

    @property
    def bench(self) -> Benching:
        if self._bench is None:
            self._bench = Benching(self, self._tools.yard)
        return self._bench

    def model_use(self) -> ModelUse:
        """What the model runs with for this job, where not as its file says."""
        return self._model()

    def must_stop(self) -> Stop:
        """Why work that nobody interrupts should end: it is paused or taken away, or its minutes are used up."""
        if self.pausing.is_set() or self.lost.is_set():
            return "paused"
        return "minutes" if self._time.left() <= 0 else None

    def think_prompts(
        self, name: str, prompts: list[tuple[tuple[int, ...], bool]], asks: list[Ask], adapters: tuple[AdapterUse, ...]
    ) -> list[Said]:
        """One answer to each prompt, given in tokens with whether it opens a thinking part, wearing these adapters."""
        terms = replace(self._terms, adapters=lambda: adapters)
        return self._all_of(lambda i: self._ask(terms, f"{name}-{i + 1}", 0, *prompts[i], asks[i]), len(prompts))

    def _think(self, name: str, sample: int, messages: list[ChatMessage], ask: Ask) -> Said:
        segments = self._segments(messages)
        prompt = tuple(self._tools.engine.tokenize(segments))
        return self._ask(self._terms, name, sample, prompt, opens_thinking(segments), ask)

    def _ask(self, terms: Terms, name: str, sample: int, prompt: tuple[int, ...], opened: bool, ask: Ask) -> Said:
        self._stop_if_asked()
        ask = replace(ask, stop=(*ask.stop, *self._tools.template().stop), thinking=self._thinking(ask))
        seed = seed_of(self.job.seed, name, sample)
        self._warn_beyond_reach(terms, name, len(prompt))
        return self._tools.thinker.think(terms, name, sample, prompt, ask, seed, opened)

    def _warn_beyond_reach(self, terms: Terms, name: str, prompt_tokens: int) -> None:
        """Say once that a prompt is longer than this model was found to read. It thinks all the same."""
        if self.job.kind == MEASURED_BY:
            return
        reading = self._reading(terms)
        with self._warning:
            if reading not in self._reach:
                self._reach[reading] = self._tools.reaches.find(reading)
            message = beyond(self._reach[reading], prompt_tokens)
            if message:
                self.step(WARNED, lambda: self._warned(name, message, prompt_tokens))

    def _warned(self, name: str, message: str, prompt_tokens: int) -> dict[str, Any]:
        said = {"what": "reach", "message": message, "thought": name, "prompt_tokens": prompt_tokens}
        self.note("warning", said)
        return said

    def _reading(self, terms: Terms) -> Reading:
        return of_card(self._tools.engine.card(), self._tools.plain(terms.model()), terms.adapters())

    def _thinking(self, ask: Ask) -> float:
        """The kind's own measure, else the job's, else the house's."""
        wishes = (ask.thinking, self.job.budget.get("thinking"), self._tools.thinking)
        return next(float(wish) for wish in wishes if wish is not None)

    def _adapters(self) -> tuple[AdapterUse, ...]:
        """What the job wears: looked up once, so that all its thoughts wear the same, in the next night too."""
        if self.job.adapter is None:
            return ()
        with self._dressing:
            if self._worn is None:
                wanted, shelf = self.job.adapter, self._tools.shelf
                rows = self.step("adapter", lambda: [asdict(worn) for worn in choose(wanted, shelf)])
                worn = [Worn(**row) for row in rows]
                self._worn = tuple(AdapterUse(str(shelf.weights(one)), one.sha256, one.scale) for one in worn)
            return self._worn

    def _model(self) -> ModelUse:
        """What the model runs with for this job, written down once: the house may set something else before it is done."""
        with self._dressing:
            if self._use is None:
                use = over(ModelUse(**self.job.model), self._tools.model_use)
                saved = self._tools.steps.find_step(self.job.id, "model")
                if saved is not None or told(use):
                    use = ModelUse(**self.step("model", lambda: told(use)))
                self._use = use
            return self._use

    def _segments(self, messages: list[ChatMessage]) -> list[Segment]:
        """In the model's template. A template that tells the date gets that of the job, or midnight would make another
        thought of one that was cut."""
        turns = [{"role": message.role, "content": message.content} for message in messages]
        return self._tools.template().render(turns, now=self.job.created_at)

    def _side_by_side(self, one: Callable[[int, Ask], Said], count: int, ask: Ask) -> list[Said]:
        """All of them at once, each with its share of the tokens that are left. An error in one is raised when its siblings
        have ended: what they thought is kept."""
        if not count:
            return []
        ask = replace(ask, max_tokens=self._tokens.share(ask.max_tokens, count))
        said = self._all_of(lambda i: one(i, ask), count)
        self._tokens.spend(sum(thought.num_tokens for thought in said))
        return said

    def _all_of(self, one: Callable[[int], Said], count: int) -> list[Said]:
        if not count:
            return []
        if count == 1:
            return [one(0)]
        with ThreadPoolExecutor(max_workers=min(count, MOST_SAMPLES), thread_name_prefix=self.job.id) as pool:
            futures = [pool.submit(_carrying_pauses, one, i) for i in range(count)]
            results = [future.result() for future in futures]
        if any(result is None for result in results):
            raise Paused
        return [result for result in results if result is not None]

    def _stop_if_asked(self) -> None:
        if self.pausing.is_set() or self.lost.is_set():
            raise Paused


def _carrying_pauses(one: Callable[[int], Said], i: int) -> Said | None:
    """A pool passes on Exceptions only; a pause comes back as None."""
    try:
        return one(i)
    except Paused:
        return None
