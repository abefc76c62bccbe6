"""`monk adapter`: the shelf of LoRA adapters in the home. Works on files, with or without a daemon, which looks at them anew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from monk.lora.shelf import Adapter, Shelf
    from monk.settings import Settings

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Home = Annotated[Path | None, typer.Option(help="Folder of all state.")]
Name = Annotated[str, typer.Argument(help="Its name on the shelf.")]


def add(
    name: Name,
    source: Annotated[
        str, typer.Argument(metavar="PATH", help="PEFT folder, GGUF file, or org/name[@revision] on a hub.")
    ],
    scale: Annotated[float, typer.Option(help="Strength with which it is worn.")] = 1.0,
    home: Home = None,
    json: AsJson = False,
) -> None:
    """Check an adapter against the model and put it on the shelf.

    Only safetensors and GGUF are opened. What does not fit the model is refused, with both sides named.

    monk adapter add lawyer ./lawyer-lora --scale 0.8
    """
    from datetime import UTC, datetime
    from tempfile import TemporaryDirectory

    from monk.cli.terminal import say, say_json
    from monk.lora import hub
    from monk.lora.shelf import check_name, check_scale
    from monk.settings import load

    settings = load(home=home)
    check_name(name)  # before hundreds of megabytes are fetched
    check_scale(scale)
    with TemporaryDirectory(prefix="night-monk-") as aside:
        path = hub.fetch(source, Path(aside)) if hub.is_repository(source) else Path(source)
        adapter = _shelf(settings).add(name, path, _model(settings), datetime.now(UTC), scale, told=source)
    if json:
        say_json(_view(adapter))
    else:
        say(
            f"{adapter.name}: {adapter.architecture}, {_ranks(adapter)}, {adapter.num_bytes / 1e6:.1f} MB, scale {scale:g}"
        )


def list_(home: Home = None, json: AsJson = False) -> None:
    """List the adapters on the shelf."""
    from monk.cli.moments import shown
    from monk.cli.terminal import say, say_json, say_table, tell
    from monk.settings import load

    shelf = _shelf(load(home=home))
    found, problems = shelf.listing(), shelf.problems()
    if json:
        say_json({"adapters": [_view(adapter) for adapter in found], "problems": problems})
        return
    if not found:
        say("no adapters; `monk adapter add` puts one on the shelf")
    else:
        rows = [
            (
                one.name,
                one.architecture,
                _ranks(one),
                f"{one.scale:g}",
                f"{one.num_bytes / 1e6:.1f}",
                shown(one.added_at),
                one.source,
            )
            for one in found
        ]
        say_table(("name", "rank", "scale", "MB", "added", "from"), rows, may_shrink="from")
    for problem in problems:
        tell(problem)


def show(name: Name, home: Home = None, json: AsJson = False) -> None:
    """Show what is known of one adapter."""
    from monk.cli.terminal import one_line, say, say_json
    from monk.settings import load

    view = _view(_shelf(load(home=home)).get(name))
    if json:
        say_json(view)
        return
    for key, value in view.items():
        say(f"{key:<13}{one_line(str(value))}")


def remove(name: Name, home: Home = None, json: AsJson = False) -> None:
    """Take an adapter off the shelf. Jobs that still want it will fail and say so."""
    from monk.cli.terminal import say, say_json
    from monk.settings import load

    removed = _shelf(load(home=home)).remove(name)
    if json:
        say_json(_view(removed))
    else:
        say(f"removed {name}")


def _shelf(settings: Settings) -> Shelf:
    from monk.lora.shelf import Shelf

    return Shelf(settings.home / "adapters")


def _model(settings: Settings) -> Path:
    from monk.engine import embedded

    return settings.model or embedded.model_path()


def _ranks(adapter: Adapter) -> str:
    return "rank " + ", ".join(str(rank) for rank in adapter.ranks)


def _view(adapter: Adapter) -> dict[str, object]:
    from dataclasses import asdict

    return {**asdict(adapter), "ranks": list(adapter.ranks)}
