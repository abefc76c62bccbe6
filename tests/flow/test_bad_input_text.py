"""Markup and terminal escapes in questions, tags, file names and documents: seen as text everywhere, obeyed nowhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from markdown_it import MarkdownIt

from tests.running import RunningDaemon, running

SECONDS = 90.0
ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e"
MARKUP = "<script>alert(1)</script><img src=x onerror=alert(2)></article># Failed (0)"
QUESTION = f"What is the moon made of? {MARKUP} {ESCAPES}"
DOCUMENT = f"# {MARKUP} {ESCAPES} The moon\n\nThe <b>moon</b> is made of {ESCAPES}old cheese.\n"
FILE = "moon <script>\x1b[2J.md"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # by a terminal
TAGS = re.compile(r"<(script|img|/article># Failed|b>moon)")  # in a page; alive only where they were not escaped


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """A daemon that answered the question from the document, and wrote its report."""
    home = tmp_path_factory.mktemp("text") / "home"
    (home / "corpus").mkdir(parents=True)
    (home / "corpus" / FILE).write_text(DOCUMENT)
    with running(home, MONK_CONTEXT="2048", MONK_SLOTS="2") as made:
        made.monk("corpus", "sync", "--wait")
        answered = made.submit("answer", {"question": QUESTION}, tags=[f"{ESCAPES}<script>"])
        failed = made.submit("read", {"document": ESCAPES + MARKUP, "questions": [QUESTION]})
        made.http.post("/night/open", json={})
        jobs = made.wait_jobs_ended([answered, failed], SECONDS)
        assert [jobs[answered]["state"], jobs[failed]["state"]] == ["done", "failed"]
        made.http.post("/night/close", json={})
        made.wait_for(lambda: made.get("/reports")["reports"], SECONDS, "the report")
        yield made


Seen = Callable[[RunningDaemon], str]


def printed(*arguments: str) -> Seen:
    """All that a command writes to the terminal."""

    def seen(daemon: RunningDaemon) -> str:
        ended = daemon.monk(*arguments)
        assert ended.status in (0, 2), ended.err
        return ended.out + ended.err

    return seen


def fetched(path: str) -> Seen:
    """What the daemon sends."""
    return lambda daemon: daemon.http.get(path).text


def on_disk(pattern: str) -> Seen:
    """What lies in the home."""
    return lambda daemon: "".join(path.read_text() for path in sorted(daemon.home.glob(pattern)))


COMMANDS = {
    "jobs": printed("jobs"),
    "show": printed("show", "last", "--events", "--thoughts"),
    "show --json": printed("show", "last", "--json"),
    "search": printed("corpus", "search", "moon cheese"),
    "corpus": printed("corpus", "status"),
    "status": printed("status"),
    "report": printed("report"),
    "refusal": printed("submit", "--kind", f"sing{MARKUP}\x1b[2J", "Why?"),
    "unknown job": printed("show", "\x1b[2Jjob"),
    "log": lambda daemon: daemon.log.read_text(),
}
SENT = {
    "jobs": fetched("/jobs"),
    "search": fetched("/corpus/search?q=moon"),
    "events": lambda daemon: daemon.http.get(f"/jobs/{daemon.get('/jobs')['jobs'][1]['id']}/events").text,
    "report.json": fetched("/reports/latest.json"),
    "report.md": fetched("/reports/latest.md"),
    "report.html": fetched("/reports/latest.html"),
    "files": on_disk("reports/*.*"),
}


@pytest.mark.real
@pytest.mark.parametrize("where", COMMANDS)
def test_no_command_prints_what_a_terminal_would_obey(daemon: RunningDaemon, where: str) -> None:
    assert not OBEYED.findall(COMMANDS[where](daemon))


@pytest.mark.real
@pytest.mark.parametrize("where", SENT)
def test_no_answer_and_no_report_holds_what_a_terminal_would_obey(daemon: RunningDaemon, where: str) -> None:
    text = SENT[where](daemon)

    assert "moon" in text
    assert not OBEYED.findall(text)


@pytest.mark.real
def test_the_reports_show_markup_as_it_was_written(daemon: RunningDaemon) -> None:
    markdown, page = SENT["report.md"](daemon), SENT["report.html"](daemon)
    rendered = MarkdownIt("commonmark").render(markdown)  # lets raw HTML through, as many viewers do

    for text in (page, rendered):
        assert not TAGS.findall(text)
        assert "alert(1)" in text
    headings = [line for line in markdown.split("\n") if line.startswith("## ")]
    assert headings[:2] == ["## Done (1)", "## Failed (1)"]


@pytest.mark.real
def test_the_web_page_carries_no_word_of_it_and_the_question_comes_back_unchanged(daemon: RunningDaemon) -> None:
    page = daemon.http.get("/")

    assert "moon" not in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert QUESTION in [job["input"].get("question") for job in daemon.get("/jobs")["jobs"]]


def test_what_is_stored_is_named_without_escapes(daemon: RunningDaemon) -> None:
    (hit, *_) = daemon.get("/corpus/search?q=moon+cheese")["hits"]

    assert hit["file"] == "moon <script>\\x1b[2J.md"
    assert "<b>moon</b>" in hit["text"] and "\x1b" not in hit["text"]
