"""Watching one job think, to its end, whatever happens to the daemon meanwhile.

What is seen goes to stderr; stdout is for the answer alone. The words shown are the draft as the model says it; only the
checked answer at the end counts.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from monk.cli.moments import spelled
from monk.cli.terminal import clean, one_line
from monk.errors import Unavailable

if TYPE_CHECKING:
    from monk.client import Client, ServerEvent

FINAL = ("done", "failed", "cancelled")


def follow(daemon: Client, job: dict[str, Any], *, live: bool) -> dict[str, Any]:
    """The job as it ended. Raises Unavailable when the daemon stays away too long; the job itself goes on."""
    told = _Teller(live)
    voices = Voices()
    for event in daemon.follow(f"/jobs/{job['id']}/events"):
        if event is not None:
            told.write(voices.hear(event))
        if event is None or event.type in FINAL:
            ended = _ended(daemon, job["id"], told)
            if ended is not None:
                told.write(voices.end())
                return ended
    raise AssertionError("a followed stream has no end of its own")


def _ended(daemon: Client, job_id: str, told: _Teller) -> dict[str, Any] | None:
    """The job if it is final: an old event of a retried job says so too early."""
    try:
        job: dict[str, Any] = daemon.get(f"/jobs/{job_id}")
    except Unavailable:
        told.away()
        return None
    told.back()
    return job if job["state"] in FINAL else None


@dataclass(slots=True)
class _Teller:
    """Stderr, and whether the daemon was there when we last looked."""

    live: bool
    gone: bool = False

    def write(self, text: str) -> None:
        """Show it now."""
        if self.live and text:
            sys.stderr.write(clean(text))
            sys.stderr.flush()

    def away(self) -> None:
        """The daemon does not answer: said once."""
        if not self.gone:
            self.write("\n· the daemon is away; waiting for it, nothing is lost\n")
        self.gone = True

    def back(self) -> None:
        """It answers again."""
        if self.gone:
            self.write("· the daemon is back\n")
        self.gone = False


@dataclass(slots=True)
class Thought:
    """What one call of the model has said and what of it was not shown yet."""

    title: str
    unshown: str = ""
    heard: bool = False
    ended: bool = False


@dataclass(slots=True)
class Voices:
    """Several thoughts speak at once; one is heard at a time, the next from its beginning when that one has ended."""

    thoughts: dict[str, Thought] = field(default_factory=dict)
    speaking: str | None = None
    mid_line: bool = False

    def hear(self, event: ServerEvent) -> str:
        """The text to show for this event, perhaps none."""
        thought_id, facts = event.data.get("thought_id"), event.data.get("data") or {}
        if thought_id is not None and event.type in ("thinking", "progress", "thought"):
            return self._listen(thought_id, event.type, facts)
        note = _note(event.type, facts)
        return self._line(note) if note else ""

    def end(self) -> str:
        """What closes an unfinished line."""
        return self._break()

    def _listen(self, thought_id: str, type_: str, facts: dict[str, Any]) -> str:
        thought = self.thoughts.setdefault(thought_id, Thought(_title(facts)))
        if type_ == "progress":
            thought.unshown += str(facts.get("text") or "")
            thought.heard = True
        elif type_ == "thought":
            thought.title = thought.title or _title(facts)
            if not thought.heard:  # it ended before we came: its progress is folded into its end
                thought.unshown = str(facts.get("text") or "")
            thought.ended = True
        return "".join(self._speak())

    def _speak(self) -> Iterator[str]:
        while True:
            if self.speaking is None:
                waiting = next((key for key, one in self.thoughts.items() if one.unshown), None)
                if waiting is None:
                    return
                self.speaking = waiting
                yield self._line(self.thoughts[waiting].title or "thinking")
            current = self.thoughts[self.speaking]
            if current.unshown:
                self.mid_line = not current.unshown.endswith("\n")
                yield current.unshown
                current.unshown = ""
            if not current.ended:
                return
            yield self._break()
            self.speaking = None

    def _line(self, text: str) -> str:
        return f"{self._break()}· {one_line(text)}\n"

    def _break(self) -> str:
        broken, self.mid_line = self.mid_line, False
        return "\n" if broken else ""


def _title(facts: dict[str, Any]) -> str:
    sample = f" {facts['sample'] + 1}" if facts.get("sample") else ""
    return f"{facts['name']}{sample}" if facts.get("name") else ""


def _note(type_: str, facts: dict[str, Any]) -> str:
    """What an event beside the words means to someone who waits."""
    match type_:
        case "claimed":
            return "running" if facts.get("attempt", 1) == 1 else f"running, attempt {facts['attempt']}"
        case "resumed":
            return f"goes on after {facts.get('saved_tokens', '?')} saved tokens"
        case "released":
            why = str(facts.get("why", ""))
            return f"paused ({why}){'' if why.startswith('a job') else '; it goes on in the next night'}"
        case "recovered":
            return "back in the queue after a crash"
        case "error":
            return f"error: {facts.get('message')}; again in {spelled(facts.get('retry_in_seconds') or 0)}"
        case "needle":
            found = f"{facts.get('found')} of {facts.get('asked')} facts found"
            return f"{facts.get('length')} tokens, text {facts.get('trial')}: {found} in {spelled(facts.get('seconds') or 0)}"
        case "warning":
            return f"warning: {facts.get('message')}"
        case _:
            return _measured(type_, facts)


def _measured(type_: str, facts: dict[str, Any]) -> str:
    """What a benchmark tells of its way."""
    match type_:
        case "bench-planned":
            return f"up to {facts['context']} tokens; planned: {facts['memory_bytes'] / 2**30:.2f} GiB"
        case "bench-loaded":
            return f"the model is loaded, {facts['seconds']:.1f} s"
        case "bench-filling":
            rate = facts["tokens_per_second"]
            return f"computing the beginning: {facts['tokens']} of {facts['of']} tokens, {rate:.1f} a second"
        case "bench-no-room":
            return f"no room on the disk for KV behind {facts['tokens']} tokens; a crash would cost more"
        case "bench-measured":
            return _figure(facts)
        case _:
            return ""


def _figure(facts: dict[str, Any]) -> str:
    rows = f" x {facts['rows']}" if facts["rows"] > 1 else ""
    flash = "on" if facts["flash"] else "off"
    what = f"{facts['test']} {facts['tokens']}{rows} behind {facts['depth']}, flash {flash}, KV {facts['type_k']},"
    what += f"{facts['type_v']}, {facts['threads']} threads"
    if "refused" in facts:
        return f"{what}: not measured, {facts['refused']}"
    rate = facts["tokens_per_second"]
    return f"{what}: {rate['mean']:.2f} ± {rate['deviation']:.2f} tokens/s"
