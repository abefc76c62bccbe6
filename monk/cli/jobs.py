"""`monk jobs`, `show`, `cancel`, `retry`, `kinds`: looking at the queue and changing its mind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from monk.client import Client

PAGE = 200  # jobs per request
ID_CHARACTERS = 26  # after "job_"
Id = Annotated[str, typer.Argument(metavar="ID", help='A job\'s id, the beginning of one, or "last".')]
Ids = Annotated[list[str], typer.Argument(metavar="ID...", help='Ids, beginnings of ids, or "last".')]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def jobs(
    state: Annotated[
        list[str] | None, typer.Option(help="Only these: waiting, queued, running, done, failed, cancelled.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="Only this kind.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only jobs with this tag.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    all_: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    json: AsJson = False,
) -> None:
    """List jobs, newest first.

    monk jobs --state running --state queued
    """
    from monk.cli.session import connect
    from monk.cli.terminal import say, say_json, say_table, tell
    from monk.cli.views import JOB_HEADERS, job_row

    with connect() as daemon:
        found, more = _listed(daemon, None if all_ else limit, state=state or None, kind=kind, tag=tag)
    if json:
        say_json({"jobs": found, "next": more})
    elif not found:
        say("no jobs")
    else:
        say_table(JOB_HEADERS, [job_row(job) for job in found], may_shrink="asked")
        if more:
            tell(f"the newest {len(found)}; --all shows the rest")


def show(
    id_: Id,
    events: Annotated[bool, typer.Option("--events", help="Also all that happened to it.")] = False,
    thoughts: Annotated[bool, typer.Option("--thoughts", help="Also every call of the model.")] = False,
    json: AsJson = False,
) -> None:
    """Show one job: its state, its cited answer or its error.

    monk show last
    """
    from monk.cli.session import connect
    from monk.cli.terminal import say_json

    with connect() as daemon:
        job = daemon.get(f"/jobs/{resolve(daemon, id_)}")
        told = _events_so_far(daemon, job) if events else None
    if json:
        say_json({**job, **({"events": told} if told is not None else {})})
    else:
        _show(job, told, thoughts)


def cancel(ids: Ids, json: AsJson = False) -> None:
    """Cancel jobs, running ones too. What they had finished is kept."""
    _each(ids, "cancel", json)


def retry(
    ids: Ids,
    deadline: Annotated[
        str | None, typer.Option(metavar="WHEN", help="A new deadline: 06:30, 2h, or RFC 3339.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Put failed or cancelled jobs back in the queue. What they had finished is not done again."""
    from monk.cli.session import moment_from

    moment = moment_from(deadline, "--deadline")
    _each(ids, "retry", json, {"deadline": moment} if moment is not None else None)


def kinds(json: AsJson = False) -> None:
    """List what can be asked: kinds of job, yours among them."""
    from monk.cli.session import connect
    from monk.cli.terminal import say_json, say_table, tell

    with connect() as daemon:
        answer = daemon.get("/kinds")
    if json:
        say_json(answer)
        return
    rows = [(one["name"], ", ".join(_fields(one)), one.get("summary", "")) for one in answer["kinds"]]
    say_table(("kind", "input", "summary"), rows, may_shrink="summary")
    for problem in answer.get("problems") or []:
        tell(f"not usable: {problem}")


def resolve(daemon: Client, given: str) -> str:
    """The one id that is meant by an id, its beginning, or "last". Raises NotFound, or InvalidInput when two would fit."""
    from monk.errors import InvalidInput, NotFound

    if given == "last":
        newest = daemon.get("/jobs", limit=1)["jobs"]
        if not newest:
            raise NotFound("there are no jobs yet; `monk submit` makes one", param="id")
        return str(newest[0]["id"])
    start = given.removeprefix("job_")
    unknown = NotFound(f"there is no job {given[:80]!r}; `monk jobs` lists them", param="id")
    if len(start) > ID_CHARACTERS or (start and not (start.isascii() and start.isalnum())):
        raise unknown
    if len(start) == ID_CHARACTERS:
        return f"job_{start.lower()}"
    below = f"job_{start.lower():z<{ID_CHARACTERS}}"  # listings come newest first, from below a cursor; "z" sorts last
    page = daemon.get("/jobs", limit=2, cursor=below)["jobs"]
    found = [job["id"] for job in page if job["id"].startswith(f"job_{start.lower()}")]
    if not found:
        raise unknown
    if len(found) > 1:
        raise InvalidInput(f"several jobs begin with {given!r}: {found[0]}, {found[1]}; write more of it", param="id")
    return str(found[0])


def _listed(daemon: Client, limit: int | None, **where: Any) -> tuple[list[dict[str, Any]], str | None]:
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while limit is None or len(found) < limit:
        most = PAGE if limit is None else min(PAGE, limit - len(found))
        page = daemon.get("/jobs", limit=most, cursor=cursor, **where)
        found += page["jobs"]
        cursor = page["next"]
        if cursor is None:
            break
    return found, cursor


def _each(ids: list[str], verb: str, json: bool, fields: dict[str, Any] | None = None) -> None:
    from monk.cli.session import connect
    from monk.cli.terminal import say, say_json

    changed = []
    with connect() as daemon:
        for given in ids:
            job = daemon.post(f"/jobs/{resolve(daemon, given)}/{verb}", fields)
            changed.append(job)
            if not json:
                say(f"{job['id']} {job['state']}")
    if json:
        say_json({"jobs": changed})


def _show(job: dict[str, Any], events: list[dict[str, Any]] | None, thoughts: bool) -> None:
    from monk.cli.terminal import one_line, say, say_markdown
    from monk.cli.views import answer, event_line, job_facts, thought_line

    say(str(job["id"]))
    for name, value in job_facts(job):
        say(f"  {name:<11}{one_line(value)}")
    if job.get("result"):
        say()
        say_markdown(answer(job))
    if thoughts:
        say("\nthoughts")
        for thought in job.get("thoughts") or []:
            say(f"  {one_line(thought_line(thought))}")
    if events is not None:
        say("\nevents")
        for event in events:
            say(f"  {one_line(event_line(event.get('at'), event['type'], event.get('data') or {}))}")


def _events_so_far(daemon: Client, job: dict[str, Any]) -> list[dict[str, Any]]:
    """All events up to now. The stream of a job that has not ended stays open: silence ends it for us."""
    from monk.client import NOW_SECONDS

    stream = daemon.events(f"/jobs/{job['id']}/events", silence_seconds=NOW_SECONDS)
    return [event.data for event in stream]


def _fields(kind: dict[str, Any]) -> list[str]:
    schema = kind.get("input") or {}
    required = set(schema.get("required") or [])
    return [name if name in required else f"[{name}]" for name in schema.get("properties") or {}]
