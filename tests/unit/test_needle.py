"""The kind `needle` as a recipe: prompts of the exact length, facts at their depth, a score that no guess improves."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest

from jobs import haystack, needle
from jobs.context import Ask, ChatMessage, Said
from jobs.needle import Fact, Question, numbers_in, prompts_of, questions_of, reliable_tokens
from jobs.registry import Kinds
from monk.errors import InvalidInput
from tests.readers import FACT, asked_in, facts_in, reader
from tests.unit.test_kinds import Desk


class ReadingDesk(Desk):
    """Keeps what was measured. `count`: tokens of a text; the chat template costs nine more."""

    def __init__(
        self,
        answer: Callable[[str], str] = lambda _: "",
        count: Callable[[str], int] = lambda text: len(text.split()),
        window: int = 4096,
        **input_: Any,
    ) -> None:
        super().__init__(Kinds(None).validate("needle", input_), lambda prompt, _: answer(prompt), None, window)
        self._count = count
        self.noted: list[dict[str, Any]] = []
        self.kept: list[dict[str, Any]] = []

    def count_tokens(self, text: str) -> int:
        return self._count(text)

    def prompt_tokens(self, messages: list[ChatMessage]) -> int:
        return 9 + super().prompt_tokens(messages)

    def note(self, type_: str, data: dict[str, Any]) -> None:
        self.noted.append({"type": type_, **data})

    def keep_reach(self, measured: dict[str, Any]) -> dict[str, Any]:
        self.kept.append(measured)
        return {"reliable_tokens": reliable_tokens(measured["table"], measured["control"])}


def words(text: str) -> int:
    return len(text.split())


def letters(text: str) -> int:
    return len(text.encode())


def pieces(text: str) -> int:
    """Tokens as a vocabulary of parts of words has them: long words take several, digits one each."""
    return sum(
        -(-len(part) // 4) if part.isalpha() else len(part) for part in re.findall(r"[A-Za-z]+|\d|[^\w\s]", text)
    )


def common_beginning(texts: list[str]) -> str:
    first, last = min(texts), max(texts)
    return first[: next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), None)]


def run(desk: ReadingDesk) -> dict[str, Any]:
    return needle.run(desk)  # type: ignore[arg-type]


def prompts(desk: ReadingDesk, length: int, needles: tuple[int, ...] = (1, 3)) -> list[str]:
    questions = questions_of("seed", needle.DEPTHS, needles)
    made = prompts_of(desk, questions, length, "seed")  # type: ignore[arg-type]
    return [messages[-1].content for messages in made]


# ── the text ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("count", [words, pieces, letters])
@pytest.mark.parametrize("length", [1024, 1500, 16384])
def test_every_prompt_is_as_long_as_it_is_called(count: Callable[[str], int], length: int) -> None:
    desk = ReadingDesk(count=count)

    sizes = [desk.prompt_tokens([ChatMessage("user", prompt)]) for prompt in prompts(desk, length)]

    assert all(0.99 * length <= size <= length for size in sizes), sizes


def test_all_questions_on_a_text_begin_alike_with_all_its_facts() -> None:
    made = prompts(ReadingDesk(), 2048)

    common = common_beginning(made)

    assert len(made) == 11 and len(set(made)) == 11
    assert len(facts_in(common)) == 5
    assert len(common) > 0.95 * max(map(len, made))


@pytest.mark.parametrize("length", [1024, 16384])
def test_a_fact_stands_at_its_depth(length: int) -> None:
    questions = questions_of("seed", needle.DEPTHS, (1,))
    prompt = prompts(ReadingDesk(), length, (1,))[0]
    text = prompt.split('"""')[1].strip()

    for question in questions[:-1]:
        fact = question.facts[0]
        told = f"The number of the {fact.thing} is {fact.number}."
        place = text.index(told) / (len(text) - len(told))
        assert fact.depth is not None and abs(place - fact.depth / 100) < 0.03, fact
    assert text.startswith("The number of the")


def test_the_prose_has_no_digit_and_no_word_of_a_name_and_hardly_repeats_itself() -> None:
    prose = list(islice(haystack.sentences("x"), 8000))

    used = set(re.findall(r"\w+", " ".join(prose).lower()))

    assert not used & {*haystack.MATERIALS, *haystack.THINGS, "number", "numbers"}
    assert not re.search(r"\d", " ".join(prose))
    assert len(set(prose)) > 0.8 * len(prose)
    assert list(islice(haystack.sentences("x"), 9)) == prose[:9] != list(islice(haystack.sentences("y"), 9))


