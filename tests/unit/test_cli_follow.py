"""Watching a job: one voice at a time, across cuts, until its real end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from monk.cli.follow import Voices, follow
from monk.client import Client, ServerEvent
from monk.errors import NotFound, Unavailable


def event(type_: str, thought: str | None = None, **facts: Any) -> ServerEvent:
    return ServerEvent("1", type_, {"thought_id": thought, "type": type_, "data": facts})


def heard(*events: ServerEvent) -> str:
    voices = Voices()
    return "".join(voices.hear(one) for one in events) + voices.end()


def test_words_appear_as_they_are_thought() -> None:
    assert (
        heard(
            event("claimed", attempt=1),
            event("thinking", "t1", name="draft", sample=0),
            event("progress", "t1", text="The ni"),
            event("progress", "t1", text="ght."),
            event("thought", "t1", name="draft", sample=0, text="The night."),
        )
        == "· running\n· draft\nThe night.\n"
    )


def test_of_two_thoughts_at_once_the_second_is_heard_when_the_first_has_ended() -> None:
    assert (
        heard(
            event("thinking", "t1", name="sample", sample=0),
            event("thinking", "t2", name="sample", sample=1),
            event("progress", "t1", text="one "),
            event("progress", "t2", text="TWO "),
            event("progress", "t1", text="more"),
            event("progress", "t2", text="MORE"),
            event("thought", "t1", name="sample", sample=0, text="one more"),
            event("progress", "t2", text="!"),
        )
        == "· sample\none more\n· sample 2\nTWO MORE!\n"
    )


def test_a_thought_that_ended_unheard_is_told_by_its_end() -> None:
    assert heard(event("thought", "t1", name="draft", sample=0, text="All of it.")) == "· draft\nAll of it.\n"


def test_a_note_does_not_stand_in_the_middle_of_a_line() -> None:
    assert heard(event("progress", "t1", text="cut he"), event("released", why="the night closed")) == (
        "· thinking\ncut he\n· paused (the night closed); it goes on in the next night\n"
    )


class ScriptedDaemon:
    """Speaks events and answers in a given order; an exception in the place of an answer is raised."""

    def __init__(self, events: list[ServerEvent | None], jobs: list[Any]) -> None:
        self._events = events
        self._jobs = jobs

    def follow(self, path: str) -> Iterator[ServerEvent | None]:
        yield from self._events

    def get(self, path: str) -> Any:
        answer = self._jobs.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def followed(events: list[ServerEvent | None], jobs: list[Any], *, live: bool = True) -> dict[str, Any]:
    return follow(cast(Client, ScriptedDaemon(events, jobs)), {"id": "job_1"}, live=live)


def test_the_end_of_an_earlier_life_is_not_the_end() -> None:
    ended = followed([event("failed"), event("retried"), event("done")], [{"state": "running"}, {"state": "done"}])

    assert ended == {"state": "done"}


def test_a_daemon_that_goes_away_and_comes_back_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    away = Unavailable("gone")

    ended = followed(
        [event("claimed"), None, None, None, event("done")], [away, away, {"state": "running"}, {"state": "done"}]
    )

    told = capsys.readouterr().err
    assert ended == {"state": "done"}
    assert told.count("the daemon is away") == 1 and told.count("the daemon is back") == 1


def test_a_stream_that_ends_after_the_job_needs_no_last_event() -> None:
    assert followed([None], [{"state": "cancelled"}]) == {"state": "cancelled"}


def test_what_is_watched_goes_to_stderr_and_quietly_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    followed([event("progress", "t", text="\x1b[2Jhello"), event("done")], [{"state": "done"}])
    loud = capsys.readouterr()
    followed([event("progress", "t", text="hello"), event("done")], [{"state": "done"}], live=False)
    quiet = capsys.readouterr()

    assert loud.out == "" and "hello" in loud.err and "\x1b" not in loud.err
    assert quiet.out == quiet.err == ""


def test_a_job_that_does_not_exist_is_an_error_and_not_an_absence() -> None:
    with pytest.raises(NotFound):
        followed([None], [NotFound("no such job")])
