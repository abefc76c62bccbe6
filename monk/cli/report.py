"""`monk report`: the morning report, here or in a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from monk.client import Client

FORMATS = {".md": "md", ".markdown": "md", ".html": "html", ".htm": "html", ".json": "json"}


def report(
    id_: Annotated[str, typer.Argument(metavar="[ID]", help="Which report; the newest if not given.")] = "latest",
    now: Annotated[bool, typer.Option("--now", help="Write one now, about all since the last night's.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the reports that exist.")] = False,
    markdown: Annotated[bool, typer.Option("--md", help="Markdown as it is.")] = False,
    html: Annotated[bool, typer.Option("--html", help="One HTML page that needs nothing else.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The data.")] = False,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Into this file; its ending names the format.")
    ] = None,
) -> None:
    """Print the morning report.

    monk report --now --output morning.html
    """
    from monk.cli.session import connect
    from monk.errors import InvalidInput

    chosen = [name for name, wanted in (("md", markdown), ("html", html), ("json", json)) if wanted]
    if len(chosen) > 1:
        raise InvalidInput("--md, --html and --json say different things; give one of them")
    with connect() as daemon:
        if list_:
            _list(daemon, json)
            return
        if now:
            id_ = str(daemon.post("/reports")["id"])
        format_ = chosen[0] if chosen else FORMATS.get(output.suffix.lower(), "md") if output else "md"
        text = daemon.text(f"/reports/{id_}.{format_}")
    if output is not None:
        _write(output, text)
    else:
        _print(text, format_, as_it_is=bool(chosen))


def _list(daemon: Client, json: bool) -> None:
    from monk.cli.moments import shown
    from monk.cli.terminal import say, say_json, say_table

    answer = daemon.get("/reports")
    if json:
        say_json(answer)
    elif not answer["reports"]:
        say("no reports yet; `monk report --now` writes one")
    else:
        rows = [(one["id"], shown(one.get("since")), shown(one.get("until"))) for one in answer["reports"]]
        say_table(("id", "from", "until"), rows)


def _print(text: str, format_: str, *, as_it_is: bool) -> None:
    from monk.cli.terminal import say, say_markdown

    if format_ == "md" and not as_it_is:
        say_markdown(text)
    else:
        say(text.rstrip("\n"))


def _write(path: Path, text: str) -> None:
    from monk.cli.terminal import tell
    from monk.errors import InvalidInput

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise InvalidInput(f"--output {path} cannot be written: {exc.strerror}", param="output") from exc
    tell(f"written to {path}")
