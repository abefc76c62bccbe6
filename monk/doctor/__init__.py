"""`monk doctor`: is everything in order, and if not, what to do. Each check looks at one thing and never changes it.

    examine ─▶ home, disk ─▶ model, memory ─▶ the machine ─▶ corpus, embedding ─▶ port, night, kinds ─▶ engine (really
    started)

A check that fails in a way nobody foresaw is a finding too: the others still run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from monk.doctor.finding import Finding
from monk.errors import MonkError
from monk.settings import Settings

Check = Callable[[Settings], Iterator[Finding]]


def examine(settings: Settings, *, quick: bool) -> Iterator[Finding]:
    """All findings, each as soon as it is known. `quick` reads no large file, loads no model and starts no engine."""
    for name, check in _checks(quick):
        yield from _guarded(name, check, settings)


def _checks(quick: bool) -> list[tuple[str, Check]]:
    from monk.doctor import engine, host, house, library, model, net, reach

    checks: list[tuple[str, Check]] = [
        ("programs", house.programs),
        ("settings", house.settings_file),
        ("home", house.home),
        ("disk", house.disk),
        ("model", model.model_file),
        ("memory", model.memory),
        ("tuning", model.tuning),
        ("numa", host.topology),
        ("huge pages", host.huge_pages),
        ("memory lock", host.memory_lock),
        ("swap", host.swap),
        ("overcommit", host.overcommit),
        ("numa kernel", host.numa_kernel),
        ("control group", host.control_group),
        ("governor", host.governor),
        ("reach", reach.reach),
        ("corpus", library.corpus),
        ("embedding", library.embedding_present if quick else library.embedding_works),
        *([] if quick else [("reranker", library.reranker_works)]),
        ("port", net.port),
        ("night", house.night),
        ("kinds", library.kinds),
    ]
    if not quick:
        checks += [("model hash", model.model_hash), ("engine", engine.engine)]
    return checks


def _guarded(name: str, check: Check, settings: Settings) -> Iterator[Finding]:
    try:
        yield from check(settings)
    except MonkError as exc:
        text, _, remedy = exc.message.partition("; ")
        yield Finding(name, "fail", text, remedy)
    except Exception as exc:  # the rim: one broken check must not hide the findings of the others
        yield Finding(
            name, "fail", f"the check itself failed: {type(exc).__name__}: {exc}", "report this as a mistake of ours"
        )
