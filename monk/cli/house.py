"""`monk doctor`, `backup`, `restore`: the house itself. They work on the home's files, with or without a daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Home = Annotated[Path | None, typer.Option(help="Folder of all state.")]


def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Do not start the engine.")] = False,
    settings: Annotated[
        bool, typer.Option("--settings", help="Print every setting, its value and where it is from.")
    ] = False,
    home: Home = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Check that all is in order; say what to do where not.

    Settings, model, memory, disk, corpus, port, time zone, kinds; without --quick also the engine itself.

    monk doctor --quick
    """
    from monk.cli.findings import say_findings, say_settings
    from monk.settings import load

    if settings:
        say_settings(home, json)
        return 0
    from monk.doctor import examine

    return say_findings(examine(load(home=home), quick=quick), json)


def backup(
    file: Annotated[Path, typer.Argument(help="The copy; it must not exist yet.")],
    home: Home = None,
) -> None:
    """Copy the database to a file, also while the daemon runs.

    It holds everything that cannot be computed again: jobs, answers, saved tokens, reports. Back up monk.toml, jobs/
    and your documents as any other file.
    """
    from monk.cli.terminal import say
    from monk.errors import HomeUnusable
    from monk.settings import load

    source = load(home=home).home / "monk.sqlite"
    if not source.is_file():
        raise HomeUnusable(f"{source} does not exist; set MONK_HOME to the daemon's home", param="home")
    from db.database import Database

    database = Database(source)
    try:
        database.backup(file.absolute())
    except OSError as exc:
        raise HomeUnusable(f"{file} cannot be written: {exc.strerror}; choose another place") from exc
    finally:
        database.close()
    say(f"{file}: {file.stat().st_size / 1e6:.1f} MB")


def restore(
    file: Annotated[Path, typer.Argument(help="A copy made by `monk backup`.")],
    home: Home = None,
) -> None:
    """Put a copy of the database back; stop the daemon first.

    The present database is kept aside. A file that is no whole copy is refused.
    """
    from monk.cli.restoring import put_back
    from monk.cli.terminal import say
    from monk.settings import load

    aside = put_back(file.absolute(), load(home=home).home)
    say(f"restored from {file}")
    if aside is not None:
        say(f"the database that was there is {aside}")
