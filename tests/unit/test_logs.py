"""The journal's lines."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from monk import logs

ISO = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"


@pytest.fixture(autouse=True)
def root_restored() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(False)
    for name in logs.TALKATIVE:
        logging.getLogger(name).setLevel(logging.NOTSET)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def logged(stream: io.StringIO, environ: dict[str, str] | None = None, level: str = "info") -> logging.Logger:
    logs.setup(level, stream, environ or {})
    return logging.getLogger("monk.work")


def test_a_line_is_level_logger_text_and_fields_with_the_job_first() -> None:
    stream = io.StringIO()

    logged(stream).info(
        "job claimed", extra={"attempt": 1, "job_id": "job_7", "why": "it is due", "seconds": 0.123456789}
    )

    assert re.fullmatch(
        ISO + r' info monk\.work: job claimed job_id=job_7 attempt=1 why="it is due" seconds=0\.123457\n',
        stream.getvalue(),
    )


def test_a_forged_line_stays_inside_its_field() -> None:
    stream = io.StringIO()

    logged(stream).warning("odd %s", "name\n<0>kernel: panic", extra={"file": "a\nb\x1b[2J\u202e", "empty": ""})

    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue() and "\u202e" not in stream.getvalue()
    assert r"odd name\n<0>kernel: panic" in stream.getvalue() and 'empty=""' in stream.getvalue()


def test_levels_below_the_chosen_one_are_left_out() -> None:
    stream = io.StringIO()

    logger = logged(stream, level="warning")
    logger.info("quiet")
    logger.error("loud")

    assert "quiet" not in stream.getvalue() and "loud" in stream.getvalue()


def test_talkative_libraries_are_heard_from_warnings_up_unless_debugging() -> None:
    stream = io.StringIO()

    logged(stream)
    logging.getLogger("httpx").info("request")
    logging.getLogger("httpx").warning("trouble")
    logs.setup("debug", stream, {})
    logging.getLogger("httpx").info("every request")

    assert "trouble" in stream.getvalue() and "every request" in stream.getvalue()
    assert "httpx: request" not in stream.getvalue()


def test_under_systemd_each_line_of_a_traceback_has_the_priority(tmp_path: Path) -> None:
    file = tmp_path / "journal"
    with file.open("w+", encoding="utf-8") as stream:
        status = os.fstat(stream.fileno())
        logs.setup("info", stream, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        try:
            raise ValueError("first\nsecond")
        except ValueError:
            logging.getLogger("monk.work").exception("job failed", extra={"job_id": "job_7"})
        logging.getLogger("monk.work").info("next")

    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "<3>monk.work: job failed job_id=job_7"
    assert lines[1] == "<3>  Traceback (most recent call last):"
    assert all(line.startswith("<3>  ") for line in lines[1:-1])
    assert lines[-1] == "<6>monk.work: next"


def test_a_journal_of_another_stream_is_not_ours(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        assert not logs.read_by_journal(stream, {"JOURNAL_STREAM": "1:2"})
        assert not logs.read_by_journal(stream, {"JOURNAL_STREAM": "nonsense"})
        assert not logs.read_by_journal(stream, {})


def test_a_terminal_gets_colour_unless_it_is_asked_not_to() -> None:
    coloured, plain = Terminal(), Terminal()

    logged(coloured).error("bad")
    logged(plain, {"NO_COLOR": "1"}).error("bad")

    assert "\x1b[31merror" in coloured.getvalue()
    assert re.fullmatch(r"\d\d:\d\d:\d\d error   monk\.work: bad\n", plain.getvalue())


def test_setting_up_twice_does_not_say_things_twice() -> None:
    first, second = io.StringIO(), io.StringIO()

    logged(first)
    logged(second).info("once")

    assert first.getvalue() == "" and second.getvalue().count("once") == 1


def test_standard_error_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("info", None, {})

    logging.getLogger("monk").info("here")

    assert "monk: here" in capsys.readouterr().err
    assert sys.stderr is not None
