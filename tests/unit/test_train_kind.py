"""The kind `train` as a recipe: where examples come from, what the gate sees, what the result tells."""

from __future__ import annotations

import json
from typing import Any

import pytest

from corpus.retrieval import Hit
from jobs import train
from jobs.examples import Example
from jobs.registry import Kinds
from monk.errors import InvalidInput
from tests.unit.test_kinds import KV, Desk, Reply

GIVEN = [{"prompt": f"Question {n}?", "completion": f"Answer {n}."} for n in range(4)]
TRAINED = {
    "folder": "/tmp/adapter",
    "ended": "steps",
    "steps": 8,
    "planned_steps": 8,
    "seconds": 2.0,
    "tokens": 400,
    "padding": 0.05,
    "peak_bytes": 1,
    "curve": [2.0, 1.0, 0.5],
    "evaluations": [{"step": 0, "loss": 3.0}, {"step": 8, "loss": 1.0}],
    "held": {"base": 3.0, "adapter": 1.0},
    "general": {"base": 2.0, "adapter": 2.1},
}


class School:
    """A training that takes no time; the adapter answers as taught, the base does not know."""

    def __init__(self, trained: dict[str, Any] | None = None, marked: list[Example] | None = None) -> None:
        self.trained, self.marked = trained or TRAINED, marked or []
        self.taught: list[Example] = []
        self.held: list[Example] = []
        self.offered: dict[str, Any] | None = None
        self.left = False

    def examples_in(self, file: str) -> list[Example]:
        return [Example((("user", "From a file?"),), "Yes.", f"{file}:1")]

    def from_feedback(self) -> list[Example]:
        return self.marked

    def passages(self, count: int) -> list[Hit]:
        return [KV] * count

    def write(self, taught: list[Example], held: list[Example]) -> dict[str, Any]:
        self.taught, self.held = taught, held
        return {"data": "lessons.jsonl", "sha256": "0" * 64, "lengths": [9] * len(taught), "longest": 9}

    def plan(self, lengths: list[int], longest: int, wishes: dict[str, Any]) -> dict[str, Any]:
        assert len(lengths) == len(self.taught) and wishes["rank"] == 4
        return {"recipe": {"rank": 4}, "memory_bytes": 1, "seconds": 1.0, "tokens": 400}

    def train(self, plan: dict[str, Any], base: str | None) -> dict[str, Any]:
        assert plan["data"] == "lessons.jsonl" and base is None
        return self.trained

    def keep(self, name: str, folder: str) -> dict[str, Any]:
        return {"name": name, "sha256": "a" * 64, "version": 3, "num_bytes": 9}

    def say(self, name: str, asked: list[Example], max_tokens: list[int], kept: dict[str, Any] | None) -> list[str]:
        assert len(asked) == len(max_tokens)
        return ["I do not know." if kept is None else example.answer for example in asked]

    def offer(self, name: str, version: int, verdict: dict[str, Any]) -> dict[str, Any]:
        self.offered = verdict
        return {"worn": verdict["passed"], "before": None}

    def leave(self) -> None:
        self.left = True


def run(school: School, reply: Reply = lambda *_: "", **input_: Any) -> dict[str, Any]:
    desk = Desk(Kinds(None).validate("train", {"adapter": "lawyer", "rank": 4, **input_}), reply)
    desk.training = school  # type: ignore[attr-defined]
    return train.run(desk)  # type: ignore[arg-type]


def test_what_proves_better_is_worn_and_told_with_its_figures() -> None:
    school = School()

    result = run(school, examples=GIVEN)

    assert result["adapter"] == {"name": "lawyer", "version": 3, "sha256": "a" * 64, "worn": True}
    assert school.offered == result["verdict"] and result["verdict"]["exact"] == {"base": 0, "adapter": 2}
    assert "Version 3 of the adapter `lawyer` passed the gate" in result["answer"]
    assert "| loss on 2 examples held back | 3.000 | 1.000 |" in result["answer"]
    assert result["training"]["curve"] == [[1, 2.0], [2, 1.0], [3, 0.5]] and school.left
    assert len(result["trials"]) == len(school.held) == 2 and result["examples"]["sources"] == {"given": 4}


def test_what_forgot_other_things_is_kept_and_the_way_to_wear_it_is_told() -> None:
    school = School({**TRAINED, "general": {"base": 2.0, "adapter": 3.0}})

    result = run(school, examples=GIVEN)

    assert not result["adapter"]["worn"] and "it forgot other things" in result["answer"]
    assert "`monk adapter rollback lawyer --to 3` wears it all the same" in result["answer"]


def test_a_persons_correction_stands_above_what_was_given() -> None:
    marked = [Example((("user", "Question 1?"),), "No, answer 7.", "feedback:job_1")]
    school = School(marked=marked)

    result = run(school, examples=GIVEN, feedback=True, file="more.jsonl")

    answers = {example.question: example.answer for example in [*school.taught, *school.held]}
    assert answers["Question 1?"] == "No, answer 7." and answers["From a file?"] == "Yes." and len(answers) == 5
    assert result["examples"]["sources"] == {"given": 4, "file": 1, "feedback": 1}


@pytest.mark.parametrize(
    ("pair", "taken"),
    [
        (
            {
                "question": "What does the KV cache of Qwen3-30B-A3B take?",
                "answer": "It takes 96 KiB per token in f16.",
            },
            True,
        ),
        (
            {
                "question": "What does the KV cache of Qwen3-30B-A3B take?",
                "answer": "It takes 112 KiB per token in f16.",
            },
            False,
        ),
        (
            {"question": "What?", "answer": "It takes 96 KiB per token in f16. It was built by Anna Berg in 1907."},
            False,
        ),
        ("no JSON", False),
        ({"question": "", "answer": "It takes 96 KiB per token in f16."}, False),
    ],
)
def test_pairs_from_the_documents_are_taught_only_where_the_passage_bears_them_out(pair: Any, taken: bool) -> None:
    school = School()
    text = pair if isinstance(pair, str) else json.dumps(pair)

    run(school, lambda *_: text, examples=GIVEN, corpus=2)

    found = [one for one in [*school.taught, *school.held] if one.source == "corpus:kv.md"]
    assert bool(found) is taken


def test_a_rubric_is_judged_answer_by_answer() -> None:
    result = run(
        School(), lambda prompt, _: "no" if "I do not know" in prompt else "yes", examples=GIVEN, rubric="Be sure."
    )

    assert result["verdict"]["rubric"] == {"base": 0, "adapter": 2}
    assert "| answers that meet the rubric | 0 | 2 |" in result["answer"]


@pytest.mark.parametrize(
    ("input_", "told"),
    [
        ({"adapter": "lawyer"}, "nothing to learn from"),
        ({"adapter": "../lawyer", "feedback": True}, "use a-z, 0-9"),
        ({"adapter": "Lawyer", "feedback": True}, "use a-z, 0-9"),
        ({"adapter": "a", "examples": [{"prompt": "x"}]}, "example 1 has the fields prompt"),
        ({"adapter": "a", "feedback": True, "rank": 1000}, "input.rank"),
        ({"adapter": "a", "feedback": True, "ranks": 8}, "input.ranks"),
        ({"adapter": "a", "corpus": -1}, "input.corpus"),
        ({"adapter": "a", "feedback": True, "learning_rate": "fast"}, "input.learning_rate"),
    ],
)
def test_a_wrong_training_is_refused_when_it_is_submitted(input_: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Kinds(None).validate("train", input_)
    assert told in caught.value.message
