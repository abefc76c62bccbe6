"""The daemon: puts the parts together, runs them, and takes them apart in the order in which nothing is lost.

    serve: home, lock ─▶ database (backup, migrate, recover) ─▶ parts ─▶ HTTP answers ─▶ systemd is told ─▶ night and readers
    stop:  no new claims ─▶ thoughts saved and paused ─▶ engine ends ─▶ readers, clocks ─▶ HTTP ─▶ database

`/health` answers before the model is loaded: the model is only loaded when a night opens.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from corpus.config import CorpusConfig
from corpus.library import Library
from corpus.recognition import Recognition
from db.database import Database
from db.events import Events
from db.feedback import Feedback
from db.outlook import Outlook
from db.queue import Queue
from db.records import Facts, Nights, Reports, Schedules
from db.steps import Steps
from jobs.prompts import Prompts
from jobs.registry import Kinds
from monk import __version__
from monk.alarms import Alarms
from monk.benching import Yard
from monk.diary import EngineDiary
from monk.engine import embedded
from monk.engine.config import EngineConfig
from monk.engine.process import EngineProcess
from monk.engine.template import ChatTemplate
from monk.errors import NotFound
from monk.forecast import Forecast
from monk.lock import lock_home, prepare_home
from monk.logs import setup as setup_logs
from monk.lora.shelf import Shelf
from monk.lora.training.room import Room
from monk.model_check import ModelCheck
from monk.night import Calendar, Night
from monk.notify import Notifier, WatchdogFeeder
from monk.pressure import PressureWatch
from monk.pulse import answers
from monk.reach.house import HouseReach
from monk.reach.record import Reaches
from monk.reach.warnings import Foresight
from monk.reading import Reader
from monk.report import MorningReporter
from monk.run import Tools
from monk.schedules import Clockwork
from monk.scribe import Scribe
from monk.services import Services, utc_now
from monk.settings import Settings
from monk.thinking import Thinker
from monk.turns import Turns
from monk.watching import Watcher
from monk.workers import Workers

if TYPE_CHECKING:
    from corpus.embedding import EmbeddingModel
    from monk.api.server import ApiServer
    from monk.engine.client import EngineClient

logger = logging.getLogger(__name__)
STATUS_SECONDS = 5.0  # how often systemd's status line is renewed
SILENT_SECONDS = 60.0  # a loop without a beat for this long hangs


@dataclass(frozen=True)
class Daemon:
    """All parts, assembled and not yet running."""

    services: Services
    workers: Workers
    scribe: Scribe
    reader: Reader
    alarms: Alarms
    night: Night
    clockwork: Clockwork
    turns: Turns
    diary: EngineDiary
    pressure: PressureWatch
    watcher: Watcher | None


def serve(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; the exit status. Raises HomeUnusable, SettingsInvalid before anything is started."""
    setup_logs(settings.log_level)
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    prepare_home(settings.home)
    lock = lock_home(settings.home)
    try:
        database = Database(settings.home / "monk.sqlite")
        try:
            _run(settings, database, asked)
        finally:
            database.close()
    finally:
        os.close(lock)
    return 0


def _run(settings: Settings, database: Database, asked: threading.Event) -> None:
    from monk.api import create_app  # late: the home and the database are checked before the web framework is loaded
    from monk.api.server import ApiServer

    daemon = assemble(settings, database)
    server = ApiServer(create_app(daemon.services), settings)
    server.start()
    notifier = Notifier()
    feeder = WatchdogFeeder(notifier, _life_signs(daemon, server))
    try:
        start(daemon)
        notifier.ready()
        feeder.start()
        logger.info("ready", extra={"version": __version__, "address": server.address, "home": str(settings.home)})
        while not asked.wait(STATUS_SECONDS):
            daemon.diary.look()
            notifier.status(status_line(daemon))
    finally:
        notifier.stopping()
        stop(daemon, settings.stop_seconds)
        feeder.stop()
        server.stop(2.0)
        logger.info("stopped")


