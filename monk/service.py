"""Puts Night Monk under systemd: as a service of the machine, or of one account. Units come from `systemd/`, where each line
has its reason; here only the paths are filled in. On a Mac launchd takes its place (`launchd.py`). Knows nothing of jobs,
settings or the database.
"""

from __future__ import annotations

import getpass
import os
import platform
import pwd
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from monk.errors import InvalidInput, NotFound, Unavailable
from monk.settings import load

UNIT = "night-monk.service"
ACCOUNT = "night-monk"
STATE = Path("/var/lib/night-monk")
SYSTEM_UNITS = Path("/etc/systemd/system")
ENVIRONMENT_FILE = Path("/etc/night-monk.env")
BOOTED = Path("/run/systemd/system")  # sd_booted(3)

NEWER_KEYS = {"RestartSteps": 254, "RestartMaxDelaySec": 254}  # an older systemd warns about them at every reload
HIDDEN = tuple(Path(path) for path in ("/tmp", "/var/tmp", "/dev", "/run/user"))  # the unit sees its own, or nothing
ENVIRONMENT_STUB = """\
# Settings of the Night Monk service, one MONK_NAME=value a line (`monk doctor --settings` lists them), for example:
#MONK_MODEL=/srv/models/model.gguf
#MONK_CORPUS=/srv/documents
#MONK_NIGHT=22:00-07:00
#MONK_TOKEN=
# Then: systemctl restart night-monk
"""


def install(user: bool, start: bool) -> list[str]:
    """Write the unit, enable it and start it (or restart a running one). Returns what was done, a line each.

    Raises InvalidInput when rights are missing or the program lies where the service could not reach it, and Unavailable
    when systemd refuses. Again on an installed one: brings the unit up to this version.
    """
    if platform.system() == "Darwin":
        from monk import launchd

        return launchd.install(user, start)
    return _install_for_account(start) if user else _install_for_machine(start)


def uninstall(user: bool) -> list[str]:
    """Stop it and remove the unit; home and account stay. Raises InvalidInput, NotFound, Unavailable."""
    if platform.system() == "Darwin":
        from monk import launchd

        return launchd.uninstall(user)
    if not user:
        _need_root("uninstall")
    unit = _unit_folder(user) / UNIT
    if not unit.exists():
        raise NotFound(f"there is no {unit}; nothing was changed", param="service")
    if _reachable(user):
        _systemctl(user, "disable", "--now", UNIT)
    unit.unlink()
    if _reachable(user):
        _systemctl(user, "daemon-reload")
    return [f"stopped the service and removed {unit}", "its home with all jobs and reports stays"]


def render(user: bool) -> str:
    """The unit's text for the environment this runs in. Raises InvalidInput when `monk` is not installed in it, and
    SettingsInvalid when an account's settings cannot be read, as they say where its home is."""
    template = template_folder("systemd") / ("night-monk-user.service" if user else "night-monk.service")
    text = template.read_text(encoding="utf-8").replace("{monk}", quoted(str(program())))
    if user:
        text = text.replace("{home}", quoted(f"MONK_HOME={load().home}"))
    return _for_version(text, _systemd_version())


def program() -> Path:
    """The `monk` script of the environment this runs in, absolute. Raises InvalidInput when there is none."""
    beside = Path(sysconfig.get_path("scripts")) / "monk"
    called = Path(sys.argv[0])
    for candidate in (beside, called if called.name == "monk" else None):
        if candidate is not None and candidate.is_file() and os.access(candidate, os.X_OK):
            return Path(os.path.abspath(candidate))
    raise InvalidInput(
        f"there is no monk program in {beside.parent}; install Night Monk there first: {sys.executable} -m pip install "
        "night-monk",
        param="service",
    )


def quoted(word: str) -> str:
    """A word as systemd reads it back: specifiers and variables doubled, in quotes where it needs them."""
    doubled = word.replace("%", "%%").replace("$", "$$")
    if re.fullmatch(r"[\w./%$=@:+,-]+", doubled):
        return doubled
    return '"' + doubled.replace("\\", "\\\\").replace('"', '\\"') + '"'


# ── of the machine ────────────────────────────────────────────────────────────────────────────────────────────────────


def _install_for_machine(start: bool) -> list[str]:
    _need_root("install")
    path = program()
    refuse_hidden(path)
    done = _make_account()
    _try_as_account(path)
    done += _make_state()
    done += _write_unit(user=False)
    if not ENVIRONMENT_FILE.exists():
        write_whole(ENVIRONMENT_FILE, ENVIRONMENT_STUB, 0o600)
        done.append(f"wrote {ENVIRONMENT_FILE}: settings and the token go there, only root reads it")
    return done + _bring_up(user=False, start=start)


def _need_root(verb: str) -> None:
    if os.geteuid() != 0:
        raise InvalidInput(
            f"a service of the machine needs root: sudo {shlex.quote(str(program()))} service {verb}   "
            "(or --user, for your own account)",
            param="service",
        )


def refuse_hidden(path: Path) -> None:
    """Raises InvalidInput for a place that the unit's walls hide."""
    for folder in HIDDEN:
        if path.is_relative_to(folder):
            raise InvalidInput(f"{path} lies in {folder}, which the service cannot see; {_way_out()}", param="service")


