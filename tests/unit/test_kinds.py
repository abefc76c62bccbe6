"""Kinds as recipes: what they ask, how they vote, how they cut, what they refuse. The context is a small real one in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from corpus.retrieval import EVERYWHERE, Hit
from db.library import DocumentFilter
from jobs import answer, chat, evidence, read, think
from jobs.context import Ask, ChatMessage, Said
from jobs.own import load_own_kinds
from jobs.prompts import Prompts
from jobs.registry import Kinds
from monk.errors import InvalidInput, NotFound, UnknownKind

Reply = Callable[[str, int], str]


class Desk:
    """A context whose model is a function and whose token is a word."""

    def __init__(
        self, input_: dict[str, Any], reply: Reply, hits: list[Hit] | None = None, context_tokens: int = 4096
    ) -> None:
        self.job_id, self.seed, self.input = "job_test", 1, input_
        self.budget: dict[str, Any] = {}
        self.context_tokens = context_tokens
        self.steps: dict[str, Any] = {}
        self.prompts: list[str] = []
        self.asks: list[Ask] = []
        self._reply, self._hits, self._prompts = reply, hits or [], Prompts(None)
        self.text = ""
        self.sections: dict[str, list[Hit]] = {}

    def step(self, name: str, work: Callable[[], Any]) -> Any:
        assert name not in self.steps, "a step's name is used twice"
        self.steps[name] = work()
        return self.steps[name]

    def think(self, name: str, messages: list[ChatMessage], ask: Ask) -> Said:
        return self.think_samples(name, messages, ask, 1)[0]

    def think_samples(self, name: str, messages: list[ChatMessage], ask: Ask, samples: int) -> list[Said]:
        self.prompts.append(messages[-1].content)
        self.asks.append(ask)
        return [Said(f"t{i}", self._reply(messages[-1].content, i), "", "stop", 5) for i in range(samples)]

    def think_each(self, name: str, prompts: list[list[ChatMessage]], ask: Ask) -> list[Said]:
        return [self.think(name, prompt, ask) for prompt in prompts]

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def prompt_tokens(self, messages: list[ChatMessage]) -> int:
        return sum(self.count_tokens(message.content) for message in messages)

    def retrieve(self, query: str, limit: int, only: DocumentFilter = EVERYWHERE) -> list[Hit]:
        self.only = only
        return self._hits[:limit]

    def passages_around(self, hit: Hit, max_characters: int) -> list[Hit]:
        around = self.sections.get(hit.passage_id, [])
        return around if sum(len(one.text) for one in around) <= max_characters and hit in around else [hit]

    def document(self, name: str) -> Any:
        return Paper(name, self.text)

    def prompt(self, name: str, **values: Any) -> str:
        return self._prompts.render(name, values)

    def note(self, type_: str, data: dict[str, Any]) -> None:
        raise AssertionError("no kind notes yet")


class Paper:
    """A document whose lines are its places."""

    def __init__(self, path: str, text: str) -> None:
        self.path, self.title, self.text = path, "Paper", text

    def hit(self, start: int, end: int) -> Hit:
        line = 1 + self.text.count("\n", 0, start)
        return replace(KV, file=self.path, text=self.text[start:end], start=start, end=end, line=line)


KV = Hit(
    passage_id="p1",
    score=1.0,
    file="kv.md",
    title="KV cache",
    heading="Sizes",
    page=None,
    line=7,
    end_page=None,
    end_line=8,
    text="The KV cache of Qwen3-30B-A3B takes 96 KiB per token in f16.\nA token of Qwen3-32B takes 256 KiB.",
    start=0,
    end=99,
    format="markdown",
    places=(),
    similarity=0.8,
    coverage=0.9,
)


# ── answer ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_answer_is_printed_with_the_sentence_it_stands_on() -> None:
    ctx = Desk(
        {"question": "How large?", "passages": 6},
        lambda *_: "The KV cache of Qwen3-30B-A3B takes 96 KiB per token.",
        [KV],
    )

    result = answer.run(ctx)

    assert result["answer"] == "The KV cache of Qwen3-30B-A3B takes 96 KiB per token. [1]"
    citation = result["citations"][0]
    assert (citation["file"], citation["line"], citation["verified"]) == ("kv.md", 7, True)
    assert citation["quote"] == "The KV cache of Qwen3-30B-A3B takes 96 KiB per token in f16."


def test_an_answer_looks_only_into_the_documents_it_is_told() -> None:
    only = {"folder": "./notes", "types": [".MD"], "tags": [" #Board  Papers"], "since": "2026-01-31T00:00:00Z"}
    given = {"question": "How large?", "only": only}
    ctx = Desk(Kinds(None).validate("answer", given), lambda *_: "", [])

    answer.run(ctx)

    since = datetime(2026, 1, 31, tzinfo=UTC)
    assert ctx.only == DocumentFilter(folder="notes", formats=("md",), tags=("board papers",), since=since)


def test_a_wrong_number_is_not_borne_out() -> None:
    reply = "The KV cache of Qwen3-30B-A3B takes 192 KiB per token. A token of Qwen3-32B takes 256 KiB."
    result = answer.run(Desk({"question": "How large?", "passages": 6}, lambda *_: reply, [KV]))

    assert result["answer"] == "A token of Qwen3-32B takes 256 KiB. [1]"
    assert result["unsupported"] == ["The KV cache of Qwen3-30B-A3B takes 192 KiB per token."]


def test_the_model_is_not_asked_where_nothing_is_found() -> None:
    for hits in ([], [replace(KV, similarity=0.1)], [replace(KV, coverage=0.2)]):
        ctx = Desk({"question": "Why is the sky blue?", "passages": 6}, lambda *_: "Because.", hits)

        result = answer.run(ctx)

        assert (result["found"], result["citations"], ctx.prompts) == (False, [], [])


def test_an_invented_answer_gives_way_to_the_nearest_quotation() -> None:
    question = "How many KiB per token does Qwen3-30B-A3B take?"
    result = answer.run(Desk({"question": question, "passages": 6}, lambda *_: "Elephants are large.", [KV]))

    assert result["answer"].startswith("“The KV cache of Qwen3-30B-A3B takes 96 KiB per token in f16.” [1]")
    assert "not borne out" in result["answer"]
    assert result["citations"][0]["quote"].startswith("The KV cache of Qwen3-30B-A3B")
    assert result["unsupported"] == ["Elephants are large."]


def test_passages_that_do_not_fit_are_left_out_from_the_end() -> None:
    hits = [
        replace(KV, passage_id=f"p{i}", start=i * 2000, end=i * 2000 + 1000, text=f"Passage {i} " + "word " * 200)
        for i in range(6)
    ]
    ctx = Desk({"question": "?", "passages": 6}, lambda *_: "", hits, context_tokens=900)

    answer.run(ctx)

    assert "Passage 0" in ctx.prompts[0]
    assert "Passage 5" not in ctx.prompts[0]
    assert len(ctx.prompts[0].split()) < 900 - answer.MAX_TOKENS


def neighbour(number: int, text: str, start: int, heading: str = "Sizes") -> Hit:
    """A passage of the same document behind KV."""
    at = {"passage_id": f"p{number}", "text": text, "start": start, "end": start + len(text), "heading": heading}
    return replace(KV, **at, line=7 + 3 * number, end_line=8 + 3 * number, similarity=None, coverage=0.0)


DISK = neighbour(2, "The cache of a whole night fits on a disk of 2 TB.", 101)


def test_an_answer_may_stand_in_the_section_around_the_passage_that_was_found() -> None:
    said = "The cache of a whole night fits on a disk of 2 TB. A token of Qwen3-32B takes 256 KiB."
    ctx = Desk({"question": "How large is the cache?", "passages": 6}, lambda *_: said, [KV])
    ctx.sections = {"p1": [KV, DISK]}

    result = answer.run(ctx)

    assert f"{KV.text}\n\n{DISK.text}" in ctx.prompts[0]
    assert result["unsupported"] == []
    assert [(one["line"], one["passage"]) for one in result["citations"]] == [(13, "p2"), (8, "p1")]


def test_a_sentence_of_a_section_counts_for_what_its_own_heading_names() -> None:
    hit = neighbour(1, "The whole cache takes 96 KiB per token.", 0, "Sizes > Qwen3-30B-A3B")
    other = neighbour(2, "The whole cache takes 320 KiB per token.", 60, "Sizes > Qwen3-32B")
    right = "The whole cache of Qwen3-32B takes 320 KiB per token."
    wrong = "The whole cache of Qwen3-32B takes 96 KiB per token."
    ctx = Desk(
        {"question": "How large is it?", "passages": 6},
        lambda *_: f"{right} {wrong}",
        [replace(hit, similarity=0.9, coverage=0.9)],
    )
    ctx.sections = {"p1": [*ctx._hits, other]}

    result = answer.run(ctx)

    assert right in result["answer"]
    assert result["unsupported"] == [wrong]


def test_passages_of_one_section_are_shown_once() -> None:
    first, second = (
        replace(KV, passage_id=f"p{i}", text=f"Words of passage {i}.", start=i * 30, end=i * 30 + 20) for i in (0, 1)
    )
    other = replace(KV, passage_id="p9", text="Words of passage 9.", start=500, end=520)
    ctx = Desk({"question": "?", "passages": 6}, lambda *_: "", [second, first, other])
    ctx.sections = {"p1": [first, second]}

    answer.run(ctx)

    assert [ctx.prompts[0].count(f"Words of passage {number}.") for number in (0, 1, 9)] == [1, 1, 1]


def test_a_section_that_leaves_no_room_for_the_answer_gives_way_to_the_passage() -> None:
    ctx = Desk({"question": "How large?", "passages": 6}, lambda *_: "", [KV], context_tokens=500)
    ctx.sections = {"p1": [KV, replace(DISK, text=DISK.text + " word" * 400)]}

    answer.run(ctx)

    assert KV.text in ctx.prompts[0] and "a whole night" not in ctx.prompts[0]


def test_a_looping_answer_is_said_once() -> None:
    checked = evidence.check("A token of Qwen3-32B takes 256 KiB. " * 5, [KV])

    assert len(checked.supported) == 1


# ── think ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_majority_of_samples_decides() -> None:
    said = ["Hm.\nAnswer: 42.", "Answer: 41", "So\n**Answer:** 42", "no idea", "Answer: 97,200"]
    ctx = Desk({"question": "?", "temperature": 0.8}, lambda _, i: said[i])

    result = think.run(ctx)

    assert result["votes"][0] == {"answer": "42", "count": 2}
    assert (result["final"], result["best_sample"], result["decided_by"], result["samples"]) == ("42.", 0, "vote", 5)


def test_without_a_majority_the_model_judges_and_the_result_says_so() -> None:
    ctx = Desk(
        {"question": "?", "temperature": 0.8}, lambda prompt, i: "3" if "Which of these" in prompt else f"Answer: {i}"
    )

    result = think.run(ctx)

    assert (result["decided_by"], result["best_sample"], result["final"]) == ("judge", 2, "2")
    assert ctx.asks[-1].grammar == 'root ::= "1" | "2" | "3" | "4" | "5"'


def test_a_budget_of_tokens_is_shared_by_the_samples() -> None:
    ctx = Desk({"question": "?", "temperature": 0.8}, lambda *_: "Answer: 1")
    ctx.budget = {"tokens": 1000, "samples": 4}

    think.run(ctx)

    assert ctx.asks[0].max_tokens == 250


@pytest.mark.parametrize(
    ("text", "final"),
    [
        ("Answer: 7", "7"),
        ("Ответ: да", "да"),
        ("so \\boxed{12}", "12"),
        ("Answer: 1\nWait.\nAnswer: 2", "2"),
        ("I don't know", None),
    ],
)
def test_final_answers_are_found_in_several_notations(text: str, final: str | None) -> None:
    assert think.final_answer(text) == final


def test_answers_that_differ_only_in_dress_are_one() -> None:
    assert think.normal_form("**97,200** tokens.") == think.normal_form("97200  Tokens")
    assert think.normal_form("7") != think.normal_form("70")


# ── read ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def document(num_lines: int) -> str:
    return "\n".join(f"Line {i} says that the number of pump {i} is {i * 7}." for i in range(1, num_lines + 1))


def test_a_document_that_fits_is_read_whole_and_cited_by_line() -> None:
    ctx = Desk(
        {"document": "pumps.txt", "questions": ["What is the number of pump 9?"]},
        lambda *_: "The number of pump 9 is 63.",
    )
    ctx.text = document(20)

    result = read.run(ctx)

    assert result["parts_read"] == 1
    assert result["citations"][0]["quote"] == "Line 9 says that the number of pump 9 is 63."


def test_a_document_that_does_not_fit_is_cut_into_parts_that_cover_it() -> None:
    ctx = Desk(
        {"document": "pumps.txt", "questions": ["Pump 300?"]}, lambda *_: "NOT IN THIS PART.", context_tokens=700
    )
    ctx.text = document(400)

    result = read.run(ctx)

    spans = ctx.steps["cut"]
    assert len(spans) > 4
    assert spans[0][0] == 0
    assert spans[-1][1] == len(ctx.text)
    assert all(left[1] >= right[0] and left[0] < right[0] for left, right in pairwise(spans))
    assert all(len(prompt.split()) <= 700 - read.MAX_TOKENS for prompt in ctx.prompts)
    assert (result["found"], result["parts"][0]["citations"]) == (False, [])


def test_notes_of_several_parts_are_combined() -> None:
    def reply(prompt: str, _: int) -> str:
        return (
            "The number of pump 3 is 21." if "Answer the question from these notes" in prompt else "A note on pump 3."
        )

    ctx = Desk({"document": "pumps.txt", "questions": ["Pump 3?"]}, reply, context_tokens=700)
    ctx.text = document(100)

    assert read.run(ctx)["answer"] == "The number of pump 3 is 21. [1]"


def test_an_empty_document_answers_nothing() -> None:
    ctx = Desk({"document": "empty.txt", "questions": ["?"]}, lambda *_: "x")
    ctx.text = ""

    assert read.run(ctx)["found"] is False


# ── chat, registry, prompts, the owner's own ──────────────────────────────────────────────────────────────────────────


def test_chat_passes_its_settings_through() -> None:
    given = Kinds(None).validate(
        "chat", {"messages": [{"role": "user", "content": "Hi"}], "stop": ["\n"], "logit_bias": {"5": -2}}
    )
    ctx = Desk(given, lambda *_: "Hello.")

    assert chat.run(ctx)["answer"] == "Hello."
    assert (ctx.asks[0].stop, ctx.asks[0].logit_bias, ctx.asks[0].temperature) == (("\n",), {5: -2.0}, 0.7)


@pytest.mark.parametrize(
    ("kind", "given", "told"),
    [
        ("answer", {}, "input.question: is missing"),
        ("answer", {"question": "  "}, "input.question: is empty"),
        ("answer", {"question": "?", "colour": 1}, "input.colour: is no field"),
        ("answer", "?", "input"),
        ("think", {"question": "?", "temperature": 9}, "input.temperature"),
        ("read", {"document": "a.md", "questions": []}, "input.questions"),
        ("chat", {"messages": [{"role": "wizard", "content": ""}]}, "input.messages.0.role"),
        ("chat", {"messages": [{"role": "user", "content": "x"}], "top_p": 0}, "input.top_p"),
    ],
)
def test_bad_input_is_refused_by_field(kind: str, given: Any, told: str) -> None:
    with pytest.raises(InvalidInput, match="^" + told):
        Kinds(None).validate(kind, given)


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(UnknownKind, match="did you mean answer"):
        Kinds(None).get("anwser")


def test_an_owners_prompt_comes_before_ours_and_values_are_never_templates(tmp_path: Path) -> None:
    (tmp_path / "think.md").write_text("Mine: {{ question }}")

    filled = Prompts(tmp_path).render("think", {"question": "{{ 7 * 7 }} {% raw %}"})

    assert filled == "Mine: {{ 7 * 7 }} {% raw %}"
    with pytest.raises(NotFound, match="nowhere"):
        Prompts(tmp_path).render("nowhere", {})


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "minutes.md").write_text(
        "---\nkind: minutes\nsummary: Sums up minutes\ninputs:\n  text: The minutes\n  language: {help: L, default: English}\n"
        "system: You are brief.\nmax_tokens: 50\n---\nSum up in {{ language }}: {{ text }}\n"
    )
    yield tmp_path


def test_an_owners_kind_needs_no_python(own: Path) -> None:
    kinds = Kinds(own)
    given = kinds.validate("minutes", {"text": "We met."})
    ctx = Desk(given, lambda *_: "They met.")

    assert kinds.get("minutes").run(ctx)["answer"] == "They met."
    assert ctx.prompts == ["Sum up in English: We met."]
    assert ctx.asks[0].max_tokens == 50
    with pytest.raises(InvalidInput, match=r"input\.text: is missing"):
        kinds.validate("minutes", {})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("no front matter", "front matter"),
        ("---\nkind: Bad Name\nsummary: s\ninputs: {a: b}\n---\n{{ a }}", "lower-case"),
        ("---\nkind: k\nsummary: s\ninputs: {a: b}\n---\n{{ b }}", "'b' is undefined"),
        ("---\nkind: k\nsummary: s\ninputs: {a: b}\ncolour: red\n---\n{{ a }}", "colour"),
        ("---\nkind: [\n---\n", "cannot be used"),
        ("---\nkind: k\nsummary: s\ninputs: {a: b}\n---\n{{ a.__class__ }}", "k.md"),
    ],
)
def test_a_broken_kind_is_told_and_stops_nothing(own: Path, text: str, told: str) -> None:
    (own / "k.md").write_text(text)

    kinds, problems = load_own_kinds(own)

    assert [kind.name for kind in kinds] == ["minutes"]
    assert len(problems) == 1
    assert told in problems[0]
    assert "k.md" in problems[0]


def test_a_kind_that_looks_passages_up_has_its_answer_checked(tmp_path: Path) -> None:
    (tmp_path / "fact.md").write_text(
        "---\nkind: fact\nsummary: s\ninputs: {topic: t}\nretrieve: '{{ topic }} size'\n---\n"
        "{% for hit in hits %}{{ hit.text }}{% endfor %} About {{ topic }}?"
    )
    ctx = Desk({"topic": "Qwen3-32B"}, lambda *_: "A token of Qwen3-32B takes 256 KiB.", [KV])

    result = Kinds(tmp_path).get("fact").run(ctx)

    assert result["answer"] == "A token of Qwen3-32B takes 256 KiB. [1]"


def test_an_owners_edit_counts_for_the_next_job_and_an_untouched_file_is_not_parsed_again(own: Path) -> None:
    kinds = Kinds(own)
    first = kinds.get("minutes")

    assert kinds.get("minutes") is first

    file = own / "minutes.md"
    file.write_text(file.read_text().replace("Sums up minutes", "Sums up at length"))
    assert kinds.get("minutes").summary == "Sums up at length"
    file.unlink()
    file.symlink_to(own / "nowhere")
    assert len(kinds.problems()) == 1
    with pytest.raises(UnknownKind):
        kinds.get("minutes")
