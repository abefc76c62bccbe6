"""The systemd unit as it is written: paths, quoting, refusals. Under a real systemd: tests/systemd."""

from __future__ import annotations

import configparser
import os
import stat
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from monk import service
from monk.errors import InvalidInput, NotFound, Unavailable

UNITS = Path(__file__).resolve().parents[2] / "systemd"
BOTH = pytest.mark.parametrize("user", [False, True])


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An environment with a `monk` in it, an account's configuration folder, and no systemctl."""
    scripts = tmp_path / "night monk" / "bin"
    scripts.mkdir(parents=True)
    program = scripts / "monk"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(scripts))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("MONK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    yield program


def lines_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@BOTH
def test_a_unit_starts_the_program_of_this_environment(environment: Path, user: bool) -> None:
    text = service.render(user)
    assert f'ExecStart="{environment}" serve' in lines_of(text)
    assert "{" not in text, "nothing is left to fill in"


def test_the_account_s_unit_names_the_home_its_terminal_uses(environment: Path, tmp_path: Path) -> None:
    assert f"Environment=MONK_HOME={tmp_path}/home" in lines_of(service.render(user=True))


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("/opt/night-monk/bin/monk", "/opt/night-monk/bin/monk"),
        ("/opt/night monk/bin/monk", '"/opt/night monk/bin/monk"'),
        ("/opt/100%/bin/$monk", "/opt/100%%/bin/$$monk"),
        ('/opt/"q"/b\\c', '"/opt/\\"q\\"/b\\\\c"'),
        ("/opt/монах/bin/monk", "/opt/монах/bin/monk"),
    ],
)
def test_a_path_is_written_so_that_systemd_reads_it_back(word: str, shown: str) -> None:
    assert service.quoted(word) == shown


@BOTH
def test_every_setting_of_a_unit_stands_under_a_comment_with_its_reason(user: bool) -> None:
    text = (UNITS / ("night-monk-user.service" if user else "night-monk.service")).read_text()
    told = False
    for line in text.splitlines():
        if line.startswith("#"):
            told = not line.startswith("# ──")
        elif not line or line.startswith("["):
            told = False
        elif not line.startswith(("Description=", "WantedBy=")):
            assert told, line


@BOTH
def test_a_unit_is_what_was_promised(environment: Path, user: bool) -> None:
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(service.render(user))
    unit = parser["Service"]
    assert (unit["Type"], unit["NotifyAccess"], unit["Restart"]) == ("notify", "main", "always")
    assert (unit["CPUSchedulingPolicy"], unit["IOSchedulingClass"], unit["Nice"]) == ("idle", "idle", "19")
    assert (unit["OOMPolicy"], unit["KillMode"], unit["TimeoutStopSec"]) == ("continue", "mixed", "20s")
    assert parser["Unit"]["StartLimitIntervalSec"] == "0"
    assert "WatchdogSec" in unit


def test_keys_that_an_older_systemd_does_not_know_are_left_out() -> None:
    text = "[Service]\nRestart=always\nRestartSteps=5\nRestartMaxDelaySec=1min\nNice=19\n"
    assert service._for_version(text, 252) == "[Service]\nRestart=always\nNice=19\n"
    assert service._for_version(text, 254) == text
    assert service._for_version(text, None) == text


def test_an_account_without_a_reachable_systemd_gets_its_unit_and_the_command(
    environment: Path, tmp_path: Path
) -> None:
    done = service.install(user=True, start=True)
    unit = tmp_path / "config" / "systemd" / "user" / "night-monk.service"
    assert unit.read_text() == service.render(user=True)
    assert stat.S_IMODE(unit.stat().st_mode) == 0o644
    assert done[0] == f"wrote {unit}"
    assert "systemctl --user enable --now night-monk" in done[1]
    assert list(unit.parent.iterdir()) == [unit], "no half-written file is left behind"


def test_a_second_installation_says_that_nothing_had_to_be_changed(environment: Path) -> None:
    service.install(user=True, start=False)
    assert service.install(user=True, start=False)[0].endswith("is up to date")


def test_removing_an_account_s_unit_leaves_the_rest(environment: Path, tmp_path: Path) -> None:
    service.install(user=True, start=False)
    done = service.uninstall(user=True)
    assert not (tmp_path / "config" / "systemd" / "user" / "night-monk.service").exists()
    assert "stays" in done[1]
    with pytest.raises(NotFound, match="nothing was changed"):
        service.uninstall(user=True)


def test_without_root_the_whole_command_is_told(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(InvalidInput, match=r"sudo '.*night monk/bin/monk' service install"):
        service.install(user=False, start=True)
    with pytest.raises(InvalidInput, match=r"service uninstall"):
        service.uninstall(user=False)


@pytest.mark.parametrize("place", ["/tmp/venv/bin/monk", "/var/tmp/x/monk", "/run/user/1000/monk"])
def test_a_program_that_the_service_could_not_see_is_refused(place: str) -> None:
    with pytest.raises(InvalidInput, match=r"which the service cannot see; .* /opt/night-monk"):
        service.refuse_hidden(Path(place))


def test_an_environment_without_monk_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["pytest"])
    with pytest.raises(InvalidInput, match="-m pip install night-monk"):
        service.program()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be written"):
        service.write_whole(tmp_path / "file" / "unit", "", 0o644)
