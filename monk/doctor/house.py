"""Programs, settings, home, disk and the night."""

from __future__ import annotations

import os
import platform
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from monk.doctor.finding import Finding, gib
from monk.settings import PREFIX, Settings

LEAST_DISK_BYTES = 1 << 30  # below this a night may not be able to save its tokens
GOOD_DISK_BYTES = 10 << 30
SHOWN = ("llama-cpp-python", "chromadb", "sentence-transformers", "sqlalchemy")


def programs(settings: Settings) -> Iterator[Finding]:
    """Versions, for whoever reads a report of a problem."""
    from monk import __version__

    told = [
        f"Night Monk {__version__}",
        f"Python {platform.python_version()}",
        *(f"{name} {_version(name)}" for name in SHOWN),
    ]
    yield Finding(
        "programs", "ok", ", ".join([*told, f"{platform.system()} {platform.release()} {platform.machine()}"])
    )


def settings_file(settings: Settings) -> Iterator[Finding]:
    """They were loaded, so they are valid; say where they came from."""
    file = settings.home / "monk.toml"
    variables = sorted(name for name in os.environ if name.startswith(PREFIX))
    where = [str(file)] if file.exists() else []
    where += [", ".join(variables)] if variables else []
    yield Finding("settings", "ok", f"from {' and '.join(where)}" if where else "all at their defaults")


def home(settings: Settings) -> Iterator[Finding]:
    """It exists, is ours, and can be written."""
    folder = settings.home
    if not folder.exists():
        yield _home_to_be(folder)
        return
    if not folder.is_dir():
        yield Finding("home", "fail", f"{folder} is not a folder", "move it away or set MONK_HOME")
        return
    owner = folder.stat().st_uid
    if owner != os.geteuid():
        name = _user(owner)
        yield Finding(
            "home",
            "warn",
            f"{folder} belongs to {name}, you are {_user(os.geteuid())}",
            f"run this as {name} (sudo -u {name} monk doctor), or chown the home",
        )
    yield _writable(folder)


def disk(settings: Settings) -> Iterator[Finding]:
    """Room for the home, and for the model's folder when that is another file system."""
    places = {"home": settings.home, **({"model": settings.model.parent} if settings.model else {})}
    seen: set[int] = set()
    for name, place in places.items():
        folder = _existing(place)
        device = folder.stat().st_dev
        if device in seen:
            continue
        seen.add(device)
        free = shutil.disk_usage(folder).free
        text = f"{gib(free)} free for the {name} ({place})"
        if free < LEAST_DISK_BYTES:
            yield Finding("disk", "fail", text, "free some space; a night writes tokens, backups and reports")
        else:
            yield Finding(
                "disk", "ok" if free >= GOOD_DISK_BYTES else "warn", text, "" if free >= GOOD_DISK_BYTES else "watch it"
            )


def night(settings: Settings) -> Iterator[Finding]:
    """The time zone has a name, and a night comes."""
    from monk.windows import Calendar

    now = datetime.now(UTC)
    calendar = Calendar.parse(settings.night, settings.night_days, settings.timezone)
    here = f"{now.astimezone(calendar.zone):%H:%M} in {calendar.zone.key}"
    if calendar.span(now) is not None:
        yield Finding("night", "ok", f"night now ({here}), window {settings.night}")
        return
    opens = calendar.next_open_at(now)
    if opens is None:
        yield Finding(
            "night",
            "warn",
            f"no night opens by itself: the window is {settings.night!r}",
            "set MONK_NIGHT, or use monk night --now",
        )
        return
    yield Finding(
        "night", "ok", f"day now ({here}); the next night opens {opens.astimezone(calendar.zone):%a %Y-%m-%d %H:%M}"
    )


def _home_to_be(folder: Path) -> Finding:
    parent = _existing(folder)
    if os.access(parent, os.W_OK):
        return Finding("home", "ok", f"{folder} does not exist yet; the daemon will make it")
    return Finding(
        "home",
        "fail",
        f"{folder} cannot be made: {parent} is not writable for you",
        "set MONK_HOME, or make it as root",
    )


def _writable(folder: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"x" * 4096)
            probe.flush()
    except OSError as exc:
        return Finding(
            "home",
            "fail",
            f"{folder} cannot be written: {exc.strerror}",
            "check its owner, mode and mount, or set MONK_HOME",
        )
    return Finding("home", "ok", f"{folder} can be written")


def _existing(place: Path) -> Path:
    """The place, or the nearest folder above it that exists."""
    return next(folder for folder in (place, *place.parents) if folder.exists())


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"
