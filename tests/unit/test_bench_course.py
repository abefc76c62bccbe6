"""Which measurements a benchmark makes, in which order."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.bench_course import course, ladder, title
from jobs.registry import Kinds

HERE: dict[str, Any] = {
    "base": {
        "context": 8192,
        "flash": False,
        "type_k": "f16",
        "type_v": "f16",
        "ubatch": 512,
        "threads_prompt": 4,
        "threads_step": 3,
        "threads_single": 2,
    },
    "threads": [4, 2, 1],
}


def points(**wanted: Any) -> list[dict[str, Any]]:
    return course(Kinds(None).validate("bench", wanted), HERE)


def test_depths_go_up_by_doubling_to_the_end_of_the_context() -> None:
    assert ladder(8192, 512) == [0, 512, 1024, 2048, 4096, 7679]
    assert ladder(131072, 512)[-3:] == [32768, 65536, 130559]
    assert ladder(4700, 512) == [0, 512, 1024, 2048, 4096]
    assert ladder(256, 64) == [0]


def test_what_tells_most_comes_first_and_great_depths_last() -> None:
    found = points()

    assert [(one["test"], one["depth"]) for one in found[:4]] == [
        ("prompt", 0),
        ("answer", 0),
        ("prompt", 512),
        ("answer", 512),
    ]
    assert [one["depth"] for one in found[-2:]] == [7679, 7679]
    order = [
        next(place for place, one in enumerate(found) if test(one))
        for test in (
            lambda one: one["rows"] > 1,
            lambda one: one["flash"],
            lambda one: one["type_k"] == "q8_0",
            lambda one: one["threads"] == 1,
            lambda one: one["depth"] > 4096,
        )
    ]
    assert order == sorted(order)


def test_one_dimension_at_a_time_and_no_point_twice() -> None:
    found = points()

    assert len({title(one) for one in found}) == len(found) < 50
    for one in found:
        others = [
            one["rows"] > 1,
            one["flash"] and one["type_v"] == "f16",
            one["type_k"] != "f16",
            one["threads"] not in (4, 3, 2),
            one["depth"] > 4096,
        ]
        assert sum(others) <= 1, one


def test_threads_are_the_engines_for_each_phase() -> None:
    found = points(widths=[1, 8], threads=[], depths=[0])

    assert {(one["test"], one["rows"]): one["threads"] for one in found[:3]} == {
        ("prompt", 1): 4,
        ("answer", 1): 2,
        ("answer", 8): 3,
    }


def test_the_first_value_given_is_what_all_else_is_measured_with() -> None:
    found = points(depths=[0, 2048], widths=[1], flash=["on"], kv_types=["q8_0"], threads=[2])

    assert {title(one) for one in found} == {
        f"{test} behind {depth}, flash on, kv q8_0, 2 threads, ubatch 512"
        for test in ("prompt 512", "answer 64")
        for depth in (0, 2048)
    }


def test_values_of_q8_0_bring_flash_attention_with_them() -> None:
    found = points(depths=[0], widths=[1], flash=[], kv_types=["f16", "q8_0,f16", "q8_0"], threads=[2])

    flash = {(one["type_k"], one["type_v"]): one["flash"] for one in found if one["type_k"] == "q8_0"}
    assert flash == {("q8_0", "f16"): False, ("q8_0", "q8_0"): True}


@pytest.mark.parametrize("context", [256, 1024, 131072])
def test_every_point_fits_into_the_context(context: int) -> None:
    here = {**HERE, "base": {**HERE["base"], "context": context}}
    input_ = Kinds(None).validate("bench", {"prompt_tokens": 128, "answer_tokens": 16})

    assert max(one["depth"] + 128 for one in course(input_, here)) < context


def test_depths_are_measured_from_the_least_on_whatever_their_order() -> None:
    found = points(depths=[65536, 0, 8192, 8192], widths=[1], flash=["off"], kv_types=["f16"], threads=[2])

    assert [one["depth"] for one in found] == [0, 0, 8192, 8192, 65536, 65536]


def test_a_base_of_q8_0_values_has_flash_attention_whatever_is_said_first() -> None:
    found = points(depths=[0], widths=[1], flash=["off", "on"], kv_types=["q8_0"], threads=[2])

    assert {one["flash"] for one in found} == {True}
