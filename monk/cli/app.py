"""The tree of commands, in the order of a day: submit, watch, the night, the morning, the house."""

from __future__ import annotations

import typer

from monk.cli import (
    adapter,
    bench,
    compare,
    corpus,
    daemon,
    demo,
    feedback,
    house,
    jobs,
    night,
    plan,
    report,
    schedule,
    service,
    status,
    submit,
    teach,
    tune,
)


def _version(wanted: bool) -> None:
    if wanted:
        from monk import __version__
        from monk.cli.terminal import say

        say(f"monk {__version__}")
        raise typer.Exit()


def _new(help_: str) -> typer.Typer:
    return typer.Typer(help=help_, rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


def _top(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Submit questions by day, let the night think them through, read the report in the morning.

    Settings: monk.toml in the home, or MONK_* variables (`monk doctor --settings` lists them).
    """


def _tree() -> typer.Typer:
    top = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    top.callback()(_top)
    top.command("serve")(daemon.serve)
    top.command("submit")(submit.submit)
    top.command("jobs")(jobs.jobs)
    top.command("show")(jobs.show)
    top.command("cancel")(jobs.cancel)
    top.command("retry")(jobs.retry)
    top.command("feedback")(feedback.feedback)
    top.command("kinds")(jobs.kinds)
    top.command("night")(night.night)
    top.command("status")(status.status)
    top.command("report")(report.report)
    top.add_typer(_corpus(), name="corpus")
    top.add_typer(_schedule(), name="schedule")
    top.add_typer(_adapter(), name="adapter")
    top.command("compare-adapter")(compare.compare_adapter)
    top.command("plan")(plan.plan)
    top.command("tune")(tune.tune)
    top.command("bench")(bench.bench)
    top.command("doctor")(house.doctor)
    top.command("backup")(house.backup)
    top.command("restore")(house.restore)
    top.add_typer(_service(), name="service")
    top.command("demo")(demo.demo)
    return top


def _corpus() -> typer.Typer:
    group = _new("Sync, search and look at the documents.")
    group.command("sync")(corpus.sync)
    group.command("search")(corpus.search)
    group.command("status")(corpus.status)
    return group


def _schedule() -> typer.Typer:
    group = _new("Jobs that come back by the clock.")
    group.command("add")(schedule.add)
    group.command("list")(schedule.list_)
    group.command("remove")(schedule.remove)
    return group


def _adapter() -> typer.Typer:
    group = _new("LoRA adapters that the model can wear.")
    group.command("add")(adapter.add)
    group.command("list")(adapter.list_)
    group.command("show")(adapter.show)
    group.command("train")(teach.train)
    group.command("rollback")(teach.rollback)
    group.command("export")(adapter.export)
    group.command("merge")(adapter.merge)
    group.command("remove")(adapter.remove)
    return group


def _service() -> typer.Typer:
    group = _new("Install Night Monk as a service, or remove it.")
    group.command("install")(service.install)
    group.command("uninstall")(service.uninstall)
    return group


app = _tree()