def test_the_longest_text_is_found_in_a_handful_of_counts() -> None:
    asked: list[int] = []

    def count(text: str) -> int:
        asked.append(len(text))
        return pieces(text)

    facts = [(0.0, "First."), (0.5, "Middle."), (1.0, "Last.")]
    text, size = haystack.longest(count, 30_000, "seed", facts)

    more = haystack.with_facts(list(islice(haystack.sentences("seed"), size + 1)), facts)
    assert pieces(text) <= 30_000 < pieces(more)
    assert text.startswith("First.") and text.endswith("Last.")
    assert len(asked) <= 12
    assert haystack.longest(pieces, 3, "seed", facts)[1] == -1


# ── the questions ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_facts_are_drawn_alike_for_one_seed_and_otherwise_for_another() -> None:
    first, again, other = (questions_of(seed, needle.DEPTHS, (1, 3)) for seed in ("a", "a", "b"))

    assert first == again != other
    facts = {fact for question in first for fact in question.facts}
    parts = [word for fact in facts for word in fact.thing.split()]
    assert len({fact.number for fact in facts}) == len(facts) == 6
    assert len(set(parts)) == len(parts), "no two names have a word in common"
    assert all(re.fullmatch(r"[1-9]\d{6}", fact.number) for fact in facts)


@pytest.mark.parametrize("needles", [(1,), (3,), (8,), (1, 2, 5, 8)])
@pytest.mark.parametrize("depths", [(50.0,), needle.DEPTHS, tuple(float(depth) for depth in range(16))])
def test_every_depth_is_asked_for_equally_often_and_no_fact_twice_in_a_question(
    needles: tuple[int, ...], depths: tuple[float, ...]
) -> None:
    *questions, control = questions_of("seed", depths, needles)

    for count in needles:
        asked = [fact.depth for question in questions if len(question.facts) == count for fact in question.facts]
        assert {depth: asked.count(depth) for depth in depths} == dict.fromkeys(depths, count)
    assert all(len(set(question.facts)) == len(question.facts) for question in questions)
    assert control.is_control and control.facts[0] not in {fact for question in questions for fact in question.facts}


def test_the_control_asks_for_what_no_prompt_holds() -> None:
    questions = questions_of("seed", needle.DEPTHS, (1, 3))
    made = prompts(ReadingDesk(), 2048)
    absent = questions[-1].facts[0]

    assert asked_in(made[-1]) == [absent.thing]
    assert not any(absent.number in prompt for prompt in made)
    assert [asked_in(prompt) for prompt in made] == [[fact.thing for fact in one.facts] for one in questions]


def test_more_facts_than_a_prompt_holds_are_refused_with_the_figures() -> None:
    with pytest.raises(InvalidInput) as caught:
        prompts(ReadingDesk(), 80)

    assert caught.value.param == "lengths"
    assert re.search(r"80 tokens has no room for a text: 5 facts and the question take \d+", caught.value.message)


# ── the score ─────────────────────────────────────────────────────────────────────────────────────────────────────────

ONE, TWO, THREE = (
    Fact(f"copper {name}", number, 50.0) for name, number in zip("abc", ("4831920", "1234567", "7654321"), strict=True)
)


@pytest.mark.parametrize(
    ("answer", "asked", "found"),
    [
        ("4831920", (ONE,), 1),
        ("The number is 4,831,920.", (ONE,), 1),
        ("4 831 920", (ONE,), 1),
        ("**4831920**, as the text says in 2026.", (ONE,), 1),
        ("In 2026 it was 4831920.", (ONE,), 1),
        ("14831920", (ONE,), 0),
        ("48319201", (ONE,), 0),
        ("4831921", (ONE,), 0),
        ("", (ONE,), 0),
        ("1234567, 4831920 and 7654321", (ONE,), 0),  # lists what it has seen
        ("4831920, 1234567 and 7654321", (ONE, TWO, THREE), 3),
        ("1. 1234567\n2. 4831920", (ONE, TWO, THREE), 2),
        ("1111111, 2222222, 3333333, 4831920", (ONE, TWO, THREE), 0),
    ],
)
def test_an_answer_has_found_what_it_names_first(answer: str, asked: tuple[Fact, ...], found: int) -> None:
    assert len(needle.found_in(answer, Question(asked))) == found


def test_numbers_of_a_list_and_years_are_none() -> None:
    assert numbers_in("1. In 1999: 12,345; 2. then 1234567,7654321") == ["12345", "1234567", "7654321"]


def row(length: int, depth: float, found: int, asked: int, needles: int = 1) -> dict[str, Any]:
    return {"length": length, "depth": depth, "needles": needles, "found": found, "asked": asked, "seconds": 1.0}


