"""`monk tune`: measures how the model runs best on this host, shows it, and keeps it for the engine."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from monk.engine.config import EngineConfig
    from monk.engine.gguf_file import GgufFile
    from monk.engine.tuning.formats import Format
    from monk.engine.tuning.record import Record
    from monk.engine.tuning.tuner import Tuned
    from monk.settings import Settings

BUSY_PERCENT = 20.0  # of the time others wait for the processor: worth a word


def tune(
    minutes: Annotated[float, typer.Option(min=0.05, max=600.0, help="Time to measure, loading not counted.")] = 3.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be chosen, keep nothing.")] = False,
    keep_kv: Annotated[
        bool, typer.Option("--keep-kv", help="Do not choose what makes the KV on the disk useless.")
    ] = False,
    formats: Annotated[
        bool, typer.Option("--formats", help="Write copies of the model in other weight formats, and measure them too.")
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Show what was measured before; measure nothing.")] = False,
    forget: Annotated[bool, typer.Option("--forget", help="Forget what was measured for this model here.")] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="Also beside a daemon whose engine is loaded.")] = False,
    home: Annotated[Path | None, typer.Option(help="Folder of all state.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure how the model runs best here, and keep it so.

    Flash attention, threads for each phase, chunk, batch width, KV types. Settings of your own stay as they are; the
    engine fills the others in when it loads the model next.

    monk tune --dry-run
    """
    from monk.daemon import engine_config
    from monk.engine.fingerprint import sha256_of
    from monk.engine.gguf_file import read
    from monk.engine.tuning import record
    from monk.errors import InvalidInput, NotFound
    from monk.settings import load

    if sum((dry_run, show, forget)) > 1:
        raise InvalidInput("--dry-run, --show and --forget say different things; give one of them")
    settings = load(home=home)
    config = engine_config(settings)
    file = read(config.model_path)
    sha256 = config.model_sha256 or sha256_of(file.parts, config.hash_cache)
    if forget:
        _say_forgotten(record.forget(config, sha256), json)
        return
    if show:
        known = record.find(config, sha256)
        if known is None:
            raise NotFound("nothing was measured for this model with these settings on this host; run `monk tune`")
        _say_record(known, json)
        return
    if not anyway:
        _refuse_beside_engine(settings)
    done, others = _measure(config, file, sha256, minutes * 60.0, keep_kv, formats, settings.home / "models")
    kept_at = None if dry_run or not done.record.values else record.keep(config, done.record)
    if json:
        _say_json(done, others, kept_at)
    else:
        _say_done(done, others, config, kept_at)


def _refuse_beside_engine(settings: Settings) -> None:
    from monk.client import Client
    from monk.errors import Conflict, MonkError

    try:
        with Client(settings) as daemon:
            state = daemon.get("/status")["engine"]["state"]
    except MonkError:  # there is none, or it is another's: nothing of it can be asked
        return
    if state != "off" and state != "failed":
        raise Conflict(
            f"the daemon's engine is {state}, and beside it nothing can be measured; close the night first "
            "(`monk night --close`), or say --anyway"
        )


def _measure(
    config: EngineConfig,
    file: GgufFile,
    sha256: str,
    seconds: float,
    keep_kv: bool,
    formats: bool,
    folder: Path,
) -> tuple[Tuned, list[Format]]:
    from monk.engine.tuning.formats import compare
    from monk.engine.tuning.tuner import tune as measured

    _warn_if_busy()
    with _progress() as told:
        done = measured(config, file, sha256, seconds, keeps_kv=keep_kv, told=told)
        others = compare(config, file, done.choice.setting, folder, seconds / 2, told) if formats else []
    return done, others


def _warn_if_busy() -> None:
    from monk.cli.terminal import tell
    from monk.pressure import read_pressure

    waiting = read_pressure().get("cpu", 0.0)
    if waiting > BUSY_PERCENT:
        tell(
            f"others wait for the processor {waiting:.0f} % of the time: what is measured now holds for a busy machine"
        )


