"""A job handed to the daemon: its id at once, or, if wished, its answer when there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from monk.cli import INTERRUPTED

if TYPE_CHECKING:
    from monk.client import Client


def hand_in(job: dict[str, Any], *, wait: bool, live: bool, json: bool) -> int:
    """Submit it; the exit status. `wait`: until it ends, watched where `live`. Raises what the daemon answers."""
    from monk.cli.session import connect

    with connect() as daemon:
        accepted = daemon.post("/jobs", job)
        if not wait:
            _say_accepted(accepted, json)
            return 0
        ended = watch(daemon, accepted, live=live and not json)
        return INTERRUPTED if ended is None else _say_ended(ended, json)


def watch(
    daemon: Client, job: dict[str, Any], *, live: bool = True, now: bool = False, later: str = "monk show"
) -> dict[str, Any] | None:
    """The job once it has ended; None when the person stopped watching, who is told the command for `later`."""
    from monk.cli.follow import follow
    from monk.cli.terminal import tell

    if live:
        tell(f"{job['id']} {job['state']}{'' if now else _start(job)}; Ctrl-C stops watching, not the job")
    try:
        return follow(daemon, job, live=live)
    except KeyboardInterrupt:
        tell(f"\n{job['id']} goes on; `{later} {job['id']}` has the answer when it is done")
        return None


def _start(job: dict[str, Any]) -> str:
    from monk.cli.moments import shown

    starts = (job.get("forecast") or {}).get("starts_at")
    return f", starts about {shown(starts)}" if starts and job["state"] in ("queued", "waiting") else ""


def _say_accepted(job: dict[str, Any], json: bool) -> None:
    from monk.cli.terminal import one_line, say, say_json, tell

    if json:
        say_json(job)
        return
    say(str(job["id"]))
    for warning in job.get("warnings") or []:
        tell(one_line(f"warning: {warning}"))
    if start := _start(job):
        tell(f"{job['state']}{start}")


def _say_ended(job: dict[str, Any], json: bool) -> int:
    from monk.cli.terminal import one_line, say_json, say_markdown, tell
    from monk.cli.views import answer
    from monk.client import class_of

    done, error = job["state"] == "done", job.get("error") or {}
    if json:
        say_json(job)
    elif done:
        say_markdown(answer(job))
    else:
        why = error.get("message") or ""
        tell(one_line(f"monk: {job['id']} {job['state']}{': ' if why else ''}{why}"))
    return 0 if done else class_of(str(error.get("code"))).exit_status
