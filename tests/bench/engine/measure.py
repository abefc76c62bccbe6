"""Who runs when: the peers take turns, so that what disturbs the machine disturbs all; the server at its best width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.engine import host
from tests.bench.engine.naive import Naive
from tests.bench.engine.ours import Ours
from tests.bench.engine.peers import Outcome, Peer, PeerFailed, Place, checked
from tests.bench.engine.report import NOT_BUILT, Measured, Row
from tests.bench.engine.server import WIDTHS, Server, widths_for
from tests.bench.engine.workloads import Work

GIVE_UP_FACTOR = 1.5  # a width that takes this much longer than the best so far is not the best
SWEEP_ORDER = (8, 16, 4, 32, 1)  # the likely ones first, so that the hopeless ones are given up early


@dataclass(frozen=True, slots=True)
class Turn:
    """What is to be done with each workload."""

    peers: tuple[str, ...]
    repeat: int
    server: Path | None
    server_arguments: tuple[str, ...] = ()
    widths: tuple[int, ...] = WIDTHS
    tell: Callable[[str], None] = print


@dataclass(slots=True)
class Tally:
    """One peer's runs so far."""

    peer: Peer
    note: str = ""
    outcomes: list[Outcome] = field(default_factory=list)
    error: str = ""

    def measured(self, work: Work) -> Measured:
        rates = () if self.error else tuple(rate_of(work, outcome) for outcome in self.outcomes)
        return Measured(self.peer.name, rates, self.error, self.note, tuple(item.facts for item in self.outcomes))


def rate_of(work: Work, outcome: Outcome) -> float:
    """New tokens per second of wall time, prompts included."""
    return work.shape.num_new_tokens / outcome.seconds


def measure(work: Work, weights: str, place: Place, turn: Turn, busy: list[float]) -> Row:
    """All peers at one workload. `busy` gathers how much of the machine others used before each run."""
    swept: dict[int, float | None] = {}
    tallies: list[Tally] = []
    for name in turn.peers:
        if name != "server":
            tallies.append(Tally(Ours() if name == "ours" else Naive()))
        elif turn.server is not None:
            swept = sweep(turn.server, work, place, turn)
            tallies.append(best_server(turn.server, swept, turn))
    for number in range(turn.repeat):
        for tally in rotated(tallies, number):
            busy.append(host.busy_percent())
            run_once(tally, work, place, turn.tell)
    measured = {tally.peer.name: tally.measured(work) for tally in tallies}
    if "server" in turn.peers and turn.server is None:
        measured["server"] = Measured("server", error=NOT_BUILT)
    targets = {"server": work.shape.server_target, "naive": work.shape.naive_target}
    facts = {"sweep": swept, "agreement": agreement(tallies), "prompt_tokens": [len(item) for item in work.prompts]}
    facts |= {"new_tokens": work.shape.num_new_tokens, "context": work.context}
    return Row(work.shape.name, work.shape.title, weights, measured, targets, facts)


def rotated(tallies: list[Tally], number: int) -> list[Tally]:
    """Each time another one begins."""
    if not tallies:
        return []
    start = number % len(tallies)
    return tallies[start:] + tallies[:start]


def run_once(tally: Tally, work: Work, place: Place, tell: Callable[[str], None]) -> None:
    """A peer that failed once is left out: its times would be of another work."""
    if tally.error:
        return
    try:
        outcome = checked(tally.peer.name, work, tally.peer.run(work, place))
    except PeerFailed as failure:
        tally.error = f"failed: {failure}"
        tell(f"  {tally.peer.name} {tally.error}")
        return
    tally.outcomes.append(outcome)
    tell(f"  {tally.peer.name:<8}{outcome.seconds:8.2f} s {rate_of(work, outcome):9.1f} tok/s {tally.note}")


def sweep(server: Path, work: Work, place: Place, turn: Turn) -> dict[int, float | None]:
    """Tokens/s of each width; None for one that failed or was clearly not the best."""
    best_seconds: float | None = None
    found: dict[int, float | None] = {}
    useful = widths_for(work, turn.widths)
    for width in sorted(useful, key=lambda item: SWEEP_ORDER.index(item) if item in SWEEP_ORDER else len(SWEEP_ORDER)):
        limit = best_seconds * GIVE_UP_FACTOR if best_seconds is not None else None
        peer = Server(server, width, turn.server_arguments, limit)
        try:
            outcome = checked("server", work, peer.run(work, place))
        except PeerFailed as failure:
            turn.tell(f"  server  -np {width}: {failure}")
            found[width] = None
            continue
        found[width] = rate_of(work, outcome)
        best_seconds = min(outcome.seconds, best_seconds or outcome.seconds)
        turn.tell(f"  server  -np {width}: {found[width]:.1f} tok/s")
    return found


def best_server(server: Path, swept: dict[int, float | None], turn: Turn) -> Tally:
    """The server at the width that did best in the sweep."""
    rates = {width: rate for width, rate in swept.items() if rate is not None}
    if not rates:
        return Tally(Server(server, 1), error="failed: at every width")
    width = max(rates, key=lambda item: rates[item])
    return Tally(Server(server, width, turn.server_arguments), note=f"-np {width}")


def agreement(tallies: Sequence[Tally]) -> dict[str, float]:
    """How much of ours' text each peer said too, from the beginning on, as a part from 0 to 1.

    Greedy answers part where two tokens are as good as equal, since sums are ordered otherwise in wider batches; they
    should begin alike.
    """
    texts = {item.peer.name: [answer.text for answer in item.outcomes[0].answers] for item in tallies if item.outcomes}
    ours = texts.pop("ours", None)
    if ours is None:
        return {}
    return {
        name: sum(map(_common_share, ours, others)) / len(ours)
        for name, others in texts.items()
        if len(others) == len(ours)
    }


def _common_share(one: str, other: str) -> float:
    length = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return length / max(1, len(one))


def as_json(row: Row) -> dict[str, Any]:
    """The row with its medians and ratios."""
    peers = {
        name: {"rate": item.rate, "rates": item.rates, "error": item.error, "note": item.note, "facts": item.facts}
        for name, item in row.measured.items()
    }
    return {
        "workload": row.workload,
        "title": row.title,
        "weights": row.weights,
        "peers": peers,
        "ratios": {peer: row.ratio(peer) for peer in row.targets},
        "targets": row.targets,
        **row.facts,
    }
