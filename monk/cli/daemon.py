"""`monk serve`: the daemon in the foreground. systemd starts it so, and so does anybody who wants to see it work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    home: Annotated[Path | None, typer.Option(help="Folder of all state.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; 0 picks a free one.")] = None,
    socket: Annotated[Path | None, typer.Option(help="Unix socket to listen on instead.")] = None,
) -> int:
    """Run the daemon in the foreground until Ctrl-C or SIGTERM.

    monk serve --port 8421
    """
    from monk.settings import load

    settings = load(home=home, host=host, port=port, socket=socket)  # first: a wrong setting is told at once
    from monk.daemon import serve as run

    return run(settings)