@pytest.mark.parametrize(
    ("table", "reliable"),
    [
        ([row(1024, 0, 1, 1), row(2048, 0, 1, 1)], 2048),
        ([row(1024, 0, 4, 5), row(2048, 0, 3, 5)], 1024),
        ([row(1024, 0, 5, 5), row(1024, 50, 3, 5)], 0),
        ([row(1024, 0, 0, 1), row(2048, 0, 1, 1)], 0),  # a longer one by luck does not count
        ([row(1024, 0, 3, 3), row(2048, 0, 2, 3), row(4096, 0, 3, 3)], 1024),
        ([row(1024, 0, 3, 3), row(1024, 0, 0, 3, needles=3)], 1024),  # the fewest facts to a question decide
        ([row(1024, 0, 3, 3, needles=2), row(2048, 0, 0, 3, needles=2)], 1024),
        ([], 0),
    ],
)
def test_a_length_is_reliable_when_it_and_all_shorter_ones_find_four_of_five_at_every_depth(
    table: list[dict[str, Any]], reliable: int
) -> None:
    assert reliable_tokens(table, []) == reliable
    assert reliable_tokens(table[::-1], []) == reliable


def test_a_length_at_which_the_absent_was_found_is_not_reliable() -> None:
    table = [row(1024, 0, 1, 1), row(2048, 0, 1, 1)]

    assert reliable_tokens(table, [{"length": 2048, "asked": 1, "right": 1, "named": 1}]) == 1024


# ── the job ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_model_that_reads_everything_is_reliable_to_the_end_of_its_window() -> None:
    desk = ReadingDesk(reader())

    result = run(desk)

    assert (result["reliable_tokens"], result["reliable_by_needles"]) == (4036, {"1": 4036, "3": 4036})
    assert [(text["length"], text["trial"]) for text in result["texts"]] == [
        *((1024, trial) for trial in (1, 2, 3)),
        *((2048, 1), (4036, 1)),
    ]
    assert {(one["length"], one["depth"]) for one in result["table"]} == {
        (length, depth) for length in (1024, 2048, 4036) for depth in needle.DEPTHS
    }
    assert all(one["found"] == one["asked"] for one in result["table"])
    assert [one["asked"] for one in result["table"] if one["length"] == 1024] == [3] * 5 + [9] * 5
    assert result["control"] == [
        {"length": length, "asked": asked, "right": 0, "named": 0}
        for length, asked in ((1024, 3), (2048, 1), (4036, 1))
    ]
    assert desk.kept[0]["table"] == result["table"] and result["kept"] == {"reliable_tokens": 4036}
    assert "up to **4,036 tokens** (longer ones were not tried)" in result["answer"]
    assert [note["length"] for note in desk.noted] == [1024, 1024, 1024, 2048, 4036]
    assert desk.asks[0] == Ask(max_tokens=60, thinking=0.0)


def test_a_model_that_loses_long_prompts_is_told_from_where_on() -> None:
    limit = max(map(len, prompts(ReadingDesk(), 2048))) + 400

    result = run(ReadingDesk(reader(limit), trials=1))

    assert result["reliable_tokens"] == 2048
    assert "up to **2,048 tokens** (4,036 were tried)" in result["answer"]
    single, triple = result["pictures"]
    assert single == {
        "form": "heat",
        "title": "1 fact asked for at once: percent found",
        "x": "prompt (tokens)",
        "y": "depth of the fact (%)",
        "columns": ["1,024", "2,048", "4,036"],
        "rows": ["0", "25", "50", "75", "100"],
        "values": [[1.0, 1.0, 0.0]] * 5,
        "most": 1.0,
    }
    assert triple["title"] == "3 facts asked for at once: percent found"


def test_what_is_lost_in_the_middle_is_seen_at_its_depth() -> None:
    result = run(ReadingDesk(reader(blind_at=(0.4, 0.6)), lengths=[1024], needles=1, trials=2))

    assert [(one["depth"], one["found"], one["asked"]) for one in result["table"]] == [
        *((0.0, 2, 2), (25.0, 2, 2), (50.0, 0, 2), (75.0, 2, 2), (100.0, 2, 2))
    ]
    assert result["reliable_tokens"] == 0
    assert "does not find things reliably even in prompts of 1,024 tokens" in result["answer"]
    assert "| 50 % | 0 % of 2 |" in result["answer"]


def test_a_model_that_lists_all_it_has_seen_is_not_taken_for_one_that_finds() -> None:
    def lists(prompt: str) -> str:
        return ", ".join(number for _, number in FACT.findall(prompt))

    result = run(ReadingDesk(lists, lengths=[1024], needles=1, trials=1))

    assert [one["found"] for one in result["table"]] == [1, 0, 0, 0, 0]
    assert result["control"] == [{"length": 1024, "asked": 1, "right": 0, "named": 1}]
    assert result["reliable_tokens"] == 0


