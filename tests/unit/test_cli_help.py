"""Every command says what it is for; help is instant; every error is one line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from monk.cli import run
from monk.cli.app import app

HEAVY = (
    "fastapi",
    "sqlalchemy",
    "rich",
    "pydantic",
    "httpx",
    "numpy",
    "torch",
    "chromadb",
    "llama_cpp",
    "alembic",
    "psutil",
)


def commands(group: typer.Typer = app, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for command in group.registered_commands:
        yield (*path, str(command.name))
    for sub in group.registered_groups:
        assert sub.typer_instance is not None
        yield from commands(sub.typer_instance, (*path, str(sub.name)))


@pytest.mark.parametrize("path", [(), *commands()], ids=" ".join)
def test_a_command_and_all_its_options_have_help(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*path, "--help"]) == 0

    assert f"Usage: {' '.join(['monk', *path])} " in capsys.readouterr().out
    command = command_at(path)
    assert len((command.help or "").split()) > 3, "a sentence"
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"no help for {parameter.name}"


def test_no_help_sentence_is_cut_in_the_lists(capsys: pytest.CaptureFixture[str]) -> None:
    for group in ([], ["corpus"], ["schedule"], ["service"]):
        run([*group, "--help"])

    assert "..." not in capsys.readouterr().out.replace("[ARGS]...", "")


def command_at(path: tuple[str, ...]) -> Any:
    command: Any = typer.main.get_command(app)
    for name in path:
        command = command.commands[name]
    return command


def test_no_command_is_missing() -> None:
    names = {" ".join(path) for path in commands()}

    assert names == {
        *(
            "serve",
            "submit",
            "jobs",
            "show",
            "cancel",
            "retry",
            "feedback",
            "kinds",
            "night",
            "status",
            "report",
            "plan",
            "tune",
            "bench",
            "doctor",
            "backup",
        ),
        *("restore", "demo", "corpus sync", "corpus search", "corpus status", "schedule add", "schedule list"),
        *("schedule remove", "service install", "service uninstall"),
        *("adapter add", "adapter list", "adapter show", "adapter export", "adapter merge", "adapter remove"),
        *("adapter train", "adapter rollback", "compare-adapter"),
    }


def test_help_loads_nothing_heavy() -> None:
    code = f"import sys, monk.cli.app; sys.exit(', '.join(name for name in {HEAVY} if name in sys.modules))"

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert ended.stderr.strip() == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nonsense"], "monk: No such command 'nonsense'; see `monk --help`"),
        (["jobs", "--nonsense"], "monk: No such option: --nonsense; see `monk jobs --help`"),
        (["corpus"], "monk: Missing command; see `monk corpus --help`"),
        (["show"], "see `monk show --help`"),
        (["jobs", "--limit", "x"], "see `monk jobs --help`"),
        (["submit"], "monk: nothing is asked"),
        (["night", "--now", "--close"], "say opposite things"),
        (["report", "--md", "--json"], "say different things"),
        (["bench", "--show", "--now"], "--show measures nothing"),
        (["bench", "last"], "say --show to see a job"),
        (["bench", "--picture", "speed.png"], "ends in .svg"),
        (["bench", "--widths", "1,two"], "monk: --widths 'two': write whole numbers"),
        (["bench", "--trials", "3"], "belong to --needle"),
        (["bench", "--needle", "--depths", "half"], "write numbers with commas"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_status_2(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = run(arguments)

    printed = capsys.readouterr()
    assert status == 2
    assert printed.out == ""
    assert told in printed.err and printed.err.count("\n") == 1


def test_no_daemon_is_one_line_with_the_way_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("MONK_HOME", str(home))
    monkeypatch.setenv("MONK_PORT", "1")

    status = run(["jobs"])

    assert status == 2
    assert capsys.readouterr().err == (
        "monk: no daemon at http://127.0.0.1:1; start it with `monk serve` or `systemctl start night-monk`\n"
    )


def test_no_arguments_print_help_and_version_prints_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert "Usage: monk" in capsys.readouterr().out
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("monk ")


def test_a_mistake_of_ours_is_one_line_and_a_traceback_only_when_debugging(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("monk.cli.session.connect", broken)

    assert run(["jobs"]) == 1
    assert capsys.readouterr().err == (
        "monk: RuntimeError: two lines; a mistake of ours: MONK_LOG_LEVEL=debug shows where\n"
    )
    monkeypatch.setenv("MONK_LOG_LEVEL", "debug")
    assert run(["jobs"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_wrong_setting_is_told_before_anything_else(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONK_PROT", "8421")

    assert run(["jobs"]) == 2
    assert capsys.readouterr().err == "monk: unknown setting 'MONK_PROT' in the environment; did you mean port?\n"


def test_a_closed_pipe_ends_in_silence() -> None:
    command = f"{sys.executable} -m monk.cli --help | true; exit ${{PIPESTATUS[0]}}"

    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=Path(__file__).parents[2])

    assert ended.stderr == ""
