"""`monk status`: how the daemon does, once or again and again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from monk.client import Client

LOOK_SECONDS = 1.0
VOLATILE = ("daemon:", "memory:")  # change at every look and tell nothing new


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Keep looking, until Ctrl-C.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say how night, queue, engine, corpus and memory are."""
    from monk.cli.session import connect
    from monk.cli.terminal import say_json

    with connect() as daemon:
        if watch:
            _watch(daemon)
        elif json:
            say_json(daemon.get("/status"))
        else:
            _say_all(lines(daemon.get("/status")))


def lines(state: dict[str, Any]) -> list[str]:
    """The daemon's state, a line each; what a person should look at comes last."""
    from monk.cli.moments import spelled
    from monk.cli.night import sentence

    memory, disk = state.get("memory") or {}, state.get("disk") or {}
    told = [
        f"daemon: version {state['version']}, up {spelled(state.get('uptime_seconds') or 0)}",
        sentence(state["night"]),
        f"queue: {_queue(state['queue'])}",
        f"engine: {_engine(state['engine'])}",
        *_tuning((state["engine"].get("model") or {}).get("tuning") or {}),
        *(_reach(state["reach"]) if "reach" in state else []),
        _corpus(state.get("corpus") or {}),
        f"memory: {_gib(memory.get('available_bytes'))} of {_gib(memory.get('total_bytes'))} free; "
        f"disk: {_gib(disk.get('free_bytes'))} free",
    ]
    return told + [f"problem: {problem}" for problem in state.get("problems") or []]


def _queue(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "empty"


def _engine(engine: dict[str, Any]) -> str:
    model = engine.get("model") or {}
    parts = [str(engine["state"])]
    if model:
        parts.append(f"{model['name']}, {model['slots']} slots of {model['context']} tokens")
    if engine.get("active") or engine.get("waiting"):
        parts.append(f"{engine['active']} thinking, {engine['waiting']} waiting")
    if engine.get("decode_tokens_per_second"):
        parts.append(f"{engine['decode_tokens_per_second']:.1f} tokens/s")
    if engine.get("wears"):
        parts.append(
            "wears " + " + ".join(f"{one['name'] or one['sha256'][:12]}:{one['scale']:g}" for one in engine["wears"])
        )
    if engine.get("rss_bytes"):
        parts.append(_gib(engine["rss_bytes"]))
    if engine.get("num_restarts"):
        parts.append(f"restarted {engine['num_restarts']} times")
    return ", ".join(parts)


def _tuning(tuning: dict[str, Any]) -> list[str]:
    """The settings in force by where they are from, in a line."""
    from monk.cli.moments import shown

    by_source: dict[str, list[str]] = {}
    for name, setting in (tuning.get("settings") or {}).items():
        by_source.setdefault(setting["from"], []).append(f"{name} {setting['value']}")
    if not by_source:
        return []
    when = (
        f" (measured {shown(tuning['measured_at'])})" if tuning.get("measured_at") else " (not measured: `monk tune`)"
    )
    told = "; ".join(f"{source}: {', '.join(names)}" for source, names in by_source.items())
    reason = (tuning.get("binding") or {}).get("reason")
    return [f"runs with {told}{when}", *([f"cpus and memory: {reason}"] if reason else [])]


def _reach(reach: dict[str, Any] | None) -> list[str]:
    """How long a prompt the model finds things in."""
    from monk.cli.moments import shown
    from monk.reach import HOW

    if reach is None:
        return [f"reach: never measured how long a prompt the model finds things in: `{HOW}`"]
    when = f"(measured {shown(reach['measured_at'])} up to {reach['longest_tokens']})"
    if not reach["reliable_tokens"]:
        return [f"reach: things get lost even in prompts of {reach['shortest_tokens']} tokens {when}"]
    return [f"reach: finds things in prompts of up to {reach['reliable_tokens']} tokens {when}"]


def _corpus(corpus: dict[str, Any]) -> str:
    from monk.cli.corpus import sentence

    if corpus.get("state") in ("reading", "failed"):
        return sentence(corpus)
    last = corpus.get("last") or {}
    told = ", ".join(f"{value} {name}" for name, value in last.items() if value and type(value) is int)
    return f"corpus: {corpus.get('folder', '?')}{f', last sync: {told}' if told else ''}"


def _gib(num_bytes: int | None) -> str:
    return "?" if num_bytes is None else f"{num_bytes / (1 << 30):.1f} GiB"


def _say_all(told: list[str]) -> None:
    from monk.cli.terminal import say

    for line in told:
        say(line)


def _watch(daemon: Client) -> None:
    """Redraw on a terminal; elsewhere one line whenever something changed. Waits for a daemon that went away."""
    from rich.live import Live
    from rich.text import Text

    from monk.cli.terminal import clean, console

    out = console()
    if not out.is_terminal:
        _watch_plainly(daemon)
        return
    with Live(console=out, auto_refresh=False) as live:
        while True:
            live.update(Text(clean("\n".join(_look(daemon)))), refresh=True)
            time.sleep(LOOK_SECONDS)


def _watch_plainly(daemon: Client) -> None:
    import sys

    before: list[str] = []
    while True:
        told = _look(daemon)
        shown = [line for line in told if not line.startswith(VOLATILE)]
        if shown != before:
            _say_all([line for line in shown if line not in before])
            sys.stdout.flush()
        before = shown
        time.sleep(LOOK_SECONDS)


def _look(daemon: Client) -> list[str]:
    from monk.errors import Unavailable

    try:
        return lines(daemon.get("/status"))
    except Unavailable as exc:
        return [exc.message]
