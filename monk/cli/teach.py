"""`monk adapter train` and `rollback`: adapters that the night makes, and their versions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from monk.cli.adapter import AsJson, Home, Name

SOURCES = "give FILE, --feedback or --corpus N"


def train(
    name: Name,
    file: Annotated[
        str | None, typer.Argument(metavar="FILE|-", help="JSONL: conversations, or prompts and completions.")
    ] = None,
    feedback: Annotated[
        bool, typer.Option("--feedback", help="Also from answers that were marked useful or corrected.")
    ] = False,
    corpus: Annotated[
        int, typer.Option(min=0, metavar="N", help="Also from questions it writes on N passages of the corpus.")
    ] = 0,
    rubric: Annotated[str | None, typer.Option(metavar="TEXT", help="A rule that answers must meet.")] = None,
    base: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The same model in safetensors, where the GGUF cannot be read."),
    ] = None,
    rank: Annotated[int, typer.Option(min=0, metavar="N", help="Rank of the factors; 0: 16.")] = 0,
    learning_rate: Annotated[float, typer.Option(min=0.0, metavar="X", help="0: 0.0003.")] = 0.0,
    epochs: Annotated[int, typer.Option(min=0, metavar="N", help="0: by number of examples and night.")] = 0,
    steps: Annotated[int, typer.Option(min=0, metavar="N", help="Instead of epochs.")] = 0,
    seed: Annotated[int | None, typer.Option(metavar="N", help="The same seed gives the same adapter.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.0, metavar="N", help="Budget: minutes to train.")] = None,
    priority: Annotated[int | None, typer.Option(min=-100, max=100, metavar="N", help="Higher runs first.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Watch it, and print its verdict. Ctrl-C stops watching.")
    ] = False,
    json: AsJson = False,
) -> int:
    """Submit a training; it runs at night, and what it makes is worn only if it proves better.

    monk adapter train lawyer examples.jsonl

    monk adapter train lawyer --feedback --corpus 200
    """
    from monk.cli.handing_in import hand_in
    from monk.errors import InvalidInput

    if not (file or feedback or corpus):
        raise InvalidInput(f"nothing to learn from; {SOURCES}")
    input_: dict[str, Any] = {
        "adapter": name,
        "examples": _examples(file) if file else [],
        "feedback": feedback,
        "corpus": corpus,
        "rubric": rubric,
        "base": None if base is None else str(base.absolute()),
        "rank": rank,
        "learning_rate": learning_rate,
        "epochs": epochs,
        "steps": steps,
    }
    job: dict[str, Any] = {"kind": "train", "input": input_, "seed": seed, "priority": priority}
    job["budget"] = None if minutes is None else {"minutes": minutes}
    return hand_in({key: value for key, value in job.items() if value is not None}, wait=wait, live=True, json=json)


def _examples(file: str) -> list[dict[str, Any]]:
    """The rows of a JSONL file or of stdin, each checked. Raises InvalidInput."""
    from jobs.examples import read_lines
    from jobs.train import MOST_INLINE
    from monk.cli.files import text_of
    from monk.errors import InvalidInput

    found = read_lines(text_of(file, "FILE"), file)
    if len(found) > MOST_INLINE:
        raise InvalidInput(
            f"{file} holds {len(found)} examples; more than {MOST_INLINE} go into the inbox of the home: "
            'monk submit --kind train --input \'{"adapter": ..., "file": ...}\''
        )
    return [
        {"messages": [*({"role": r, "content": t} for r, t in one.turns), {"role": "assistant", "content": one.answer}]}
        for one in found
    ]


def rollback(
    name: Name,
    to: Annotated[
        int | None, typer.Option("--to", min=0, metavar="N", help="This version; else the one before.")
    ] = None,
    home: Home = None,
    json: AsJson = False,
) -> None:
    """Wear an earlier version of a trained adapter again, or any other with --to.

    monk adapter rollback lawyer
    """
    from monk.cli.adapter import _shelf, _view
    from monk.cli.terminal import say, say_json
    from monk.settings import load

    adapter = _shelf(load(home=home)).rollback(name, to)
    if json:
        say_json(_view(adapter))
    else:
        say(f"{name} is version {adapter.version} from now on, {adapter.added_at}, {adapter.source}")
