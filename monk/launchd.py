"""Puts Night Monk under launchd, on a Mac: as an agent of one account, or as a daemon of the machine that runs as one account.

The property list comes from `launchd/`, where each key has its reason; here only paths and account are filled in.
"""

from __future__ import annotations

import os
import plistlib
import pwd
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from monk.errors import InvalidInput, NotFound, Unavailable
from monk.service import program, run, template_folder, write_whole
from monk.settings import load

LABEL = "org.night-monk"
DAEMONS = Path("/Library/LaunchDaemons")


@dataclass(frozen=True, slots=True)
class Place:
    """Whose service it is, and where launchd looks for it."""

    account: pwd.struct_passwd
    file: Path
    domain: str  # of launchctl
    home: Path
    user: bool

    @property
    def target(self) -> str:
        return f"{self.domain}/{LABEL}"


def install(user: bool, start: bool) -> list[str]:
    """Write the property list, load it and start it (or again, in this version). Returns what was done, a line each.

    Raises InvalidInput when rights are missing, Unavailable when launchd refuses.
    """
    place = _place(user, "install")
    done = _make_home(place)
    text = render(place)
    if place.file.exists() and place.file.read_text(encoding="utf-8", errors="replace") == text:
        done.append(f"{place.file} is up to date")
    else:
        write_whole(place.file, text, 0o644)
        done.append(f"wrote {place.file}")
    return done + _bring_up(place, start)


def uninstall(user: bool) -> list[str]:
    """Stop it and remove the property list; the home stays. Raises InvalidInput, NotFound, Unavailable."""
    place = _place(user, "uninstall")
    if not place.file.exists():
        raise NotFound(f"there is no {place.file}; nothing was changed", param="service")
    if _is_loaded(place):
        run(["launchctl", "bootout", place.target])
    place.file.unlink()
    return [f"stopped the service and removed {place.file}", f"its home {place.home} with all jobs and reports stays"]


def render(place: Place) -> str:
    """The property list. Raises InvalidInput when `monk` is not installed, or for a path that no property list can hold."""
    text = (template_folder("launchd") / f"{LABEL}.plist").read_text(encoding="utf-8")
    if place.user:
        text = _without_user(text)
    words = {"monk": str(program()), "home": str(place.home), "user": place.account.pw_name}
    for name, value in words.items():
        text = text.replace(f"{{{name}}}", escape(value))
    try:
        plistlib.loads(text.encode("utf-8"))
    except Exception as exc:  # expat's own errors: a control character in a path
        raise InvalidInput(f"{words['monk']} or {words['home']} cannot stand in a property list: {exc}") from exc
    return text


def _without_user(text: str) -> str:
    """An agent runs as the account whose it is, and must name none."""
    first = text.index("  <!-- For a service of the machine")
    end = text.index("<string>{user}</string>\n\n") + len("<string>{user}</string>\n\n")
    return text[:first] + text[end:]


def _place(user: bool, verb: str) -> Place:
    if user:
        account = pwd.getpwuid(os.getuid())
        file = Path.home() / "Library" / "LaunchAgents" / f"{LABEL}.plist"
        return Place(account, file, f"gui/{account.pw_uid}", load().home, True)
    name = os.environ.get("SUDO_USER", "")
    if os.geteuid() != 0 or not name or name == "root":
        raise InvalidInput(
            f"a service of the machine needs root, and an account to run as: from that account, sudo "
            f"{shlex.quote(str(program()))} service {verb}   (or --user, which starts it at your login)",
            param="service",
        )
    account = pwd.getpwnam(name)
    home = load(home=os.environ.get("MONK_HOME") or Path(account.pw_dir) / ".local" / "share" / "night-monk").home
    return Place(account, DAEMONS / f"{LABEL}.plist", "system", home, False)


def _make_home(place: Place) -> list[str]:
    """launchd opens the log in it before the program runs."""
    if place.home.exists():
        return []
    missing = [folder for folder in (place.home, *place.home.parents) if not folder.exists()]
    place.home.mkdir(mode=0o700, parents=True)
    if not place.user:
        for folder in missing:
            os.chown(folder, place.account.pw_uid, place.account.pw_gid)
    return [f"made {place.home}, where jobs and reports are kept"]


def _bring_up(place: Place, start: bool) -> list[str]:
    by_hand = shlex.join(["launchctl", "bootstrap", place.domain, str(place.file)])
    if shutil.which("launchctl") is None:
        return [f"launchd cannot be reached from here, so nothing was started; once it can: {by_hand}"]
    if not start:
        return [f"not started; when you want it: {by_hand}"]
    if _is_loaded(place):
        run(["launchctl", "bootout", place.target])  # the old list would stay in force
    run(["launchctl", "enable", place.target])
    try:
        run(["launchctl", "bootstrap", place.domain, str(place.file)])
    except Unavailable as exc:
        raise Unavailable(f"{exc.message}; by hand: {by_hand}") from exc
    return [
        f"loaded and started {LABEL}",
        f"look: launchctl print {place.target}, tail -f {shlex.quote(str(place.home / 'night-monk.log'))}",
        "a Mac that sleeps thinks nothing: sudo pmset -a sleep 0 (or a wake by the clock: man pmset)",
    ]


def _is_loaded(place: Place) -> bool:
    if shutil.which("launchctl") is None:
        return False
    return subprocess.run(["launchctl", "print", place.target], capture_output=True).returncode == 0
