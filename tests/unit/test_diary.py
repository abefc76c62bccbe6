"""What happens to the engine is written down for the report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from db.database import Database
from db.events import Events
from db.reporting import Reporting, Window
from monk.diary import EngineDiary
from monk.engine.client import EngineClient, EngineStatus, KvFigures
from monk.services import utc_now

IDLE = EngineStatus("ready", 7, None, 0, None, 0, 0, 1 << 20, 0, 0, 0.0, 0.0, 0.0)


class Told:
    """An engine whose status is set by hand."""

    def __init__(self) -> None:
        self.now = IDLE

    def status(self) -> EngineStatus:
        return self.now


def notes(database: Database) -> list[dict[str, Any]]:
    seen = Reporting(database).look(Window())
    return [event.data for event in seen.events if event.type == "engine" and event.data["what"] == "spared"]


def diary_of(engine: Told, database: Database) -> EngineDiary:
    return EngineDiary(cast(EngineClient, engine), Events(database), utc_now)


def test_what_was_spared_is_noted_once_when_the_engine_has_nothing_to_do(database: Database) -> None:
    engine = Told()
    diary = diary_of(engine, database)
    engine.now = replace(IDLE, shared_tokens=300, kv=KvFigures(hits=2, tokens_restored=2048, seconds_saved=9.5))

    diary.look()
    diary.look()

    (note,) = notes(database)
    assert (note["restored_blocks"], note["restored_tokens"], note["saved_seconds"]) == (2, 2048, 9.5)
    assert note["shared_tokens"] == 300


def test_while_it_works_a_note_waits_unless_a_report_is_made(database: Database) -> None:
    engine = Told()
    diary = diary_of(engine, database)
    engine.now = replace(IDLE, active=3, forked_tokens=100)
    diary.look()
    assert notes(database) == []

    diary.look(last=True)
    engine.now = replace(engine.now, forked_tokens=250)
    diary.look(last=True)

    assert [note["forked_tokens"] for note in notes(database)] == [100, 150]
