"""Documents that cannot be read, links that lead away, a folder that goes away: named once, and the rest is read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfWriter
from reportlab.pdfgen import canvas

from tests.running import RunningDaemon, running

SECONDS = 90.0
SECRET = "The code of the safe is 4711."
MENDED = "Pump 9 was mended in March by the night shift."
REASONS = {
    "away": "is a symlink that leaves the corpus folder; copy the file into it",
    "broken.pdf": "is damaged: not a PDF that can be opened; make or download it again",
    "leak.md": "is a symlink that leaves the corpus folder; copy the file into it",
    "locked.pdf": "is encrypted; remove the password (qpdf --decrypt) and put it back",
}


def write_pdfs(folder: Path) -> None:
    """One that can be read, its first half, and one with a password."""
    whole = folder / "whole.pdf"
    page = canvas.Canvas(str(whole))
    page.drawString(72, 700, MENDED)
    page.save()
    (folder / "broken.pdf").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    writer = PdfWriter(whole)
    writer.encrypt("a password")
    writer.write(folder / "locked.pdf")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """A daemon that has read a corpus of good and bad files; it has a job from before."""
    house = tmp_path_factory.mktemp("corpus")
    folder = house / "home" / "corpus"
    folder.mkdir(parents=True)
    write_pdfs(folder)
    (house / "outside").mkdir()
    (house / "outside" / "secret.md").write_text(SECRET)
    (folder / "leak.md").symlink_to(house / "outside" / "secret.md")
    (folder / "away").symlink_to(house / "outside")
    (folder / "pumps.md").write_text("# Pumps\n\nPump 8 is new.\n")
    with running(house / "home", MONK_CONTEXT="2048", MONK_SLOTS="2") as made:
        made.submit("think", {"question": "Why?"}, not_before="2099-01-01T00:00:00Z")
        assert made.monk("corpus", "sync", "--wait").status == 0
        yield made
        assert len(made.get("/jobs?state=waiting")["jobs"]) == 1


def unreadable(daemon: RunningDaemon) -> dict[str, str]:
    return {row["path"]: row["problem"] for row in daemon.get("/corpus")["unreadable"]}


def ended(daemon: RunningDaemon, kind: str, input_: dict[str, Any]) -> dict[str, Any]:
    """The job at its end, in a night that is opened for it."""
    job_id = daemon.submit(kind, input_)
    daemon.http.post("/night/open", json={})
    return dict(daemon.wait_jobs_ended([job_id], SECONDS)[job_id])


def test_bad_documents_are_named_once_each_with_the_way_out_and_the_others_are_read(daemon: RunningDaemon) -> None:
    shown = daemon.monk("corpus", "status")

    assert unreadable(daemon) == REASONS
    assert daemon.get("/corpus")["documents"] == 2
    assert shown.status == 0
    for file, reason in REASONS.items():
        assert shown.out.count(f"cannot be read: {file}: {reason}\n") == 1


def test_what_a_link_leads_to_outside_is_nowhere(daemon: RunningDaemon) -> None:
    hits = daemon.get("/corpus/search?q=code+of+the+safe&k=10")["hits"]

    assert hits and not any("4711" in hit["text"] for hit in hits)
    assert not [
        path
        for path in daemon.home.rglob("*")
        if path.is_file() and not path.is_symlink() and b"4711" in path.read_bytes()
    ]


@pytest.mark.real
@pytest.mark.parametrize("file", ["locked.pdf", "broken.pdf", "leak.md"])
def test_a_job_about_a_bad_document_fails_at_once_with_the_same_reason(daemon: RunningDaemon, file: str) -> None:
    job = ended(daemon, "read", {"document": file, "questions": ["What does it say?"]})

    assert (job["state"], job["attempt"]) == ("failed", 1)
    assert (job["error"]["code"], job["error"]["message"]) == ("document_unreadable", f"{file} {REASONS[file]}")


def test_a_folder_that_vanished_is_told_removes_nothing_and_is_read_again_when_it_is_back(
    daemon: RunningDaemon,
) -> None:
    folder, gone = daemon.home / "corpus", daemon.home.parent / "gone"
    shutil.move(folder, gone)
    try:
        failed = daemon.monk("corpus", "sync", "--wait")
        problems = daemon.get("/status")["problems"]
        found = daemon.get("/corpus/search?q=who+mended+pump+9&k=3")["hits"]
    finally:
        shutil.move(gone, folder)
    mended = daemon.monk("corpus", "sync", "--wait")

    reason = (
        f"corpus folder {folder} cannot be read (no such file or directory); nothing was removed from the index: "
        "create it, mount it or set MONK_CORPUS"
    )
    assert (failed.status, failed.out) == (2, "")
    assert failed.err.count(reason) == 1
    assert [problem for problem in problems if reason in problem] == [f"the corpus could not be read: {reason}"]
    assert any(MENDED in hit["text"] for hit in found)
    assert mended.status == 0
    assert daemon.get("/corpus")["documents"] == 2 and not daemon.get("/corpus")["error"]