def _make_account() -> list[str]:
    try:
        pwd.getpwnam(ACCOUNT)
        return []
    except KeyError:
        pass
    command = ["useradd", "--system", "--user-group", "--home-dir", str(STATE), "--no-create-home"]
    command += ["--shell", shutil.which("nologin") or "/usr/sbin/nologin", "--comment", "Night Monk", ACCOUNT]
    try:
        run(command)
    except FileNotFoundError as exc:
        raise Unavailable(f"useradd is missing; make a system user {ACCOUNT} with the home {STATE} by hand") from exc
    return [f"made the system user {ACCOUNT}"]


def _try_as_account(path: Path) -> None:
    """Run `monk --version` as the service's user: that shows every folder on the way, the Python behind the script, and
    all it imports. Raises InvalidInput."""
    environ = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(STATE), "LC_ALL": "C.UTF-8"}
    command = [str(path), "--version"]
    try:
        subprocess.run(
            command, user=ACCOUNT, group=ACCOUNT, extra_groups=[], cwd="/", env=environ, timeout=120, check=True,
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
    except OSError as exc:
        why = f"{exc.strerror}; its Python is {os.path.realpath(sys.executable)}"
        raise InvalidInput(f"{path} cannot be run by the user {ACCOUNT}: {why}; {_way_out()}", param="service") from exc
    except subprocess.CalledProcessError as exc:
        why = (exc.stderr.strip().splitlines() or [f"it ends with status {exc.returncode}"])[-1]
        raise InvalidInput(f"{path} cannot be run by the user {ACCOUNT}: {why}; {_way_out()}", param="service") from exc
    except subprocess.TimeoutExpired as exc:
        raise Unavailable(f"{path} --version did not answer within {exc.timeout:.0f} s; try it by hand") from exc


def _way_out() -> str:
    return "install it where every user may read it: python3 -m venv /opt/night-monk, then pip install night-monk there"


def _make_state() -> list[str]:
    if STATE.exists():
        return []
    STATE.mkdir(mode=0o700, parents=True)
    account = pwd.getpwnam(ACCOUNT)
    os.chown(STATE, account.pw_uid, account.pw_gid)
    return [f"made {STATE}, where jobs and reports are kept"]


# ── of an account ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _install_for_account(start: bool) -> list[str]:
    done = _write_unit(user=True) + _bring_up(user=True, start=start)
    name = getpass.getuser()
    if not Path("/var/lib/systemd/linger", name).exists():
        done.append(f"it stops when you log out, unless you say: sudo loginctl enable-linger {shlex.quote(name)}")
    return done


# ── both ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _unit_folder(user: bool) -> Path:
    if not user:
        return SYSTEM_UNITS
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"


def _write_unit(*, user: bool) -> list[str]:
    unit, text = _unit_folder(user) / UNIT, render(user)
    if unit.exists() and unit.read_text(encoding="utf-8", errors="replace") == text:
        return [f"{unit} is up to date"]
    write_whole(unit, text, 0o644)
    return [f"wrote {unit}"]


def _bring_up(*, user: bool, start: bool) -> list[str]:
    by_hand = shlex.join(["systemctl", *(["--user"] if user else []), "enable", "--now", ACCOUNT])
    if not _reachable(user):
        return [f"systemd cannot be reached from here, so nothing was started; once it can: {by_hand}"]
    _systemctl(user, "daemon-reload")
    if not start:
        return [f"not started; when you want it: {by_hand}"]
    _systemctl(user, "enable", UNIT)
    _systemctl(user, "restart", UNIT)  # starts it, or has a running one take up the new unit
    option = "--user " if user else ""
    return [
        f"enabled and started {UNIT}",
        f"look: systemctl {option}status {ACCOUNT}, journalctl {option}-u {ACCOUNT} -f",
    ]


def _reachable(user: bool) -> bool:
    """Whether a service manager answers here."""
    if not BOOTED.is_dir() or shutil.which("systemctl") is None:
        return False
    return not user or subprocess.run(["systemctl", "--user", "show-environment"], capture_output=True).returncode == 0


def _systemctl(user: bool, *words: str) -> None:
    run(["systemctl", *(["--user"] if user else []), *words])


def run(command: list[str]) -> None:
    """Raises Unavailable with what the program said, FileNotFoundError when there is none."""
    ended = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if ended.returncode != 0:
        said = " ".join(ended.stderr.split()) or f"status {ended.returncode}"
        raise Unavailable(f"`{shlex.join(command)}` failed: {said}")


def _systemd_version() -> int | None:
    """252, for example; None when there is no systemctl to ask."""
    if shutil.which("systemctl") is None:
        return None
    said = subprocess.run(["systemctl", "--version"], capture_output=True, text=True).stdout
    found = re.match(r"systemd (\d+)", said)
    return int(found[1]) if found else None


def _for_version(text: str, version: int | None) -> str:
    """Without the keys that this systemd does not know."""
    if version is None:
        return text
    unknown = tuple(f"{key}=" for key, since in NEWER_KEYS.items() if since > version)
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(unknown))


def template_folder(name: str) -> Path:
    """In a wheel beside this file; in a source tree beside the package."""
    here = Path(__file__).resolve().parent
    return here / name if (here / name).is_dir() else here.parent / name


def write_whole(path: Path, text: str, mode: int) -> None:
    """Replace a file in one step: whoever reads it sees the old one or the new one. Raises Unavailable."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, text, mode)
    except OSError as exc:
        raise Unavailable(f"{path} cannot be written: {exc.strerror}; check the owner and the mount") from exc


def _replace(path: Path, text: str, mode: int) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