def assemble(
    settings: Settings,
    database: Database,
    engine: EngineClient | None = None,
    embedding: Callable[[], EmbeddingModel] | None = None,
) -> Daemon:
    """Migrate, take back what a crash left running, and build every part. `engine`, `embedding`: others than the usual."""
    if (copy := database.migrate()) is not None:
        logger.info("database migrated", extra={"backup": copy})
    queue, steps, events, facts = Queue(database), Steps(database), Events(database), Facts(database)
    nights, reports, schedules = Nights(database), Reports(database), Schedules(database)
    for job_id in queue.recover(utc_now()):
        logger.warning("a job was cut by a crash and goes on", extra={"job_id": job_id})

    calendar = Calendar.parse(settings.night, settings.night_days, settings.timezone)
    config = engine_config(settings)
    engine = engine or EngineProcess(config)
    library = Library(corpus_config(settings), database, model=embedding)
    kinds = Kinds(settings.home / "jobs")
    shelf = Shelf(settings.home / "adapters")
    scribe = Scribe(steps, settings.save_seconds, utc_now)
    template = _template_of(engine)
    check_model, reaches = ModelCheck(config), Reaches(settings.home / "reach")
    tools = Tools(
        steps=steps,
        events=events,
        engine=engine,
        library=library,
        prompts=Prompts(settings.home / "jobs" / "prompts"),
        thinker=Thinker(engine, steps, scribe, utc_now),
        template=template,
        shelf=shelf,
        feedback=Feedback(database),
        room=Room(
            home=settings.home,
            shelf=shelf,
            model=config.model_path,
            reserve_bytes=settings.memory_reserve_bytes,
            save_seconds=settings.train_save_seconds,
            night_seconds=calendar.longest_seconds,
            now=utc_now,
        ),
        yard=Yard(settings.home, config, _is_over(queue)),
        thinking=settings.thinking_share,
        reaches=reaches,
        plain=check_model.plain,
        model_use=settings.model_use,
        now=utc_now,
    )
    workers = Workers(
        queue, kinds, tools, jobs_at_once=settings.jobs_at_once, lease_seconds=settings.lease_seconds, now=utc_now
    )
    reader = Reader(library, events, utc_now)
    alarms = Alarms()
    clockwork = Clockwork(
        schedules,
        kinds,
        shelf,
        alarms,
        zone=settings.timezone,
        now=utc_now,
        on_fire=workers.wake,
        check_model=check_model,
    )
    turns = Turns(
        workers,
        reader,
        engine,
        settings.stop_seconds,
        warn=lambda message: events.tell("warning", {"what": "pressure", "message": message}, utc_now()),
    )
    night = Night(
        calendar,
        nights,
        facts,
        alarms,
        on_open=turns.opened,
        on_close=turns.closed,
        on_morning=turns.morning,
        now=utc_now,
    )
    forecaster = Forecast(Outlook(database), night, calendar, settings.jobs_at_once, utc_now)
    diary = EngineDiary(engine, events, utc_now)
    reporter = MorningReporter(
        database,
        folder=settings.home / "reports",
        zone=calendar.zone,
        engine=engine,
        library=library,
        forecaster=forecaster,
        night=night,
        links=_links(settings),
        take_notes=lambda: diary.look(last=True),
        now=utc_now,
    )
    turns.report_with(reporter)
    services = Services(
        settings=settings,
        database=database,
        queue=queue,
        steps=steps,
        events=events,
        nights=nights,
        reports=reports,
        timetable=clockwork,
        kinds=kinds,
        shelf=shelf,
        engine=engine,
        library=library,
        night=night,
        reporter=reporter,
        reading=reader,
        forecaster=forecaster,
        started_at=utc_now(),
        work_came=workers.wake,
        check_model=check_model,
        foresee=Foresight(engine, template, reaches, shelf, check_model, settings.model_use),
        reach=HouseReach(config, reaches, check_model, engine),
        problem=lambda: turns.held or workers.problem or scribe.problem,
    )
    pressure = PressureWatch(pressure_limits(settings), turns.hold, turns.release)
    watcher = _watcher(settings, reader)
    return Daemon(services, workers, scribe, reader, alarms, night, clockwork, turns, diary, pressure, watcher)


def pressure_limits(settings: Settings) -> dict[str, float]:
    """Percent by resource, as `pressure.py` wants them."""
    return {name: getattr(settings, f"{name}_pressure_percent") for name in ("memory", "io", "cpu")}


def _watcher(settings: Settings, reader: Reader) -> Watcher | None:
    """None when the corpus is to be read only when somebody asks."""
    if settings.corpus_settle_seconds == 0:
        return None
    changed = partial(reader.request_sync, rebuild=False)
    return Watcher(settings.corpus_folder, settings.corpus_settle_seconds, changed)


