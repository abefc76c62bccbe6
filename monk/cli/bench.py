"""`monk bench`: how fast the model is here, or how far it still finds things; submits a job and follows it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from monk.client import Client

KINDS = ("bench", "needle")
NOW_PRIORITY = 100  # who says now does not mean: behind the others
SPARE_MINUTES = 15  # that a night opened for it stays open beyond its minutes: loading, and what ran before it


def bench(
    job: Annotated[
        str | None, typer.Argument(metavar="[JOB]", help='With --show: its id, the beginning of one, or "last".')
    ] = None,
    context: Annotated[
        int, typer.Option(min=0, metavar="N", help="Tokens up to which it goes; 0: what the engine opens.")
    ] = 0,
    depths: Annotated[
        str | None,
        typer.Option(metavar="N,...", help="Instead: tokens that a measurement stands behind; with --needle percents."),
    ] = None,
    widths: Annotated[str | None, typer.Option(metavar="N,...", help="Answers at once; else 1 to 64.")] = None,
    flash: Annotated[str | None, typer.Option(metavar="on,off", help="Flash attention; else both.")] = None,
    kv_type: Annotated[
        list[str] | None, typer.Option(metavar="K[,V]", help="Types of the KV, once for each; else f16 and q8_0.")
    ] = None,
    threads: Annotated[str | None, typer.Option(metavar="N,...", help="Else those worth a try.")] = None,
    ubatch: Annotated[int, typer.Option(min=0, max=8192, metavar="N", help="Prompt tokens of one call.")] = 0,
    prompt_tokens: Annotated[int, typer.Option(min=16, metavar="N", help="Of a measured prompt.")] = 512,
    answer_tokens: Annotated[int, typer.Option(min=1, metavar="N", help="Of a measured answer.")] = 64,
    repeats: Annotated[int, typer.Option(min=1, max=100, metavar="N", help="Of each measurement.")] = 3,
    needle: Annotated[
        bool, typer.Option("--needle", help="Not speed: from where in how long a text does it still find things?")
    ] = False,
    lengths: Annotated[
        str | None, typer.Option(metavar="N,...", help="With --needle: tokens of the texts; else 1k and up.")
    ] = None,
    needles: Annotated[
        str | None, typer.Option(metavar="N,...", help="With --needle: facts that one question asks for.")
    ] = None,
    trials: Annotated[int, typer.Option(min=0, metavar="N", help="With --needle: texts of each length.")] = 0,
    minutes: Annotated[
        float, typer.Option(min=0.0, metavar="M", help="Budget; what tells most comes first. 0: no bound.")
    ] = 60.0,
    now: Annotated[
        bool, typer.Option("--now", help="Do not wait for the night: open one while it lasts, before all others.")
    ] = False,
    priority: Annotated[int | None, typer.Option(min=-100, max=100, metavar="N", help="Higher runs first.")] = None,
    wait: Annotated[bool, typer.Option(help="Follow it to its end. Ctrl-C stops following, not the job.")] = True,
    show: Annotated[bool, typer.Option("--show", help="Show JOB, or the last one; measure nothing.")] = False,
    json: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="Write the whole result as JSON, - to stdout.")
    ] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table as Markdown.")] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Write the pictures: FILE.svg, FILE-2.svg ...")
    ] = None,
) -> int:
    """Measure how fast the model is on this machine.

    Prompt and answer tokens per second: behind ever more context, for several answers at once, with flash attention on
    and off, by KV types and threads. It is a job that has the machine for itself, and goes on where it was when it is
    interrupted. The figures are those of llama-bench, beside what the roofline expects.

    monk bench --now --context 8192 --minutes 20 --picture speed.svg

    monk bench --show
    """
    from monk.cli.session import connect
    from monk.errors import InvalidInput

    if show and now:
        raise InvalidInput("--show measures nothing, --now measures; give one of them")
    if job is not None and not show:
        raise InvalidInput(f"{job[:80]!r}: say --show to see a job; options say what to measure", param="job")
    if picture is not None and picture.suffix != ".svg":
        raise InvalidInput(f"--picture {picture}: it is an SVG; give a name that ends in .svg", param="picture")
    kind = "needle" if needle else "bench"
    files = _Files(json, markdown, picture)
    with connect() as daemon:
        if show:
            return _said(_shown(daemon, kind, job), files)
        if needle:
            input_ = _needle(context, lengths, depths, needles, trials)
        else:
            if lengths or needles or trials:
                raise InvalidInput("--lengths, --needles and --trials belong to --needle", param="needle")
            input_ = {
                "context": context,
                "depths": _numbers(depths, "--depths"),
                "widths": _numbers(widths, "--widths"),
                "flash": _words(flash),
                "kv_types": list(kv_type or []),
                "threads": _numbers(threads, "--threads"),
                "ubatch": ubatch,
                "prompt_tokens": prompt_tokens,
                "answer_tokens": answer_tokens,
                "repeats": repeats,
            }
        wanted: dict[str, Any] = {"kind": kind, "input": input_}
        if minutes:
            wanted["budget"] = {"minutes": minutes}
        wanted["priority"] = NOW_PRIORITY if now and priority is None else priority or 0
        return _run(daemon, wanted, minutes, now=now, wait=wait, files=files)


def _needle(context: int, lengths: str | None, depths: str | None, needles: str | None, trials: int) -> dict[str, Any]:
    """Only what was said: the kind knows what is usual."""
    given = {
        "context": context,
        "lengths": _numbers(lengths, "--lengths"),
        "depths": _shares(depths, "--depths"),
        "needles": _numbers(needles, "--needles"),
        "trials": trials,
    }
    return {name: value for name, value in given.items() if value}


def _numbers(text: str | None, name: str) -> list[int]:
    """Of "512,1k,128k". Raises InvalidInput."""
    from monk.errors import InvalidInput

    found = []
    for word in _words(text):
        digits, factor = (word[:-1], 1024) if word[-1:] in "kK" else (word, 1)
        if not (digits.isascii() and digits.isdecimal() and len(digits) < 10):
            raise InvalidInput(f"{name} {word[:40]!r}: write whole numbers such as 512,4k", param=name)
        found.append(int(digits) * factor)
    return found


def _shares(text: str | None, name: str) -> list[float]:
    from monk.errors import InvalidInput

    try:
        return [float(word) for word in _words(text)]
    except ValueError as exc:
        raise InvalidInput(f"{name} {text!r}: write numbers with commas between them", param=name) from exc


def _words(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]


# ── the job ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _run(daemon: Client, wanted: dict[str, Any], minutes: float, *, now: bool, wait: bool, files: _Files) -> int:
    from monk.cli import INTERRUPTED
    from monk.cli.handing_in import watch
    from monk.cli.terminal import say

    job = daemon.post("/jobs", wanted)
    opened = now and _open(daemon, minutes)
    if not wait:
        say(str(job["id"]))
        return 0
    ended = watch(daemon, job, now=now, later="monk bench --show")
    if ended is None:
        return INTERRUPTED
    if opened:
        daemon.post("/night/close")
    return _said(ended, files)


def _open(daemon: Client, minutes: float) -> bool:
    """A night for as long as it takes; False when one is open already."""
    from datetime import UTC, datetime, timedelta

    if daemon.get("/status")["night"].get("open"):
        return False
    until = datetime.now(UTC) + timedelta(minutes=minutes + SPARE_MINUTES)
    daemon.post("/night/open", {"until": until.isoformat() if minutes else None})
    return True


def _shown(daemon: Client, kind: str, given: str | None) -> dict[str, Any]:
    """A benchmark that has ended: the one that is named, or the last of its kind. Raises NotFound, InvalidInput, Conflict."""
    from monk.cli.jobs import resolve
    from monk.errors import Conflict, InvalidInput, NotFound

    if given is None or given == "last":
        newest = daemon.get("/jobs", limit=1, kind=kind, state="done")["jobs"]
        if not newest:
            raise NotFound(f"no {kind} has ended yet; `monk bench{' --needle' if kind == 'needle' else ''}` makes one")
        given = str(newest[0]["id"])
    job: dict[str, Any] = daemon.get(f"/jobs/{resolve(daemon, given)}")
    if job["kind"] not in KINDS:
        raise InvalidInput(f"{job['id']} is no benchmark but of the kind {job['kind']}; `monk show {job['id']}`")
    if not job["finished_at"]:
        raise Conflict(f"{job['id']} is {job['state']}; `monk show {job['id']}` says what it has measured so far")
    return job


# ── what is said of it ────────────────────────────────────────────────────────────────────────────────────────────────


class _Files:
    """Where results go beside the terminal."""

    def __init__(self, json: str | None, markdown: Path | None, picture: Path | None) -> None:
        self.json, self.markdown, self.picture = json, markdown, picture

    def write(self, job: dict[str, Any]) -> None:
        """Whatever was asked for. Raises InvalidInput for a place that cannot be written."""
        from monk.cli.terminal import tell

        result = job["result"]
        if self.json is not None and self.json != "-":
            _write(Path(self.json), _json(job))
        if self.markdown is not None:
            _write(self.markdown, str(result["answer"]) + "\n")
        if self.picture is not None:
            from monk.drawings import draw, of_result

            found = of_result(result)
            if not found:
                tell("it has no pictures: too little was measured for a line")
            for number, data in enumerate(found, 1):
                place = self.picture if number == 1 else self.picture.with_stem(f"{self.picture.stem}-{number}")
                _write(place, draw(data))
                tell(f"{place}: {data.get('title', '')}")


def _json(job: dict[str, Any]) -> str:
    import json

    return json.dumps({"job": job["id"], "input": job["input"], **job["result"]}, ensure_ascii=False, indent=1) + "\n"


def _write(place: Path, text: str) -> None:
    from monk.errors import InvalidInput

    try:
        place.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise InvalidInput(f"{place} cannot be written: {exc.strerror}; choose another place") from exc


def _said(job: dict[str, Any], files: _Files) -> int:
    from monk.cli.terminal import one_line, say_json, say_markdown, tell
    from monk.client import class_of

    if job["state"] != "done":
        error = job.get("error") or {}
        why = error.get("message") or ""
        tell(one_line(f"monk: {job['id']} {job['state']}{': ' if why else ''}{why}"))
        return class_of(str(error.get("code"))).exit_status
    files.write(job)
    if files.json == "-":
        say_json({"job": job["id"], "input": job["input"], **job["result"]})
    else:
        say_markdown(str(job["result"]["answer"]))
    return 0
