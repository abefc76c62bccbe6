"""The service on a Mac, pretended: another platform's name and a launchctl that writes down what it was asked."""

from __future__ import annotations

import getpass
import os
import plistlib
import pwd
import stat
import sysconfig
from pathlib import Path

import pytest

from monk import launchd, service
from monk.cli import run
from monk.errors import InvalidInput, NotFound, Unavailable

TEMPLATE = Path(__file__).resolve().parents[2] / "launchd" / "org.night-monk.plist"
USER = getpass.getuser()


@pytest.fixture
def mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where launchctl writes what it was told; what `loaded` holds it takes for running."""
    monkeypatch.setattr(service.platform, "system", lambda: "Darwin")
    scripts = tmp_path / "night & monk" / "bin"
    scripts.mkdir(parents=True)
    (scripts / "monk").write_text("#!/bin/sh\n")
    (scripts / "monk").chmod(0o755)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(scripts))
    tools = tmp_path / "tools"
    tools.mkdir()
    told = tmp_path / "told"
    (tools / "launchctl").write_text(
        f'#!/bin/sh\necho "$*" >> {told}\ncase "$1" in\nprint) test -e {tmp_path}/loaded;;\n'
        f"bootstrap) test ! -e {tmp_path}/broken || {{ echo 'Bootstrap failed: 5: Input/output error' >&2; exit 5; }}; "
        f"touch {tmp_path}/loaded;;\nbootout) rm {tmp_path}/loaded;;\nesac\n"
    )
    (tools / "launchctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MONK_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(launchd, "DAEMONS", tmp_path / "LaunchDaemons")
    return told


def agent(tmp_path: Path) -> Path:
    return tmp_path / "Library" / "LaunchAgents" / "org.night-monk.plist"


def test_an_account_s_agent_is_written_loaded_and_started(mac: Path, tmp_path: Path) -> None:
    done = service.install(user=True, start=True)

    plist = plistlib.loads(agent(tmp_path).read_bytes())
    target = f"gui/{os.getuid()}/org.night-monk"
    assert plist["ProgramArguments"] == [f"{tmp_path}/night & monk/bin/monk", "serve"]
    assert plist["EnvironmentVariables"]["MONK_HOME"] == plist["WorkingDirectory"] == f"{tmp_path}/home"
    assert "UserName" not in plist, "an agent is its account's already"
    assert stat.S_IMODE(agent(tmp_path).stat().st_mode) == 0o644
    assert mac.read_text().splitlines() == [
        f"print {target}",
        f"enable {target}",
        f"bootstrap gui/{os.getuid()} {agent(tmp_path)}",
    ]
    assert done[0].startswith("made ") and done[1] == f"wrote {agent(tmp_path)}" and "pmset" in done[-1]
    assert (tmp_path / "home").is_dir(), "launchd opens the log in it"


def test_a_second_installation_ends_the_first_and_loads_the_new_list(mac: Path, tmp_path: Path) -> None:
    service.install(user=True, start=True)
    mac.unlink()

    done = service.install(user=True, start=True)

    assert done[0].endswith("is up to date")
    assert [line.split()[0] for line in mac.read_text().splitlines()] == ["print", "bootout", "enable", "bootstrap"]


def test_the_command_installs_without_starting_and_removes(
    mac: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["service", "install", "--user", "--no-start"]) == 0
    assert "not started; when you want it: launchctl bootstrap gui/" in capsys.readouterr().out
    assert not mac.exists()

    assert run(["service", "uninstall", "--user"]) == 0
    assert not agent(tmp_path).exists() and (tmp_path / "home").is_dir()
    with pytest.raises(NotFound, match="nothing was changed"):
        service.uninstall(user=True)


def test_removing_stops_what_runs(mac: Path, tmp_path: Path) -> None:
    service.install(user=True, start=True)
    mac.unlink()

    service.uninstall(user=True)

    assert [line.split()[0] for line in mac.read_text().splitlines()] == ["print", "bootout"]
    assert not (tmp_path / "loaded").exists()


def test_a_launchd_that_refuses_is_told_with_the_command(mac: Path, tmp_path: Path) -> None:
    (tmp_path / "broken").touch()

    with pytest.raises(Unavailable, match=r"Input/output error; by hand: launchctl bootstrap gui/"):
        service.install(user=True, start=True)


def test_a_service_of_the_machine_runs_as_the_account_that_asked(
    mac: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned: list[tuple[str, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda path, uid, gid: owned.append((str(path), uid)))
    monkeypatch.setenv("SUDO_USER", "nobody")

    done = service.install(user=False, start=True)

    file = tmp_path / "LaunchDaemons" / "org.night-monk.plist"
    plist = plistlib.loads(file.read_bytes())
    assert (plist["UserName"], plist["WorkingDirectory"]) == ("nobody", f"{tmp_path}/home")
    assert owned == [(f"{tmp_path}/home", pwd.getpwnam("nobody").pw_uid)]
    assert f"bootstrap system {file}" in mac.read_text() and done[1] == f"wrote {file}"


@pytest.mark.parametrize("asked_by", ["", "root"])
def test_without_an_account_to_run_as_the_whole_command_is_told(
    mac: Path, monkeypatch: pytest.MonkeyPatch, asked_by: str
) -> None:
    monkeypatch.setenv("SUDO_USER", asked_by)
    with pytest.raises(InvalidInput, match=r"from that account, sudo .*monk' service install"):
        service.install(user=False, start=True)


def test_without_launchd_the_list_is_written_and_the_command_told(
    mac: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))

    done = service.install(user=True, start=True)

    assert agent(tmp_path).exists() and "launchd cannot be reached from here" in done[-1]


def test_a_path_that_no_list_can_hold_is_refused(mac: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONK_HOME", str(tmp_path / "ho\x01me"))
    with pytest.raises(InvalidInput, match="cannot stand in a property list"):
        service.install(user=True, start=False)
    assert not agent(tmp_path).exists()


def test_every_key_stands_under_a_comment_with_its_reason_and_what_was_promised_is_kept() -> None:
    lines = [line for line in TEMPLATE.read_text().splitlines() if line.startswith("  ") and not line.startswith("   ")]
    told = False
    for number, line in enumerate(lines):
        if line.startswith("  <!--"):
            told = True
        elif line.startswith("  <key>"):
            assert told, line
        elif number + 1 < len(lines) and lines[number + 1].startswith("  <key>"):
            continue  # a second key under the same reason
        else:
            told = False
    plist = plistlib.loads(TEMPLATE.read_bytes())
    assert (plist["Label"], plist["KeepAlive"], plist["RunAtLoad"]) == ("org.night-monk", True, True)
    assert (plist["ProcessType"], plist["Nice"], plist["ExitTimeOut"]) == ("Standard", 19, 20)
    assert plist["Umask"] == 0o077 and plist["SoftResourceLimits"]["Core"] == 0
