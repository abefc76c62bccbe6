"""A morning report over a real database: complete, the same in three formats, safe, and each end of a job told once."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from db.database import Database
from db.events import Events
from db.feedback import Feedback
from db.models import Document, Job, Night, Report
from db.queue import NewJob, Queue
from db.records import Nights, Reports
from db.steps import NewThought, Open, Steps, ThoughtEnd, TokenBatch
from monk.engine.client import EngineStatus, ModelCard
from monk.errors import DocumentUnreadable, InvalidInput
from monk.report import MorningReporter

EVENING = datetime(2026, 11, 22, 19, 0, tzinfo=UTC)  # 22:00 in Moscow
MOSCOW = ZoneInfo("Europe/Moscow")
MORNING = EVENING + timedelta(hours=9)


class SleepingEngine:
    """An engine as it stands in the morning."""

    def __init__(self) -> None:
        self.card: ModelCard | None = ModelCard(
            *("Monk-72B Q4_K_M", "/models/monk.gguf", "a" * 64, "qwen2", 72_000_000_000, 47_400_000_000),
            *(131_072, 65_536, 8, 327_680, 152_064, None, "", "", ()),
        )
        self.last_error: str | None = None

    def status(self) -> EngineStatus:
        return EngineStatus("ready", 1, self.card, 0, self.last_error, 0, 0, 3 << 30, 0, 0, 0.0, 0.0, 0.0)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the report must not ask the engine to {name}")


@dataclass
class Shelf:
    """A library with a name for its embedding model."""

    embedding_model: str = "all-MiniLM-L6-v2"

    def status(self) -> Shelf:
        return self


class FixedForecast:
    """Every queued job starts at 22:00 and takes four minutes."""

    def of(self, job: Job) -> tuple[int | None, dict[str, str | None]]:
        if job.state != "queued":
            return None, {"starts_at": None, "ends_at": None}
        return 2, {"starts_at": "2026-11-23T19:00:00+00:00", "ends_at": "2026-11-23T19:04:00+00:00"}


class QuietNight:
    """A night keeper that only knows when it opens next."""

    def current(self) -> Night | None:
        return None

    def next_open_at(self) -> datetime | None:
        return EVENING + timedelta(days=1)

    def open_now(self, until: datetime | None) -> Night:
        raise AssertionError

    def close_now(self) -> Night | None:
        raise AssertionError


@dataclass
class House:
    """A database with a clock that the test moves, and a reporter over it."""

    database: Database
    folder: Path
    zone: ZoneInfo = MOSCOW
    now: datetime = EVENING
    engine: SleepingEngine = field(default_factory=SleepingEngine)

    def __post_init__(self) -> None:
        self.queue, self.steps = Queue(self.database), Steps(self.database)
        self.nights, self.events = Nights(self.database), Events(self.database)
        self.reporter = MorningReporter(
            self.database,
            folder=self.folder,
            zone=self.zone,
            engine=self.engine,
            library=Shelf(),
            forecaster=FixedForecast(),
            night=QuietNight(),
            now=lambda: self.now,
        )

    def later(self, seconds: float = 1.0) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now

    def submit(self, kind: str, input_: dict[str, Any], **more: Any) -> Job:
        return self.queue.submit(NewJob(kind, input_, **more), self.later())[0]

    def claim(self) -> Job:
        job = self.queue.claim(self.later(), 60.0)
        assert job is not None
        return job

    def open_thought(self, job: Job, name: str = "draft", sample: int = 0) -> Open:
        new = NewThought(name, sample, f"{name}{sample}", "a" * 64, {}, 512, tuple(range(100)))
        opened = self.steps.open_thought(job, new, self.later())
        assert isinstance(opened, Open)
        return opened

    def save(self, job: Job, opened: Open, tokens: int) -> None:
        batch = TokenBatch(job.id, job.lease_token or "", opened.id, len(opened.saved), tuple(range(tokens)), "")
        self.steps.append([batch], self.later())

    def think(
        self, job: Job, text: str, *, tokens: int = 50, reason: str = "stop", reasoning: str = "", sample: int = 0
    ) -> None:
        opened = self.open_thought(job, sample=sample)
        self.save(job, opened, tokens)
        self.steps.finish_thought(
            job, opened.id, ThoughtEnd(reason, text, reasoning, text, 100, 4.0, 10.0), self.later(14)
        )

    def done(self, result: dict[str, Any], kind: str = "answer", **input_: Any) -> Job:
        self.submit(kind, input_ or {"question": "Why is the sky dark at night?"})
        job = self.claim()
        self.think(job, "a thought")
        self.queue.finish(job, result, self.later())
        return job

    def report(self, since: datetime | None = None, until: datetime | None = None) -> Report:
        return self.reporter.write(since, until)

    def texts(self, report: Report) -> tuple[dict[str, Any], str, str]:
        """The data, the Markdown, and the words of the page."""
        data = json.loads(self.reporter.render(report, "json"))
        return data, self.reporter.render(report, "md"), words_of(self.reporter.render(report, "html"))


def words_of(page: str) -> str:
    """What a person reads on the page."""
    body = page[page.index("<body>") :]
    return unescape(re.sub(r"<[^>]+>", "", body))


@pytest.fixture
def house(database: Database, tmp_path: Path) -> Iterator[House]:
    yield House(database, tmp_path / "reports")


def a_whole_night(house: House) -> Report:
    """One of everything."""
    house.nights.open("window", MORNING, EVENING)
    citation = {"file": "отчёт|2024.pdf", "page": 12, "quote": "Память — это узкое место.", "verified": True}
    house.done(
        {
            "answer": "Память [1].",
            "found": True,
            "citations": [citation, {"file": "b.md", "line": 7, "quote": "maybe", "verified": False}],
            "unsupported": ["Луна из сыра."],
        },
        question="Что ограничивает скорость?",
    )
    house.done(
        {
            "answer": "forty-two",
            "votes": [{"answer": "42", "count": 4}],
            "decided_by": "vote",
            "samples": 5,
            "best_sample": 0,
        },
        "think",
        question="What is six times seven?",
    )
    parts = [
        {"question": "Who?", "answer": "Anna", "found": True, "citations": [citation], "unsupported": []},
        {"question": "When?", "answer": "It does not say.", "found": False, "citations": [], "unsupported": []},
    ]
    house.done({"answer": "joined", "parts": parts}, "read", document="tale.docx", questions=["Who?", "When?"])
    house.submit("read", {"document": "scan.pdf", "questions": ["What?"]})
    failing = house.claim()
    house.steps.save_step(failing, "find", {}, house.now, house.later())
    house.queue.fail(
        failing, DocumentUnreadable("scan.pdf: no text in it", param="document"), house.later(), retryable=False
    )
    house.queue.cancel(house.submit("answer", {"question": "Never mind?"}).id, house.later())
    house.submit("answer", {"question": "What is left?"}, deadline=MORNING + timedelta(days=2), tags=["leisure"])
    cut = house.claim()
    house.save(cut, house.open_thought(cut), 33)
    house.queue.release(cut, house.later(), "the night closed")
    house.submit("answer", {"question": "And later?"}, not_before=MORNING + timedelta(days=3))
    house.events.tell("corpus", {"added": ["new.md"], "updated": [], "removed": ["old.md"]}, house.later())
    house.events.tell("engine", {"what": "died", "error": "signal 9"}, house.later())
    house.events.tell("engine", {"what": "restarted", "rss_bytes": 5 << 30}, house.later())
    for _ in range(2):
        spared = {"restored_tokens": 4096, "restored_blocks": 4, "failed_blocks": 1, "saved_seconds": 45.5}
        more = {"shared_tokens": 5000, "forked_tokens": 700, "identical_thoughts": 1, "guessed_tokens": 50}
        house.events.tell("engine", {"what": "spared", **spared, **more, "accepted_tokens": 40}, house.later())
    house.events.tell("warning", {"what": "disk", "message": "2 GiB left"}, house.later())
    house.events.tell("late", {"schedule": "weekly", "late_by_seconds": 5400.0}, house.later())
    unreadable(house.database, "locked.pdf", "it is encrypted")
    house.nights.close(MORNING)
    house.now = MORNING
    return house.report()


def unreadable(database: Database, path: str, problem: str) -> None:
    document = Document(
        path=path,
        sha256="0" * 64,
        size_bytes=1,
        modified_at=EVENING,
        title=path,
        format="pdf",
        num_pages=None,
        num_characters=0,
        state="unreadable",
        problem=problem,
        index_key=None,
        read_at=EVENING,
    )
    with database.write() as session:
        session.add(document)


def test_every_fact_of_a_night_stands_in_all_three_formats(house: House) -> None:
    data, markdown, page = house.texts(a_whole_night(house))
    assert data["counts"] | {"not_told": 0} == data["counts"]
    assert {key: data["counts"][key] for key in ("done", "failed", "cancelled", "left")} == {
        "done": 3,
        "failed": 1,
        "cancelled": 1,
        "left": 2,
    }
    for fact in (
        *(
            "Monday, 23 November 2026",
            "22:00–07:00 (9 h)",
            "3 done, 1 failed, 1 cancelled, 2 left",
            "Europe/Moscow (UTC+03:00)",
        ),
        *("Что ограничивает скорость?", "Память — это узкое место.", "отчёт|2024.pdf", "page 12", "line 7", "maybe"),
        *("найдено в документе", "не проверено", "Луна из сыра.", "What is six times seven?", "42: 4 samples"),
        *("The vote of 5 samples", "tale.docx", "Who?", "Anna", "When?", "It does not say."),
        *(
            "document_unreadable: scan.pdf: no text in it",
            "Replace the document",
            "1 finished step is kept",
            "monk retry job_",
        ),
        *("Never mind?", "What is left?", "#leisure", "Deadline 25 Nov 07:00", "2 jobs before it"),
        *(
            "Expected to start 22:00 and to end 22:04",
            "33 tokens of it saved",
            "And later?",
            "Waiting until 26 Nov 07:00",
        ),
        *("The next night opens 22:00", "locked.pdf", "it is encrypted (new)", "new.md", "old.md", "2 GiB left"),
        *(
            "the engine died: signal 9",
            "weekly ran 1 h 30 min late",
            "The engine was restarted once",
            "Monk-72B Q4_K_M",
        ),
        *("300 tokens in 12 s of engine time, 25.0 tokens/s", "183 tokens in 30 s of engine time, 5.00 tokens/s"),
        *("8,192 tokens from disk in 8 proved blocks, 1 min 31 s saved", "80 of 100 tokens tried"),
        *(
            "3,208 tokens of prompts that had the same beginning, 2 identical thoughts",
            "2 blocks of KV were found wrong",
        ),
        *("5.0 GiB at its most, 3.0 GiB now", "all-MiniLM-L6-v2"),
    ):
        assert fact in markdown.replace("\\", ""), fact
        assert fact in page, fact
    for job in (*data["done"], *data["failed"], *data["cancelled"], *data["left"]):
        assert job["id"] in markdown
        assert job["id"] in page


def test_the_data_is_raw_numbers_and_times_with_the_nights_offset(house: House) -> None:
    data, _, _ = house.texts(a_whole_night(house))
    assert data["schema"] == "night-monk.report/1"
    assert (data["night"]["opened_at"], data["night"]["closed_at"]) == (
        "2026-11-22T22:00:00+03:00",
        "2026-11-23T07:00:00+03:00",
    )
    assert data["night"]["open_seconds"] == 32_400
    assert data["costs"]["decoded_tokens"] == 3 * 50 + 33
    assert data["spared"]["saved_seconds"] == 91
    assert data["spared"]["restored_tokens"] == 8192
    assert data["spared"]["missed_blocks"] == 0
    assert data["costs"]["decode_tokens_per_second"] == pytest.approx(5.0)
    assert data["done"][0]["citations"][0] == {
        "file": "отчёт|2024.pdf",
        "page": 12,
        "line": None,
        "quote": "Память — это узкое место.",
        "verified": True,
        "passage": None,
    }
    waiting = next(job for job in data["left"] if job["state"] == "waiting")
    assert waiting["ready_at"] == "2026-11-26T07:00:00+03:00"
    assert data["failed"][0]["error"]["code"] == "document_unreadable"


def test_the_shortest_headline_of_all_an_empty_night_is_one_line(house: House) -> None:
    house.nights.open("window", MORNING, EVENING)
    house.nights.close(MORNING)
    house.now = MORNING
    data, markdown, page = house.texts(house.report())
    assert data["empty"] is True
    assert markdown.count("\n") == 1
    assert "Monday, 23 November 2026: an empty night. The night was open 22:00–07:00 (9 h)." in markdown
    assert markdown.strip("# \n") in page


def test_a_document_that_stays_unreadable_does_not_make_every_night_an_event(house: House) -> None:
    unreadable(house.database, "locked.pdf", "it is encrypted")
    first, second = house.report(), house.report()
    assert (first.data["empty"], second.data["empty"]) == (False, True)
    assert second.data["corpus"]["unreadable"] == [{"file": "locked.pdf", "reason": "it is encrypted", "new": False}]


@pytest.mark.parametrize(
    ("opened", "hours", "said"),
    [
        (datetime(2026, 10, 24, 20, 0, tzinfo=UTC), 10, "22:00–07:00 (10 h: the clocks went back 1 h)"),
        (datetime(2026, 3, 28, 21, 0, tzinfo=UTC), 8, "22:00–07:00 (8 h: the clocks went forward 1 h)"),
    ],
)
def test_a_night_with_a_change_of_clocks_has_its_real_hours(
    database: Database, tmp_path: Path, opened: datetime, hours: int, said: str
) -> None:
    house = House(database, tmp_path, zone=ZoneInfo("Europe/Berlin"))
    house.nights.open("window", None, opened)
    house.nights.close(opened + timedelta(hours=hours))
    house.now = opened + timedelta(hours=hours)
    data, markdown, page = house.texts(house.report())
    assert data["night"]["open_seconds"] == hours * 3600
    assert said in markdown
    assert said in page


def test_an_open_night_is_said_to_be_open(house: House) -> None:
    house.nights.open("now", None, EVENING)
    house.now = EVENING + timedelta(minutes=90)
    assert "since 22:00 and still is (1 h 30 min)" in house.texts(house.report())[1]


def test_each_end_of_a_job_is_told_exactly_once_though_the_clock_jumps_back(house: House) -> None:
    first = house.done({"answer": "one"})
    before = house.report()
    house.now -= timedelta(hours=1)
    second = house.done({"answer": "two"})
    after = house.report()
    assert [job["id"] for job in before.data["done"]] == [first.id]
    assert [job["id"] for job in after.data["done"]] == [second.id]
    assert house.report().data["done"] == []


def test_a_report_over_chosen_times_leaves_the_chain_as_it_is(house: House) -> None:
    old = house.done({"answer": "one"})
    house.report()
    new = house.done({"answer": "two"}, question="Another one?")
    chosen = house.report(since=EVENING, until=house.now)
    assert {job["id"] for job in chosen.data["done"]} == {old.id, new.id}
    assert [job["id"] for job in house.report().data["done"]] == [new.id]


def test_the_first_report_forgets_nothing_that_came_before_the_last_night(house: House) -> None:
    early = house.done({"answer": "one"})
    house.now = EVENING + timedelta(days=3)
    house.nights.open("window", None, house.now)
    assert [job["id"] for job in house.report().data["done"]] == [early.id]


def test_a_retried_job_is_left_and_not_failed(house: House) -> None:
    house.submit("answer", {"question": "Again?"})
    job = house.claim()
    house.queue.fail(job, InvalidInput("no"), house.later(), retryable=False)
    house.queue.retry(job.id, house.later())
    data = house.report().data
    assert (data["failed"], [left["id"] for left in data["left"]]) == ([], [job.id])


def test_tokens_of_an_open_thought_are_counted_once_over_two_reports(house: House) -> None:
    house.submit("answer", {"question": "A long one?"})
    job = house.claim()
    house.save(job, house.open_thought(job), 30)
    first = house.report()
    opened = house.open_thought(job)
    house.save(job, opened, 20)
    house.steps.finish_thought(job, opened.id, ThoughtEnd("stop", "x", "", "x", 100, 4.0, 10.0), house.later())
    house.queue.finish(job, {"answer": "x"}, house.later())
    second = house.report()
    assert [report.data["costs"]["decoded_tokens"] for report in (first, second)] == [30, 20]
    assert second.data["done"][0]["cost"]["decoded_tokens"] == 50
    assert second.data["incidents"] == {
        "engine_deaths": 0,
        "engine_restarts": 0,
        "cut_thoughts": 1,
        "kept_tokens": 30,
        "recovered_jobs": 0,
        "retried_errors": 0,
    }
    assert "1 thought was cut and went on: 30 tokens saved." in house.texts(second)[1]


@pytest.mark.parametrize(
    "result",
    [
        {},
        {"answer": None},
        {"answer": {"a": [1]}},
        {"answer": "x", "citations": "none", "votes": 3, "parts": {"a": 1}, "found": "yes", "samples": "5"},
        {"answer": "x", "citations": [None, {}, {"file": None, "page": "3", "quote": 5}], "parts": [None, {}, {}]},
        {"anything": "else"},
    ],
)
def test_results_of_an_unknown_kind_are_told_as_far_as_they_go(house: House, result: dict[str, Any]) -> None:
    job = house.done(result, "my-own-kind", topic="owls", depth=3)
    data, markdown, page = house.texts(house.report())
    assert data["done"][0]["kind"] == "my-own-kind"
    assert "owls" in markdown
    assert job.id in page


HOSTILE = (
    "</article></details><script>alert(1)</script>\x1b[2J\u202e <img src=http://e.org/x> ![p](http://e.org/p.png) `"
    + ("\ud800\n# Failed (0)\n```\n<!--")
)


def test_hostile_texts_change_neither_the_page_nor_the_markdown(house: House) -> None:
    citation = {"file": HOSTILE, "line": 1, "quote": HOSTILE, "verified": True}
    part = {"question": HOSTILE, "answer": HOSTILE, "citations": [citation], "unsupported": [HOSTILE]}
    sent = HOSTILE.replace("\ud800", "")
    house.submit("answer", {"question": sent, "document": sent}, tags=[sent])
    job = house.claim()
    house.queue.finish(
        job,
        {**part, "votes": [{"answer": HOSTILE, "count": 1}], "parts": [part, part], "reasoning": HOSTILE},
        house.later(),
    )
    house.submit("answer", {"messages": [{"role": "user", "content": sent}]})
    house.queue.fail(house.claim(), InvalidInput(HOSTILE), house.later(), retryable=False)
    house.events.tell("warning", {"message": HOSTILE}, house.later())
    house.engine.last_error = HOSTILE
    unreadable(house.database, "<script>.pdf", sent)
    report = house.report()

    for format_ in ("json", "md", "html"):
        text = house.reporter.render(report, format_)
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", text)
    page = house.reporter.render(report, "html")
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("</article>") == page.count("<article") == 2
    assert not re.search(r'(href|src)="(?!#)', page)
    headings = [line for line in house.reporter.render(report, "md").split("\n") if re.match(r"##? ", line)]
    assert headings[1:3] == ["## Done (1)", "## Failed (1)"]
    assert sum(line.startswith("## Failed") for line in headings) == 1


def test_the_page_asks_nobody_for_anything(house: House) -> None:
    page = house.reporter.render(a_whole_night(house), "html")
    assert "default-src 'none'" in page
    assert not re.search(r"https?://|@import|url\(", page)
    assert "prefers-color-scheme" in page
    anchors = re.findall(r'href="#([^"]+)"', page)
    assert anchors
    assert all(f'id="{anchor}"' in page for anchor in anchors)


def test_a_citation_leads_to_its_passage_at_the_daemon_and_nowhere_else(house: House) -> None:
    house.reporter = linked(house, "http://127.0.0.1:8420")
    known = {"file": "a.md", "line": 3, "quote": "The pump is red.", "verified": True, "passage": "0a" * 16}
    read_whole = {"file": 'b">&<x y.pdf', "page": 4, "quote": "The valve is blue.", "verified": True, "passage": ""}
    forged = {"file": "c.md", "line": 1, "quote": "A forged one.", "verified": False, "passage": '../../x"><script>'}
    house.done({"answer": "Red [1] [2] [3].", "citations": [known, read_whole, forged]})
    report = house.report()

    page, text = (house.reporter.render(report, format_) for format_ in ("html", "md"))

    outward = re.findall(r'href="(?!#)([^"]*)"', page)
    assert [unescape(address) for address in outward] == [
        f"http://127.0.0.1:8420/corpus/passages/{'0a' * 16}",
        "http://127.0.0.1:8420/corpus/passages?file=b%22%3E%26%3Cx+y.pdf&page=4",
    ]
    assert re.findall(r"<(http[^>]*)>", text) == [unescape(address) for address in outward]
    assert "file://" not in page + text


def test_without_an_address_there_is_no_link(house: House) -> None:
    house.done({"answer": "Red [1].", "citations": [{"file": "a.md", "line": 3, "quote": "q", "verified": True}]})

    page = house.reporter.render(house.report(), "html")

    assert not re.search(r'href="(?!#)', page)


def linked(house: House, address: str) -> MorningReporter:
    return MorningReporter(
        house.database,
        folder=house.folder,
        zone=house.zone,
        engine=house.engine,
        library=Shelf(),
        forecaster=FixedForecast(),
        night=QuietNight(),
        links=address,
        now=lambda: house.now,
    )


def test_the_files_are_whole_equal_to_what_is_rendered_and_latest_follows(house: House) -> None:
    house.now = MORNING
    first = house.report()
    house.done({"answer": "more"})
    second = house.report()
    names = sorted(path.name for path in house.folder.iterdir())
    assert names == sorted(
        f"{stem}.{end}" for stem in ("2026-11-23", "2026-11-23-2", "latest") for end in ("md", "html", "json")
    )
    assert first.data["files"] == ["2026-11-23.md", "2026-11-23.html", "2026-11-23.json"]
    for end in ("md", "html", "json"):
        assert (house.folder / f"2026-11-23-2.{end}").read_text() == house.reporter.render(second, end)
        assert (house.folder / f"latest.{end}").read_text() == house.reporter.render(second, end)


def test_a_folder_that_cannot_be_written_costs_the_files_and_not_the_report(house: House) -> None:
    house.folder.write_text("a file where the folder should be")
    report = house.report()
    assert Reports(house.database).get("latest").id == report.id
    warning = house.events.after(0)[-1]
    assert warning.type == "warning"
    assert str(house.folder) in warning.data["message"]


def test_a_failed_write_leaves_no_half_file(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.report()
    before = {path.name: path.read_text() for path in house.folder.iterdir()}

    def full(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    house.report()
    assert {path.name: path.read_text() for path in house.folder.iterdir()} == before


def test_reports_asked_for_at_once_tell_every_job_once(house: House) -> None:
    jobs = {house.done({"answer": "x"}, question=f"Number {n}?").id for n in range(3)}
    written: list[Report] = []
    threads = [threading.Thread(target=lambda: written.append(house.report())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    told = [job["id"] for report in written for job in report.data["done"]]
    assert len(written) == 4
    assert sorted(told) == sorted(jobs)


def test_more_jobs_than_a_person_reads_are_counted(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("db.reporting.LEFT_MOST", 2)
    monkeypatch.setattr("db.reporting.ENDED_MOST", 1)
    house.done({"answer": "x"})
    house.done({"answer": "y"})
    for n in range(5):
        house.submit("answer", {"question": f"Number {n}?"})
    data, markdown, page = house.texts(house.report())
    assert (data["counts"]["done"], data["counts"]["left"], data["counts"]["not_told"]) == (2, 5, 4)
    assert "4 more jobs are not listed here" in markdown
    assert "4 more jobs are not listed here" in page


def test_a_very_long_question_and_answer_are_cut_and_say_so(house: House) -> None:
    house.done({"answer": "слово " * 50_000}, question="why " * 50_000)
    data, markdown, page = house.texts(house.report())
    assert data["done"][0]["question_characters"] == 200_000
    assert len(data["done"][0]["question"]) <= 4_000
    for text in (markdown, page):
        assert "200,000 characters in all" in text
        assert "300,000 characters in all" in text or "299,999 characters in all" in text


def test_an_unknown_format_is_refused_by_name(house: House) -> None:
    with pytest.raises(InvalidInput, match="'pdf' is unknown; use md, html or json"):
        house.reporter.render(house.report(), "pdf")


def test_what_people_thought_of_an_answer_stands_at_its_job_and_in_the_figures(house: House) -> None:
    feedback = Feedback(house.database)
    early = house.done({"answer": "one"})
    before = house.report()
    corrected, wrong, useful = (house.done({"answer": "two"}, question=f"Number {n}?") for n in range(3))
    feedback.give(early.id, "wrong", None, None, house.later())
    feedback.give(early.id, "useful", None, None, house.later())
    feedback.give(corrected.id, "wrong", f"three {HOSTILE}".replace("\ud800", ""), "\x1b[2Jwhy", house.later())
    feedback.give(wrong.id, "wrong", None, None, house.later())
    data, markdown, page = house.texts(house.report())

    assert before.data["done"][0]["feedback"] is None
    told = {job["id"]: job["feedback"] for job in data["done"]}
    assert told[useful.id] is None
    assert told[corrected.id]["correction"].startswith("three </article>") and "\x1b" not in told[corrected.id]["note"]
    assert told[wrong.id] | {"at": ""} == {"verdict": "wrong", "correction": None, "note": None, "at": ""}
    assert data["feedback"] == {"useful": 1, "wrong": 2, "corrected": 1}
    for text in (markdown, page):
        assert text.count("Marked wrong, with a correction.") == text.count("Marked wrong.") == 1
        assert "1 useful, 2 wrong (1 with a correction)" in text.replace("\\", "")
