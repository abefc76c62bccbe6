"""`monk demo`: a small real night, in minutes, on a home of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    home: Annotated[Path, typer.Option(help="Folder for its state; emptied first if an earlier demo made it.")] = Path(
        "build/demo"
    ),
) -> int:
    """Show a whole night in a few minutes.

    A real daemon on a home of its own, five jobs over HTTP, a real model, real documents, a real report.
    """
    from monk.demo import run

    return run(home)
