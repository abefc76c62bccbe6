"""`monk night`: when jobs run, and running them now."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def night(
    now: Annotated[bool, typer.Option("--now", help="Open a night at once.")] = False,
    until: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Open one at once, until 06:30, for 2h, or until a moment in RFC 3339."),
    ] = None,
    close: Annotated[
        bool, typer.Option("--close", help="Close the open night: thoughts are saved and paused.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say when the night is; open or close one now.

    monk night --until 2h
    """
    from monk.cli.session import connect, moment_from
    from monk.cli.terminal import say, say_json
    from monk.errors import InvalidInput

    if close and (now or until):
        raise InvalidInput("--close and --now or --until say opposite things; give one of them")
    ends = moment_from(until, "--until")
    with connect() as daemon:
        if close:
            daemon.post("/night/close")
        elif now or until:
            daemon.post("/night/open", {"until": ends})
        state = daemon.get("/status")["night"]
    if json:
        say_json(state)
    else:
        say(sentence(state))


def sentence(state: dict[str, Any]) -> str:
    """The night in one line: open until when, or when the next begins."""
    from monk.cli.moments import shown

    if state.get("open"):
        if state.get("reason") == "always":
            return f"night: always open, since {shown(state.get('opened_at'))}"
        end = f"until {shown(state['closes_at'])}" if state.get("closes_at") else "until `monk night --close`"
        return f"night: open since {shown(state.get('opened_at'))}, {end}"
    if state.get("next_open_at"):
        return f"night: closed; opens {shown(state['next_open_at'])}"
    return "night: closed; none is planned, `monk night --now` opens one"