def _progress() -> AbstractContextManager[Callable[[dict[str, Any]], None]]:
    """A line that tells what is measured, for a person who watches; silence for all others."""
    from monk.cli.terminal import console

    out = console(stderr=True)
    if not out.is_terminal:
        return nullcontext(lambda _frame: None)
    return _Watching(out)


class _Watching(AbstractContextManager["Callable[[dict[str, Any]], None]"]):
    def __init__(self, out: Any) -> None:
        self._status = out.status("loading the model")

    def __enter__(self) -> Callable[[dict[str, Any]], None]:
        self._status.__enter__()
        return self._told

    def __exit__(self, *exc: object) -> None:
        self._status.__exit__(*exc)

    def _told(self, frame: dict[str, Any]) -> None:
        if frame["event"] == "trying":
            trial = frame["trial"]
            flash = "on" if trial["flash"] else "off"
            self._status.update(
                f"{trial['phase']} of {trial['rows']} behind {trial['depth']} tokens, flash attention {flash}, "
                f"{trial['threads']} threads"
            )
        elif frame["event"] == "writing":
            self._status.update(f"writing {frame['file']}")


def _say_forgotten(was_there: bool, json: bool) -> None:
    from monk.cli.terminal import say, say_json

    if json:
        say_json({"forgotten": was_there})
    else:
        say("forgotten; the next start measures anew" if was_there else "there was nothing to forget")


def _say_record(known: Record, json: bool) -> None:
    from monk.cli.terminal import say, say_json, say_table
    from monk.engine.tuning import table

    if json:
        say_json(known.to_json())
        return
    say_table(table.HEADERS, [table.cells(row) for row in known.report])
    say(f"measured {known.measured_at} in {known.seconds:g} s{' by a first start' if known.by_itself else ''}")
    say(f"chosen: {table.summary(known.values)}" if known.values else f"it failed: {known.problem}")
    say(table.gains(known.gain.get("prompts"), known.gain.get("answers")))


def _say_json(done: Tuned, others: list[Format], kept_at: Path | None) -> None:
    from monk.cli.terminal import say_json

    say_json(
        {
            **done.record.to_json(),
            "notes": done.notes,
            "changes_kv": done.changes_kv,
            "formats": [{**asdict(one), "file": str(one.file) if one.file else None} for one in others],
            "kept": str(kept_at) if kept_at else None,
        }
    )


def _say_done(done: Tuned, others: list[Format], config: EngineConfig, kept_at: Path | None) -> None:
    from monk.cli.terminal import say, say_table
    from monk.engine.tuning import table
    from monk.engine.tuning.record import gaps

    say_table(table.HEADERS, [table.cells(row) for row in done.record.report])
    for note in done.notes:
        say(note)
    if others:
        _say_formats(others)
    say(f"chosen: {table.summary(done.record.values)}" if done.record.values else f"it failed: {done.record.problem}")
    say(table.gains(done.choice.prompt_gain, done.choice.answer_gain))
    if kept_at is not None:
        filled = table.summary(gaps(config, done.record.values)) or "nothing, as your settings say all"
        say(f"kept in {kept_at}; from the next loading of the model on it fills in: {filled}")


def _say_formats(others: list[Format]) -> None:
    from monk.cli.terminal import say, say_table

    def rate(value: float | None) -> str:
        return "" if value is None else f"{value:.1f} tok/s"

    say()
    say_table(
        ("weights", "prompts", "answers", "gain", "verdict"),
        [
            (one.name, rate(one.prompts), rate(one.answers), "" if one.gain is None else f"x{one.gain:.2f}", one.says)
            for one in others
        ],
    )
    for one in others:
        if one.file is not None:
            say(f"to use it: MONK_MODEL={one.file} (KV on the disk is of no use to it)")
