"""`monk feedback`: whether an answer was useful, and what would have been right."""

from __future__ import annotations

from typing import Annotated

import typer

from monk.cli.jobs import AsJson, Id


def feedback(
    id_: Id,
    verdict: Annotated[str, typer.Argument(metavar="useful|wrong", help="What you think of its answer.")],
    correction: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What should have been answered, when it was wrong.")
    ] = None,
    correction_file: Annotated[
        str | None, typer.Option(metavar="FILE|-", help='The same from a file, or with "-" from stdin.')
    ] = None,
    note: Annotated[str | None, typer.Option(metavar="TEXT", help="Why, for people.")] = None,
    json: AsJson = False,
) -> None:
    """Say whether an answer was useful; adapters learn from it.

    Saying it again replaces what was said before.

    monk feedback last useful

    monk feedback last wrong --correction "The deposit is due within 30 days."
    """
    from monk.cli.jobs import resolve
    from monk.cli.session import connect
    from monk.cli.terminal import say, say_json, tell
    from monk.cli.views import verdict_words

    given = {"verdict": verdict, "correction": corrected(correction, correction_file), "note": note}
    with connect() as daemon:
        kept = daemon.post(f"/jobs/{resolve(daemon, id_)}/feedback", given)
    if json:
        say_json(kept)
        return
    say(f"{kept['job_id']} marked {verdict_words(kept)}")
    if not kept["trains"]:
        tell("no adapter can learn from it without --correction")


def corrected(text: str | None, file: str | None) -> str | None:
    """The correction, given in one of two ways; newlines at the end of a file are no part of it. Raises InvalidInput."""
    from monk.cli.files import text_of
    from monk.errors import InvalidInput

    if file is None:
        return text
    if text is not None:
        raise InvalidInput("--correction and --correction-file are too many; give one of them", param="correction")
    return text_of(file, "--correction-file").rstrip("\r\n")
