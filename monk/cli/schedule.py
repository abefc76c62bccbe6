"""`monk schedule`: jobs that come back by the clock."""

from __future__ import annotations

from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def add(
    name: Annotated[str, typer.Argument(help="A name for it.")],
    cron: Annotated[str, typer.Argument(help='Minute, hour, day, month, weekday: "0 21 * * mon-fri".')],
    text: Annotated[str | None, typer.Argument(help='The question; "-" reads it from stdin.')] = None,
    kind: Annotated[str | None, typer.Option(help="Kind of job; answer if not given.")] = None,
    input_: Annotated[
        str | None, typer.Option("--input", metavar="JSON", help="The whole input, for any kind.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Tag of the jobs; may be given again.")] = None,
    priority: Annotated[int, typer.Option(min=-100, max=100, help="Higher runs first.")] = 0,
    json: AsJson = False,
) -> None:
    """Submit a job again and again, by a cron expression.

    It is read in the night's time zone. A missed run is made up for once.

    monk schedule add weekly "0 21 * * fri" "What did this week's minutes decide?"
    """
    from monk.cli.moments import shown
    from monk.cli.session import connect
    from monk.cli.submit import kind_and_input
    from monk.cli.terminal import say, say_json

    kind, given = kind_and_input(text, kind, input_, None, None)
    job: dict[str, Any] = {"kind": kind, "input": given, "priority": priority, "tags": tag or []}
    with connect() as daemon:
        schedule = daemon.post("/schedules", {"name": name, "cron": cron, "job": job})
    if json:
        say_json(schedule)
    else:
        say(f"{schedule['name']}: first on {shown(schedule.get('next_at'))}")


def list_(json: AsJson = False) -> None:
    """List the schedules and when each comes next."""
    from monk.cli.moments import shown
    from monk.cli.session import connect
    from monk.cli.terminal import say, say_json, say_table
    from monk.cli.views import summary

    with connect() as daemon:
        answer = daemon.get("/schedules")
    if json:
        say_json(answer)
    elif not answer["schedules"]:
        say("no schedules; `monk schedule add` makes one")
    else:
        rows = [
            (one["name"], one["cron"], shown(one.get("next_at")), shown(one.get("last_at")), summary(one["job"]))
            for one in answer["schedules"]
        ]
        say_table(("name", "cron", "next", "last", "asks"), rows, may_shrink="asks")


def remove(name: Annotated[str, typer.Argument(help="Which one.")], json: AsJson = False) -> None:
    """Remove a schedule. The jobs it made stay."""
    from monk.cli.session import connect
    from monk.cli.terminal import say, say_json
    from monk.errors import NotFound

    with connect() as daemon:
        known = daemon.get("/schedules")["schedules"]
        found = next((one for one in known if name in (one["name"], one["id"])), None)
        if found is None:
            raise NotFound(f"there is no schedule {name!r}; `monk schedule list` shows them", param="name")
        removed = daemon.delete(f"/schedules/{found['id']}")  # by id: a name may hold what a path may not
    if json:
        say_json(removed)
    else:
        say(f"removed {name}")
