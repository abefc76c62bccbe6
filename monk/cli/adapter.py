"""`monk adapter`: the shelf of LoRA adapters in the home. Works on files, with or without a daemon, which looks at them anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from monk.lora.merge import Merged
    from monk.lora.shelf import Adapter, Shelf
    from monk.settings import Settings

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Home = Annotated[Path | None, typer.Option(help="Folder of all state.")]
Name = Annotated[str, typer.Argument(help="Its name on the shelf.")]
WORTH_A_WORD = 0.1  # of a change, lost by rounding
Force = Annotated[bool, typer.Option("--force", help="Write over what is there.")]


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
                str(one.version) if one.version else "",
                one.architecture,
                _ranks(one),
                f"{one.scale:g}",
                f"{one.num_bytes / 1e6:.1f}",
                shown(one.added_at),
                one.source,
            )
            for one in found
        ]
        say_table(("name", "version", "architecture", "rank", "scale", "MB", "added", "from"), rows, may_shrink="from")
    for problem in problems:
        tell(problem)


def show(name: Name, home: Home = None, json: AsJson = False) -> None:
    """Show what is known of one adapter, and the versions that were trained under its name."""
    from monk.cli.terminal import one_line, say, say_json
    from monk.settings import load

    shelf = _shelf(load(home=home))
    adapter, versions = shelf.get(name), shelf.versions(name)
    if json:
        say_json({**_view(adapter), "versions": [_view(one) for one in versions]})
        return
    for key, value in _view(adapter).items():
        if key != "verdict":
            say(f"{key:<13}{one_line(str(value))}")
    for one in versions:
        worn = ", in use" if one.version == adapter.version else ""
        say(f"version {one.version:<5}{one.added_at}, {_judged(one)}{worn}")


def remove(name: Name, home: Home = None, json: AsJson = False) -> None:
    """Take an adapter off the shelf. Jobs that still want it will fail and say so."""
    from monk.cli.terminal import say, say_json
    from monk.settings import load

    removed = _shelf(load(home=home)).remove(name)
    if json:
        say_json(_view(removed))
    else:
        say(f"removed {name}")


def export(
    name: Name,
    path: Annotated[Path, typer.Argument(help="The file to write, or for peft the folder.")],
    format_: Annotated[Literal["gguf", "peft"], typer.Option("--format", help="For llama.cpp, or for PyTorch.")],
    type_: Annotated[Literal["f32", "f16"], typer.Option("--type", help="Of the numbers in it.")] = "f32",
    force: Force = False,
    home: Home = None,
    json: AsJson = False,
) -> None:
    """Write an adapter as a file or folder for other programs.

    A GGUF file is for llama.cpp, a PEFT folder for PyTorch, with the names of the model in use. The strength is that of
    training; the scale it is worn with here is not in it.

    monk adapter export lawyer lawyer.gguf --format gguf
    """
    from dataclasses import replace

    from monk.cli.terminal import say, say_json
    from monk.engine import gguf_file
    from monk.lora.export import write_gguf, write_peft
    from monk.lora.gguf_adapter import read_kept
    from monk.settings import load

    settings = load(home=home)
    shelf = _shelf(settings)
    adapter = shelf.get(name)
    lora = replace(read_kept(shelf.weights(adapter), adapter.sha256), base_model=adapter.base_model)
    if format_ == "gguf":
        write_gguf(lora, path, type_, force=force)
    else:
        write_peft(lora, gguf_file.read(_model(settings)), path, type_, force=force)
    size = sum(file.stat().st_size for file in ([path] if path.is_file() else path.iterdir()))
    if json:
        say_json({"file": str(path), "format": format_, "type": type_, "num_bytes": size, "adapter": _view(adapter)})
    else:
        say(f"{path}: {size / 1e6:.1f} MB")


def merge(
    name: Annotated[str, typer.Argument(help="Of one or several: lawyer, lawyer:0.8, lawyer:0.8+poet:0.5.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The GGUF file to write.")],
    scale: Annotated[
        float | None, typer.Option(help="Strength of one adapter; without it, the one it is worn with.")
    ] = None,
    type_: Annotated[
        Literal["as-is", "F16", "Q8_0", "Q4_0"], typer.Option("--type", help="Of the weights in the new model.")
    ] = "as-is",
    model: Annotated[Path | None, typer.Option(help="Model to merge into; without it, the one in use.")] = None,
    force: Force = False,
    home: Home = None,
    json: AsJson = False,
) -> None:
    """Work adapters into a copy of the model.

    It is for programs that wear none. What no adapter changes is copied as it is; a changed weight is rounded to its own
    type again, which with four bits can cost most of a small change: say --type, or merge into a model of more bits.

    monk adapter merge lawyer lawyer-model.gguf --type Q8_0
    """
    from monk.cli.terminal import say, say_json
    from monk.engine import gguf_file
    from monk.lora import merge as merging
    from monk.lora.gguf_adapter import read_kept
    from monk.lora.wear import choose
    from monk.settings import load

    settings = load(home=home)
    shelf = _shelf(settings)
    worn = choose(_with_scale(name, scale), shelf)
    base = gguf_file.read(model or _model(settings))
    label = "+".join(each.name if each.scale == 1 else f"{each.name}:{each.scale:g}" for each in worn)
    with _watched(f"reading {base.path.name}") as told:
        loras = [(read_kept(shelf.weights(each), each.sha256), each.scale) for each in worn]
        done = merging.merge(base, loras, out, label, type_, force=force, told=told)
    if json:
        adapters = [{"name": each.name, "sha256": each.sha256, "scale": each.scale} for each in worn]
        say_json({**_merged_view(done), "type": type_, "model": str(base.path), "adapters": adapters})
    else:
        for line in _merged_lines(done, label):
            say(line)


def _with_scale(name: str, scale: float | None) -> str:
    from monk.errors import InvalidInput

    if scale is None:
        return name
    if ":" in name or "+" in name:
        raise InvalidInput(f"--scale is for one adapter; {name[:200]!r} says its scales itself", param="scale")
    return f"{name}:{scale!r}"


def _merged_lines(done: Merged, label: str) -> Iterator[str]:
    yield f"{done.file}: {label} in {done.num_changed} of {done.num_tensors} tensors, {done.num_bytes / 1e6:.1f} MB"
    for kind, count in done.widened.items():
        yield f"{count} of them were {kind}, which cannot be written, and are F16 now"
    if done.rounding is not None and done.rounding > WORTH_A_WORD:
        yield f"rounding adds {done.rounding:.2f} of the change to it; --type F16 or Q8_0 would keep more"


def _merged_view(done: Merged) -> dict[str, object]:
    from dataclasses import asdict

    return {**asdict(done), "file": str(done.file)}


@contextmanager
def _watched(first: str) -> Iterator[Callable[[str], None]]:
    """A line on stderr that tells how far it is, for a person who watches; silence for all others."""
    from monk.cli.terminal import console

    out = console(stderr=True)
    if not out.is_terminal:
        yield lambda _text: None
        return
    with out.status(first) as status:
        yield status.update


def _shelf(settings: Settings) -> Shelf:
    from monk.lora.shelf import Shelf

    return Shelf(settings.home / "adapters")


def _model(settings: Settings) -> Path:
    from monk.engine import embedded

    return settings.model or embedded.model_path()


def _ranks(adapter: Adapter) -> str:
    return "rank " + ", ".join(str(rank) for rank in adapter.ranks)


def _judged(adapter: Adapter) -> str:
    """What the gate said, in a few words."""
    if adapter.verdict is None:
        return "not judged" if adapter.version else "added by hand"
    return (
        "passed the gate" if adapter.verdict.get("passed") else "; ".join(adapter.verdict.get("reasons") or ["refused"])
    )


def _view(adapter: Adapter) -> dict[str, object]:
    from dataclasses import asdict

    return {**asdict(adapter), "ranks": list(adapter.ranks)}
