"""What the kind `train` sees of the house: `jobs.context.Training` over a run, the shelf, the room and the feedback."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from corpus.library import Library
from corpus.retrieval import Hit
from db.feedback import Feedback
from db.models import Job
from jobs.context import Ask, Said
from jobs.examples import Example
from monk.engine.client import AdapterUse, EngineClient, Segment
from monk.engine.template import ChatTemplate, opens_thinking
from monk.lora.training.general import GENERAL
from monk.lora.training.recipe import Wishes
from monk.lora.training.room import Room
from monk.lora.training.session import Stop
from monk.thinking import Paused

logger = logging.getLogger(__name__)
MOST_MESSAGES = 64  # of a chat that is learnt from


class Asker(Protocol):
    """The run, as far as it is needed here."""

    @property
    def job(self) -> Job: ...
    def note(self, type_: str, data: dict[str, Any]) -> None: ...
    def must_stop(self) -> Stop: ...
    def think_prompts(
        self, name: str, prompts: list[tuple[tuple[int, ...], bool]], asks: list[Ask], adapters: tuple[AdapterUse, ...]
    ) -> list[Said]: ...


@dataclass(frozen=True, slots=True)
class Teaching:
    """For one run. See `jobs.context.Training` for what each method gives."""

    run: Asker
    engine: EngineClient
    template: Callable[[], ChatTemplate]
    library: Library
    feedback: Feedback
    room: Room

    # ── examples ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def examples_in(self, file: str) -> list[Example]:
        return self.room.examples_in(file)

    def from_feedback(self) -> list[Example]:
        model = self.engine.card().sha256
        found = []
        for row in self.feedback.examples():
            turns = turns_of(row.input)
            ids = row.prompt_ids if row.model_sha256 == model else None
            if turns:
                found.append(Example(turns, row.target, f"feedback:{row.job_id}", tuple(ids or ())))
        return found

    def passages(self, count: int) -> list[Hit]:
        return self.library.sample(count, self.run.job.seed)

    def write(self, taught: list[Example], held: list[Example]) -> dict[str, Any]:
        general = [Example((("user", question),), answer) for question, answer in GENERAL]
        parts = {"taught": taught, "held": held, "general": general}
        lengths: dict[str, list[int]] = {part: [] for part in parts}
        facts = self.room.write(self.run.job.id, self._lessons(parts, lengths))
        return {**facts, "lengths": lengths["taught"], "longest": max(map(max, lengths.values()))}

    def _lessons(self, parts: dict[str, list[Example]], lengths: dict[str, list[int]]) -> Iterator[dict[str, Any]]:
        for part, examples in parts.items():
            for example in examples:
                prompt, answer = self._prompt(example)[0], self._answer(example)
                lengths[part].append(len(prompt) + len(answer))
                yield {"part": part, "ids": [*prompt, *answer], "prompt": len(prompt)}

    def _prompt(self, example: Example) -> tuple[tuple[int, ...], bool]:
        """(tokens the model is asked with, whether they open a thinking part)."""
        if example.prompt_ids:
            return example.prompt_ids, False
        segments = self.template().render(messages(example.turns), now=self.run.job.created_at)
        return tuple(self.engine.tokenize(segments)), opens_thinking(segments)

    def _answer(self, example: Example) -> list[int]:
        """What the template puts behind the prompt for this answer, up to the mark that ends it."""
        asked = self.template().render(messages(example.turns), now=self.run.job.created_at)
        told = self.template().render(
            messages((*example.turns, ("assistant", example.answer))),
            add_generation_prompt=False,
            now=self.run.job.created_at,
        )
        rest = behind(told, asked)
        if rest is None:  # a template that writes the past otherwise than the present
            rest = [Segment(example.answer, control=False)]
        card = self.engine.card()
        if not rest or not rest[-1].control or not rest[-1].text.endswith(card.control_tokens):
            rest = [*rest, Segment(card.eos, control=True)]
        return list(self.engine.tokenize(rest, add_bos=False))

    # ── training ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def plan(self, lengths: list[int], longest: int, wishes: dict[str, Any]) -> dict[str, Any]:
        proposal = self.room.propose(lengths, longest, Wishes(**wishes, seed=self.run.job.seed))
        plan = {
            "recipe": proposal.recipe.to_json(),
            "memory_bytes": proposal.memory_bytes,
            "seconds": round(proposal.seconds, 1),
            "tokens": proposal.tokens,
        }
        self.run.note("training-planned", plan)
        return plan

    def train(self, plan: dict[str, Any], base: str | None) -> dict[str, Any]:
        key = self.engine.card().sha256
        outcome = self.room.train(self.run.job.id, plan, base, key, self._told, self.run.must_stop)
        if outcome is None:
            raise Paused
        return outcome

    def _told(self, frame: dict[str, Any]) -> None:
        kind = frame["event"]
        logger.debug("training", extra={"job_id": self.run.job.id, **frame})
        self.run.note(f"training-{kind}", {name: value for name, value in frame.items() if name != "event"})

    # ── the shelf ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def keep(self, name: str, folder: str) -> dict[str, Any]:
        adapter = self.room.keep(self.run.job.id, name, folder, f"trained by {self.run.job.id}")
        return {name: asdict(adapter)[name] for name in ("name", "sha256", "version", "num_bytes")}

    def say(self, name: str, asked: list[Example], max_tokens: list[int], kept: dict[str, Any] | None) -> list[str]:
        prompts = [self._prompt(example) for example in asked]
        asks = [Ask(max_tokens=most) for most in max_tokens]
        said = self.run.think_prompts(name, prompts, asks, self._use(kept))
        return [one.answer for one in said]

    def _use(self, kept: dict[str, Any] | None) -> tuple[AdapterUse, ...]:
        if kept is None:
            return ()
        shelf = self.room.shelf
        adapter = shelf.version(kept["name"], kept["version"])
        return (AdapterUse(str(shelf.weights(adapter)), adapter.sha256, 1.0),)

    def offer(self, name: str, version: int, verdict: dict[str, Any]) -> dict[str, Any]:
        shelf = self.room.shelf
        before = next((one.version for one in shelf.listing() if one.name == name), None)
        shelf.judge(name, version, verdict)
        if verdict["passed"]:
            shelf.wear(name, version)
        return {"worn": bool(verdict["passed"]), "before": before}

    def leave(self) -> None:
        self.room.leave(self.run.job.id)


def messages(turns: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in turns]


def turns_of(input_: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """What was asked in a job's input; empty where there is no single question in it."""
    if isinstance(input_.get("question"), str):
        return (("user", input_["question"]),)
    rows = input_.get("messages")
    if not isinstance(rows, list) or len(rows) > MOST_MESSAGES:
        return ()
    return tuple((str(row["role"]), str(row["content"])) for row in rows)


def behind(told: list[Segment], asked: list[Segment]) -> list[Segment] | None:
    """The segments of `told` that follow the text of `asked`, without white space at the end; None when it does not begin
    with it."""
    left = "".join(segment.text for segment in asked)
    rest: list[Segment] = []
    for segment in told:
        if not left:
            rest.append(segment)
        elif left.startswith(segment.text):
            left = left[len(segment.text) :]
        elif segment.text.startswith(left):
            rest.append(Segment(segment.text[len(left) :], segment.control))
            left = ""
        else:
            return None
    if left or not rest:
        return None
    last = rest[-1]
    return [*rest[:-1], Segment(last.text.rstrip(), last.control)] if last.control else rest