def engine_config(settings: Settings) -> EngineConfig:
    """The engine's share of the settings."""
    path, sha256, name = settings.model, settings.model_sha256, ""
    if path is None:
        path, sha256, name = embedded.model_path(), embedded.SHA256, embedded.NAME
    return EngineConfig(
        model_path=path,
        model_sha256=sha256,
        hash_cache=settings.home / "hashes.json",
        name=name,
        context=settings.context,
        slots=settings.slots,
        threads=settings.threads,
        threads_batch=settings.threads_batch,
        threads_single=settings.threads_single,
        ubatch=settings.ubatch,
        flash_attention=settings.flash_attention,
        speculation=settings.speculation,
        model_use=settings.model_use,
        kv_type_k="f16" if settings.kv_type_k == "auto" else settings.kv_type_k,
        kv_type_v="f16" if settings.kv_type_v == "auto" else settings.kv_type_v,
        kv_types_free=settings.kv_type_k == "auto",
        tune_folder=settings.home / "tune",
        tune_seconds=settings.tune_seconds,
        kv_folder=settings.home / "kv",
        kv_limit_bytes=settings.kv_cache_bytes,
        kv_block_tokens=settings.kv_block_tokens,
        memory_reserve_bytes=settings.memory_reserve_bytes,
        mlock=settings.mlock,
        mmap=settings.mmap,
        huge_pages=settings.huge_pages,
        numa=settings.numa,
        cpus=settings.cpus or "",
    )


def corpus_config(settings: Settings) -> CorpusConfig:
    """The library's share of the settings."""
    return CorpusConfig(
        folder=settings.corpus_folder,
        chroma_dir=settings.home / "chroma",
        embedding_model=settings.embedding_model,
        reranker=settings.reranker,
        chunk_tokens=settings.chunk_tokens,
        max_file_bytes=settings.max_document_bytes,
        reading_timeout_seconds=max(settings.document_seconds, settings.ocr_page_seconds + 10.0),
        recognition=Recognition(settings.ocr_languages, settings.ocr_page_seconds),
    )


def _links(settings: Settings) -> str | None:
    """What a link to a passage begins with. With a token it leads through the page, which knows the token; a link cannot."""
    if settings.socket is not None:
        return None
    return settings.url if settings.token is None else f"{settings.url}/#"


def start(daemon: Daemon) -> None:
    """Set every part going."""
    daemon.scribe.start()
    daemon.reader.start()
    daemon.workers.start()
    daemon.alarms.start()
    daemon.clockwork.start()
    daemon.night.start()
    daemon.pressure.start()
    daemon.reader.request_sync(rebuild=False)
    if daemon.watcher is not None:
        daemon.watcher.start()


def stop(daemon: Daemon, seconds: float) -> None:
    """Save everything within about `seconds`."""
    daemon.turns.abandoned()
    daemon.pressure.stop()
    daemon.alarms.stop()
    daemon.workers.stop(seconds)
    daemon.services.engine.stop()
    daemon.diary.look()
    daemon.scribe.stop()
    daemon.night.stop()
    if daemon.watcher is not None:
        daemon.watcher.stop()
    daemon.reader.stop()
    daemon.services.library.close()


def _is_over(queue: Queue) -> Callable[[str], bool]:
    """Whether a job has ended; one that is not known has."""

    def is_over(job_id: str) -> bool:
        try:
            return queue.get(job_id).finished_at is not None
        except NotFound:
            return True

    return is_over


def _template_of(engine: EngineClient) -> Callable[[], ChatTemplate]:
    """The loaded model's chat template; the fallback is said once in the log."""

    @cache
    def of(sha256: str) -> ChatTemplate:
        template = ChatTemplate.of(engine.card())
        if template.fallback:
            logger.warning(
                "the model file has no usable chat template, using a plain one", extra={"model": engine.card().name}
            )
        return template

    return lambda: of(engine.card().sha256)


def _life_signs(daemon: Daemon, server: ApiServer) -> dict[str, Callable[[], bool]]:
    """What must be alive for the watchdog to be fed."""

    def fresh(beat_at: float) -> bool:
        return time.monotonic() - beat_at < SILENT_SECONDS

    return {
        "http": lambda: answers(server.address),
        "dispatcher": lambda: fresh(daemon.workers.beat_at),
        "scribe": daemon.scribe.alive,
    }


def status_line(daemon: Daemon) -> str:
    """One line for `systemctl status`."""
    services = daemon.services
    counts, engine, night = services.queue.counts(), services.engine.status(), services.night.current()
    when = "by day" if night is None else f"night until {_clock(night.closes_at, services.settings.timezone)}"
    parts = [
        when,
        f"{counts['running']} running",
        f"{counts['queued'] + counts['waiting']} to do",
        f"{counts['done']} done",
    ]
    if engine.decode_seconds > 0:
        parts.append(f"{engine.decode_tokens / engine.decode_seconds:.1f} tok/s")
    if (problem := services.problem()) is not None:
        parts.append(problem)
    return " · ".join(parts)


def _clock(moment: datetime | None, zone: str | None) -> str:
    return "told to stop" if moment is None else f"{moment.astimezone(ZoneInfo(zone) if zone else None):%H:%M}"