def test_guesses_find_nothing() -> None:
    drawn = random.Random(7)

    result = run(ReadingDesk(lambda _: " ".join(str(drawn.randrange(10**6, 10**7)) for _ in range(8)), trials=1))

    assert sum(one["found"] for one in result["table"]) == 0 and result["reliable_tokens"] == 0


def test_the_same_seed_asks_the_same_and_a_seed_of_the_input_goes_before_the_jobs() -> None:
    desks = [ReadingDesk(lengths=[1024], seed=seed) for seed in (5, 5, None)]

    results = [run(desk) for desk in desks]

    assert desks[0].prompts == desks[1].prompts != desks[2].prompts
    assert [result["seed"] for result in results] == [5, 5, 1]


class ShortOfTime(ReadingDesk):
    """Its minutes end in the middle of the third text."""

    def think_each(self, name: str, prompts: list[list[ChatMessage]], ask: Ask) -> list[Said]:
        said = super().think_each(name, prompts, ask)
        late = name.startswith("2048")
        return [*said[:-1], Said("t", "", "", "minutes", 0)] if late else said


def test_minutes_that_end_in_the_middle_of_a_length_leave_the_shorter_ones_measured() -> None:
    desk = ShortOfTime(reader(), trials=1)
    nothing = ShortOfTime(reader(), lengths=[2048])

    result, empty = run(desk), run(nothing)

    assert result["out_of_time"] and result["reliable_tokens"] == 1024
    assert {one["length"] for one in result["table"]} == {1024}
    assert "2048-1" not in desk.steps and "was to go on to 4,036 tokens" in result["answer"]
    assert empty["kept"] is None and empty["pictures"] == [] and "Nothing can be said" in empty["answer"]


# ── the input ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_lengths_double_up_to_the_longest_that_leaves_room_for_the_answer() -> None:
    assert needle.lengths_up_to(131_012) == [1024 << i for i in range(7)] + [131_012]
    assert needle.lengths_up_to(8132) == [1024, 2048, 4096, 8132]
    assert needle.lengths_up_to(5000) == [1024, 2048, 4096, 5000]
    assert needle.lengths_up_to(4400) == [1024, 2048, 4400]
    assert needle.lengths_up_to(900) == [900]


def test_input_is_put_in_order() -> None:
    given = Kinds(None).validate("needle", {"lengths": [4096, 1024, 1024], "depths": [100, 0], "needles": 2})

    assert (given["lengths"], given["depths"], given["needles"]) == ([1024, 4096], [0.0, 100.0], [2])
    assert Kinds(None).validate("needle", {})["needles"] == [1, 3]


@pytest.mark.parametrize(
    ("input_", "told"),
    [
        ({"needles": 9}, "input.needles"),
        ({"needles": [0]}, "input.needles"),
        ({"needles": []}, "input.needles"),
        ({"depths": [101]}, "input.depths"),
        ({"depths": []}, "input.depths"),
        ({"lengths": [10]}, "input.lengths"),
        ({"context": -1}, "input.context"),
        ({"trials": 33}, "input.trials"),
        (
            {"context": 512, "lengths": [512]},
            "512 tokens and 60 for the answer are more than the 512 of the context; lengths may go to 452, or raise context",
        ),
        ({"length": 5}, "is no field of this kind"),
    ],
)
def test_what_cannot_be_measured_is_refused_when_it_is_submitted(input_: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(told)):
        Kinds(None).validate("needle", input_)


@pytest.mark.parametrize(
    ("input_", "told"),
    [
        ({"context": 8192}, "context is 8192; a thought holds 4096 tokens here; raise MONK_CONTEXT"),
        (
            {"lengths": [4096]},
            "4096 tokens and 60 for the answer are more than the 4096 of the context; lengths may go to 4036",
        ),
        ({"context": 70}, "context is 70; 60 of it are for the answer"),
    ],
)
def test_what_the_window_does_not_hold_is_refused_with_the_figures(input_: dict[str, Any], told: str) -> None:
    desk = ReadingDesk(**input_)

    with pytest.raises(InvalidInput, match=re.escape(told)):
        run(desk)
    assert desk.prompts == []


def test_a_budget_of_tokens_that_would_cut_answers_is_refused() -> None:
    desk = ReadingDesk(lengths=[1024], trials=1)
    desk.budget = {"tokens": 500}

    with pytest.raises(InvalidInput, match=re.escape("budget.tokens is 500; these questions may take 660")):
        run(desk)
