"""The handbook's page on everything turned up: its commands are run again, and its figures compared within rounding."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import corpus
from monk.cli.app import app
from monk.engine.config import EngineConfig
from monk.plan import source
from monk.plan.machines import described
from monk.plan.speed import Work

PAGE = (Path(corpus.__file__).parent / "starter" / "13-everything-turned-up.md").read_text(encoding="utf-8")
GIB = float(1 << 30)


def rows(title: str) -> list[list[str]]:
    """The first table under a heading or a line that begins so."""
    lines = PAGE[PAGE.index(title) :].splitlines()
    first = next(at for at, line in enumerate(lines) if line.startswith("|---"))
    found = []
    for line in lines[first + 1 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def commands(title: str) -> list[str]:
    """Of the first block behind it."""
    return PAGE[PAGE.index(title) :].split("```")[1].strip().splitlines()


@cache
def planned(command: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*command.split()[1:], "--json"], catch_exceptions=False)
    return dict(json.loads(done.stdout))


def value(plan: dict[str, Any], name: str) -> float:
    return float(next(figure["value"] for figure in plan["memory"] if figure["name"] == name))


def number(text: str) -> float:
    return float(re.sub(r"[^\d.]", "", text))


def near(text: str, expected: float) -> bool:
    """Equal within the rounding of the text."""
    decimals = len(text.split()[0].partition(".")[2])
    return abs(number(text.split()[0]) - expected) <= 0.5001 * 10**-decimals


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONK_HOME", str(tmp_path))


EVERYTHING = list(
    zip(
        commands("## Everything at once: the memory"),
        rows("## Everything at once: the memory"),
        rows("## Everything at once: the time"),
        strict=True,
    )
)


@pytest.mark.parametrize(("command", "memory", "time"), EVERYTHING)
def test_everything_at_once(command: str, memory: list[str], time: list[str]) -> None:
    plan = planned(command)
    rates, machines = plan["decode_tokens_per_second"], dict(_machines())

    assert plan["fits"] and memory[:2] == time[:2]
    assert machines[memory[1]] in command and memory[0] == f"{command.split()[2]}, {command.split()[4]}"
    assert (number(memory[2]), number(memory[3])) == (plan["context"], plan["slots"])
    rest = value(plan, "in all") - value(plan, "weights") - value(plan, "KV of all")
    sizes = (value(plan, "weights"), value(plan, "KV of all"), rest, value(plan, "with all beside it"))
    for text, size in zip(memory[4:], sizes, strict=True):
        assert near(text, size / GIB), (text, size / GIB)
    for text, (depth, width) in zip(
        time[2:6], (("0", "1"), ("131072", "1"), ("0", "16"), ("131072", "16")), strict=True
    ):
        assert near(text, rates[depth][width]), (text, rates[depth][width])
    assert near(time[6], plan["prompt_seconds"]["131072"] / 3600)


def _machines() -> list[tuple[str, str]]:
    return [(row[0], row[2].strip("`")) for row in rows("## The machines")]


@pytest.mark.parametrize(
    ("command", "row"), list(zip(commands("## What one night allows"), rows("## What one night allows"), strict=True))
)
def test_what_one_night_allows(command: str, row: list[str]) -> None:
    plan = planned(command)
    tried = plan["tried"]

    assert plan["fits"] and number(row[2]) == plan["context"]
    assert near(row[3], tried[0]["seconds"] / 3600)
    assert row[4] == (tried[1]["verdict"] if len(tried) > 1 else "the longest there is")


@pytest.mark.parametrize(
    ("title", "depths"), [("*Experts.*", ("0",)), ("*Sockets.*", ("0", "131072"))], ids=("experts", "sockets")
)
def test_the_knobs_one_by_one(title: str, depths: tuple[str, ...]) -> None:
    for command, row in zip(commands(title), rows(title), strict=True):
        plan = planned(command)
        if title == "*Experts.*":
            assert near(row[1], value(plan, "in all") / GIB)
        told = [plan["decode_tokens_per_second"][depth]["1"] for depth in depths]
        for text, rate in zip(row[-1 - len(depths) : -1], told, strict=True):
            assert near(text, rate), (text, rate)
        assert near(row[-1], plan["prompt_seconds"]["131072"] / 3600)


def test_published_sizes_are_met() -> None:
    for model, published, told, _ in rows("Weights, in GB"):
        name, weights = model.split()
        size = value(
            planned(f"monk plan {name} --weights {weights.lower()} --ram 1TB --bandwidth 1GB/s --cores 1"), "weights"
        )
        assert near(told, size / 1e9) and number(published) == pytest.approx(size / 1e9, rel=0.02), model
    for name, tokens, expected in (("Llama-3.1-70B", 2048, 640 << 20), ("Llama-3.1-8B", 2048, 256 << 20)):
        plan = planned(f"monk plan {name} --weights q4_k_m --ram 1TB --bandwidth 1GB/s --cores 1")
        assert tokens * value(plan, "KV of a token") == expected


def test_published_speeds_are_compared_as_the_page_says() -> None:
    ratios = []
    for command, row in zip(commands("Speeds of one stream"), rows("Speeds of one stream"), strict=True):
        rate = planned(command)["decode_tokens_per_second"]["0"]["1"]
        assert near(row[2], rate) and number(row[3]) == pytest.approx(rate / number(row[1]), abs=0.03), row
        ratios.append(number(row[3]))

    assert len(ratios) == 15 and sum(abs(ratio - 1.0) <= 0.30 for ratio in ratios) == 12
    told = (1, 1, 2, 6, 6, 4, 4, 5, 3, 7, 8, 8, 9, 9, 18)
    assert [row[4] for row in rows("Speeds of one stream")] == [f"[{n}]" for n in told]
    sources = PAGE[PAGE.index("## Sources") :]
    assert {int(n) for n in re.findall(r"\[(\d+)\]", PAGE)} == {int(n) for n in re.findall(r"^(\d+)\. ", sources, re.M)}


def test_published_prompts_and_depths_are_compared_as_the_page_says() -> None:
    machine, ratios = described(460e9, 96, threads=44), []
    for what, published, told, ratio in rows("Prompts and depth are published less often"):
        name = what.partition(",")[0]
        model = source.find(name, {"gpt-oss-120b": "q8_0"}.get(name, "q4_k_m"))
        flash = "on" if what.endswith("flash attention") else "off"
        work, depth = Work.of(model, EngineConfig(model.path, flash_attention=flash)), 6000 * ("6,000" in what)
        step = 1 / work.step_seconds(machine, 1, depth + 64)
        rate = 512 / work.prompt_seconds(machine, 512, depth) if "prompt" in what else step
        assert near(told, rate) and number(ratio) == pytest.approx(rate / number(published), abs=0.006), what
        ratios.append(number(ratio))

    assert len(ratios) == 7 and sum(abs(one - 1.0) <= 0.20 for one in ratios) == 6
