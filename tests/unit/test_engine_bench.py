"""The engine's bench: the same work for all peers, and a table that tells the truth about it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.engine import peers, report, workloads
from tests.bench.engine.__main__ import main
from tests.bench.engine.measure import Tally, agreement, rotated
from tests.bench.engine.naive import Naive
from tests.bench.engine.ours import Ours, corpus_text
from tests.bench.engine.peers import Answer, Outcome, PeerFailed
from tests.bench.engine.report import Check, Measured, Row
from tests.bench.engine.server import widths_for
from tests.bench.engine.workloads import Book, Work
from tests.engine_models import write_tiny_model

BOOK = Book(body=tuple(range(100, 12_100)), head=(1, 2), question=(3,), repeat=(4,), tail=(5, 6))


def work(name: str, *, quick: bool = False) -> Work:
    return workloads.build(workloads.shape_of(name, quick=quick), BOOK)


def row(ours: tuple[float, ...], server: Measured) -> Row:
    measured = {"ours": Measured("ours", ours), "server": server}
    return Row("unrelated", "32 prompts", "f16", measured, {"server": 1.2, "naive": 3.0})


@pytest.mark.parametrize(
    ("name", "prompts", "tokens", "answers"),
    [
        ("unrelated", 32, 114, 32),
        ("document", 32, 1729, 32),
        ("best-of", 1, 994, 16),
        ("second-night", 8, 6029, 8),
        ("extraction", 8, 301, 8),
    ],
)
def test_every_workload_has_the_size_it_names(name: str, prompts: int, tokens: int, answers: int) -> None:
    built = work(name)

    assert len(built.prompts) == prompts
    assert {len(prompt) for prompt in built.prompts} == {tokens}
    assert built.shape.num_answers == answers


@pytest.mark.parametrize("name", workloads.NAMES)
def test_prompt_and_answer_fit_the_context_of_every_peer(name: str) -> None:
    built = work(name)

    longest = max(len(prompt) for prompt in built.prompts) + built.shape.new_tokens
    assert longest < built.context and built.context % workloads.PAD == 0


def test_questions_have_the_document_in_common_and_nothing_else() -> None:
    built = work("document")
    rests = [prompt[len(built.document) :] for prompt in built.prompts]

    assert all(prompt[: len(built.document)] == built.document for prompt in built.prompts)
    assert len({rest[0] for rest in rests}) == len(rests)


def test_unrelated_prompts_share_only_the_words_around_them() -> None:
    built = work("unrelated")

    passages = [set(prompt[2:-2]) for prompt in built.prompts]
    assert sum(map(len, passages)) == len(set().union(*passages))


def test_an_extraction_has_been_begun() -> None:
    prompt = work("extraction").prompts[0]

    begun = prompt[prompt.index(5) + 2 :]
    assert begun == prompt[3 : 3 + len(begun)] and len(begun) == workloads.ROOM


def test_samples_are_drawn_and_single_answers_are_greedy() -> None:
    temperatures = {shape.name: shape.temperature for shape in workloads.SHAPES}

    assert temperatures.pop("best-of") > 0
    assert set(temperatures.values()) == {0.0}


@given(st.integers(0, 30_000), st.integers(1, 9000))
def test_a_window_is_as_long_as_asked_wherever_it_begins(start: int, length: int) -> None:
    window = BOOK.window(start, length)

    assert len(window) == length and set(window) <= set(BOOK.body)


@given(st.lists(st.integers(0, 3), min_size=8, max_size=60), st.lists(st.integers(0, 3), min_size=1, max_size=60))
def test_the_copied_share_is_a_share(prompt: list[int], answer: list[int]) -> None:
    assert 0 <= workloads.copied_share(tuple(prompt), tuple(answer)) <= 1


def test_a_copy_is_told_from_new_words() -> None:
    prompt = tuple(range(50))

    assert workloads.copied_share(prompt, tuple(range(10, 40))) > 0.7
    assert workloads.copied_share(prompt, tuple(range(100, 130))) == 0


def test_the_starter_corpus_is_long_enough_for_the_longest_document() -> None:
    assert len(corpus_text()) > 5 * 6000


def test_short_or_missing_answers_are_not_compared() -> None:
    built = work("extraction", quick=True)
    whole = Answer(built.shape.new_tokens, "x")
    enough = Outcome(1.0, (whole,) * built.shape.num_answers)

    assert peers.checked("ours", built, enough) is enough
    with pytest.raises(PeerFailed, match="gave 3 answers to extraction, 4 were asked"):
        peers.checked("ours", built, Outcome(1.0, (whole,) * 3))
    with pytest.raises(PeerFailed, match="naive gave 1 tokens in answer 3 of extraction, 32 were asked"):
        peers.checked("naive", built, Outcome(1.0, (whole, whole, whole, Answer(1, "x"))))


def test_widths_that_cannot_matter_are_not_tried() -> None:
    assert widths_for(work("unrelated")) == (1, 4, 8, 16, 32)
    assert widths_for(work("second-night")) == (1, 4, 8)
    assert widths_for(work("best-of")) == (16,)
    assert widths_for(work("best-of"), (1, 4)) == (16,)


def test_peers_take_turns_at_being_first() -> None:
    tallies = [Tally(Ours()), Tally(Naive())]

    assert [rotated(tallies, number)[0].peer.name for number in range(3)] == ["ours", "naive", "ours"]
    assert rotated([], 1) == []


def test_agreement_is_the_part_said_alike_from_the_beginning() -> None:
    ours = Tally(Ours(), outcomes=[Outcome(1.0, (Answer(4, "abcd"), Answer(4, "wxyz")))])
    naive = Tally(Naive(), outcomes=[Outcome(1.0, (Answer(4, "abcd"), Answer(4, "wx--")))])

    assert agreement([ours, naive]) == {"naive": 0.75}
    assert agreement([naive]) == {}


def test_a_ratio_is_of_medians_and_is_held_against_its_target() -> None:
    measured = row((90.0, 240.0, 250.0), Measured("server", (200.0, 190.0, 220.0), note="-np 16"))

    assert measured.ratio("server") == pytest.approx(1.2)
    assert measured.verdict("server") == "1.20x, 1.2x met"
    assert row((230.0,), Measured("server", (200.0,))).verdict("server") == "1.15x, 1.2x MISSED"
    assert measured.ratio("naive") is None and measured.verdict("naive") == ""


def test_a_quick_run_asks_nothing_of_its_times() -> None:
    assert {shape.server_target for shape in map(workloads.quickened, workloads.SHAPES)} == {0.0}
    slow = Row(
        "unrelated", "", "f16", {"ours": Measured("ours", (1.0,)), "naive": Measured("naive", (2.0,))}, {"naive": 0.0}
    )
    assert slow.verdict("naive") == "0.50x" and report.missed([slow], []) == []


def test_a_server_that_is_not_built_is_no_failure_and_one_that_fails_is() -> None:
    absent = row((100.0,), Measured("server", error=report.NOT_BUILT))
    broken = row((100.0,), Measured("server", error="failed: it said 500"))

    assert "not built" in "\n".join(report.table_of_rows([absent]))
    assert report.missed([absent], []) == []
    assert report.missed([broken], []) == ["unrelated f16: failed: it said 500"]


def test_a_missed_figure_is_named_and_one_without_target_is_not() -> None:
    checks = [Check("restore", "f16", "9x", ">= 10x", False), Check("decoding", "f16", "70 tok/s")]

    assert report.missed([], checks) == ["restore f16"]
    assert report.table_of_checks(checks)[2].split() == ["restore", "f16", "9x", ">=", "10x", "MISSED"]


def test_columns_stand_below_each_other() -> None:
    lines = report.table_of_rows([row((100.0, 120.0), Measured("server", (50.0,)))])

    assert lines[2].index("110.0 (100-120)") == lines[0].index("ours tok/s")
    assert lines[2].index("50.0") == lines[0].index("llama-server tok/s")


def test_a_noisy_machine_is_told() -> None:
    assert report.warnings([1.0, 2.0], 0.1, 2) == []
    assert "others used up to 40% of the processor before 1 of 2 runs" in report.warnings([40.0, 2.0], 0.1, 2)[0]
    assert "load average was 3.00" in report.warnings([0.0], 3.0, 2)[0]


def test_a_server_that_was_named_must_be_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LLAMA_SERVER", str(tmp_path / "none"))

    with pytest.raises(PeerFailed, match="make bench-peers"):
        peers.find_server("0.0.0")


@pytest.mark.real
def test_one_command_measures_a_tiny_model_and_writes_it_down(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny.gguf")
    told = tmp_path / "told.json"
    command = ["--quick", "--model", str(model), "--cache", str(tmp_path / "cache"), "--json", str(told)]
    command += ["--peers", "ours,naive", "--threads", "1", "--workload", "unrelated", "--workload", "second-night"]

    assert main([*command, "--workload", "restore"]) == 0

    found = json.loads(told.read_text("utf-8"))
    assert [item["workload"] for item in found["rows"]] == ["unrelated", "second-night"]
    assert all(item["ratios"]["naive"] > 0 for item in found["rows"])
    assert found["checks"][0]["facts"]["spared"] is True
    assert list((tmp_path / "cache" / "run").iterdir()) == []  # no KV is left behind
