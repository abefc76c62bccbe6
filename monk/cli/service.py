"""`monk service`: the systemd unit (on a Mac, launchd's property list), in or out."""

from __future__ import annotations

from typing import Annotated

import typer

User = Annotated[bool, typer.Option("--user", help="For your own account, without root.")]


def install(
    user: User = False,
    start: Annotated[bool, typer.Option("--start/--no-start", help="Enable and start it at once.")] = True,
) -> None:
    """Write the systemd unit (on a Mac, launchd's list) and start it.

    sudo /opt/night-monk/bin/monk service install
    """
    from monk.cli.terminal import say
    from monk.service import install as install_unit

    for line in install_unit(user=user, start=start):
        say(line)


def uninstall(user: User = False) -> None:
    """Stop the service and remove its unit.

    The home with all jobs and reports stays.
    """
    from monk.cli.terminal import say
    from monk.service import uninstall as uninstall_unit

    for line in uninstall_unit(user=user):
        say(line)
