"""`monk corpus`: the documents that answers are looked up in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from monk.client import Client

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
LOOK_SECONDS = 0.5  # between two looks at the progress


def sync(
    wait: Annotated[bool, typer.Option("--wait", help="Stay until it is done, with a progress bar.")] = False,
    json: AsJson = False,
) -> int:
    """Read what is new or changed, and forget what is gone."""
    from monk.cli.session import connect
    from monk.cli.terminal import one_line, say, say_json, tell
    from monk.client import class_of

    with connect() as daemon:
        state = daemon.post("/corpus/sync")
        if wait:
            state = wait_for_sync(daemon)
    failed = wait and state.get("state") == "failed"
    if json:
        say_json(state)
    elif failed:
        tell(f"monk: {one_line(str(state.get('error')))}")
    else:
        say(sentence(state))
    return class_of(str(state.get("code"))).exit_status if failed else 0


def search(
    query: Annotated[str, typer.Argument(help="What to look for, in words of your own.")],
    limit: Annotated[int, typer.Option("-k", "--limit", min=1, max=100, help="How many passages.")] = 5,
    folder: Annotated[str | None, typer.Option(metavar="PATH", help="Only in this folder of the corpus.")] = None,
    type_: Annotated[
        list[str] | None, typer.Option("--type", metavar="TYPE", help="Only pdf, md, html ...; may be given again.")
    ] = None,
    file: Annotated[
        list[str] | None, typer.Option(metavar="PATH", help="Only in this file; may be given again.")
    ] = None,
    tagged: Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="Only in documents with this tag; may be given again.")
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="DATE", help="Only in files changed since 2026-01-31.")] = None,
    until: Annotated[str | None, typer.Option(metavar="DATE", help="Only in files changed before then.")] = None,
    json: AsJson = False,
) -> None:
    """Show the passages nearest to a question, best first.

    monk corpus search "memory of the KV cache"

    monk corpus search "notice period" --folder contracts --type pdf --since 2026-01-01
    """
    from monk.cli.session import connect
    from monk.cli.terminal import one_line, say, say_json

    with connect() as daemon:
        only = {"folder": folder, "type": type_, "file": file, "tag": tagged, "since": since, "until": until}
        answer = daemon.get("/corpus/search", q=query, k=limit, **only)
    if json:
        say_json(answer)
        return
    hits = answer["hits"]
    if not hits:
        say("nothing found; `monk corpus status` says what has been read")
    for hit in hits:
        say(f"{hit['score']:.2f}  {one_line(hit['file'])}{place(hit)}  {one_line(hit.get('heading') or '')}".rstrip())
        say(f"      {one_line(hit['text'], 300)}")


def status(json: AsJson = False) -> None:
    """Say what has been read, what could not be, and why."""
    from monk.cli.session import connect
    from monk.cli.terminal import one_line, say, say_json

    with connect() as daemon:
        answer = daemon.get("/corpus")
    if json:
        say_json(answer)
        return
    say(sentence(answer))
    for document in answer.get("unreadable") or []:
        say(f"  cannot be read: {one_line(document['path'])}: {one_line(document['problem'])}")


def wait_for_sync(daemon: Client) -> dict[str, Any]:
    """Stay until the corpus is in step with its folder, with a bar on stderr. Returns the last state."""
    with bar("reading") as show:
        while True:
            state: dict[str, Any] = daemon.get("/corpus")
            show(state.get("files_done", 0), state.get("files_total", 0))
            if state.get("state") != "reading":
                return state
            time.sleep(LOOK_SECONDS)


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr; where nobody watches, a line for each change."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from monk.cli.terminal import console, tell

    err = console(stderr=True)
    if not err.is_terminal:
        told: list[tuple[int, int]] = []

        def line(done: int, total: int) -> None:
            if (done, total) not in told:
                told.append((done, total))
                tell(f"{title}: {done} of {total} files")

        yield line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total or None)


def sentence(state: dict[str, Any]) -> str:
    """The corpus in one line."""
    if state.get("state") == "reading":
        return f"corpus: reading, {state.get('files_done', 0)} of {state.get('files_total', 0)} files"
    if state.get("state") == "failed":
        return f"corpus: failed: {state.get('error')}"
    unreadable = f", {state['num_unreadable']} files cannot be read" if state.get("num_unreadable") else ""
    return f"corpus: {state.get('documents', 0)} documents, {state.get('passages', 0)} passages{unreadable}"


def place(hit: dict[str, Any]) -> str:
    """`, page 3` or `, line 12` of a hit."""
    return next((f", {unit} {hit['place'][unit]}" for unit in ("page", "line") if unit in (hit.get("place") or {})), "")
