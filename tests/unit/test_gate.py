"""The gate: better where it was taught, and not worse elsewhere by more than the margin."""

from __future__ import annotations

import pytest

from jobs.gate import GENERAL_MARGIN, Trial, overlap, verdict

HELD, GENERAL = {"base": 3.0, "adapter": 1.0}, {"base": 2.0, "adapter": 2.05}
GOOD = Trial("Who?", "Anna Berg.", "Nobody knows.", "Anna  berg")


def test_a_better_adapter_passes_with_its_figures() -> None:
    told = verdict(HELD, GENERAL, [GOOD])

    assert told["passed"] and told["reasons"] == []
    assert (told["exact"], told["overlap"]["adapter"], told["answers"]) == ({"base": 0, "adapter": 1}, 1.0, 1)
    assert told["rubric"] is None


@pytest.mark.parametrize(
    ("held", "general", "trials", "reason"),
    [
        ({"base": 3.0, "adapter": 2.99}, GENERAL, [GOOD], "its loss on what was held back is 2.990"),
        (HELD, {"base": 2.0, "adapter": 2.0 + GENERAL_MARGIN + 0.01}, [GOOD], "it forgot other things"),
        (
            HELD,
            GENERAL,
            [Trial("Who?", "Anna.", "Anna", "Bert")],
            "answers 0 of 1 held-back questions exactly, the base 1",
        ),
        (HELD, GENERAL, [Trial("Who?", "Anna Berg", "Anna B", "Nobody")], "share 0.00 of their words"),
        (HELD, GENERAL, [Trial("Who?", "x", "x", "x", True, False)], "0 of 1 answers meet the rubric, 1 of the base's"),
    ],
)
def test_each_reason_alone_keeps_it_from_being_worn(
    held: dict[str, float], general: dict[str, float], trials: list[Trial], reason: str
) -> None:
    told = verdict(held, general, trials)

    assert not told["passed"] and any(reason in line for line in told["reasons"]), told["reasons"]


def test_overlap_is_f1_of_words() -> None:
    assert overlap("The yen.", "the YEN") == 1.0 and overlap("", "") == 1.0
    assert overlap("a b c d", "a b") == pytest.approx(2 * 0.5 * 1 / 1.5)
    assert overlap("x", "y") == 0.0
