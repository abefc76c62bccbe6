"""A runner over a SumModel, driven by hand, and what it should say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from monk.engine.archive import Archive
from monk.engine.client import Finished, Message, ThoughtRequest
from monk.engine.kv_store import KvStore
from monk.engine.model_use import OwnSettings
from monk.engine.runner import Runner, RunnerConfig
from monk.errors import MonkError
from tests.engine_lanes import END, SumModel, next_token, tint_of

BLOCK = 64


def expected(request: ThoughtRequest, says: Callable[[list[int]], int] = next_token) -> tuple[str, str]:
    """(reason, text) of an undisturbed run."""
    tokens, tint = [*request.prompt, *request.saved], tint_of(request.adapters, request.model)
    while len(tokens) - len(request.prompt) < request.max_tokens:
        token = says([known + tint for known in tokens])
        if token == END:
            return "stop", words_of(tokens[len(request.prompt) :])
        tokens.append(token)
    return "length", words_of(tokens[len(request.prompt) :])


def words_of(tokens: list[int]) -> str:
    return "".join(f"{token} " for token in tokens)


class House:
    """A runner over a SumModel, driven by hand."""

    def __init__(
        self,
        slots: int = 4,
        chunk: int = 16,
        can_trim: bool = True,
        stream_bytes: int = 1,
        fork_cells: int = 0,
        store: KvStore | None = None,
        speculates: bool = False,
        in_place: bool = False,
    ) -> None:
        self.model = SumModel(slots, can_trim, chunk, fork_cells, in_place, stream_bytes)
        self.heard: dict[str, list[Message | MonkError]] = {}
        config = RunnerConfig(
            4096,
            block_tokens=BLOCK,
            flush_seconds=0,
            speculates=speculates,
            own=OwnSettings(num_experts=8, experts=2),
        )
        archive = None if store is None else Archive(store, bytes(32), BLOCK)
        self.runner = Runner(
            self.model, config, lambda name, item: self.heard.setdefault(name, []).append(item), archive
        )

    def ask(self, *requests: ThoughtRequest) -> None:
        for request in requests:
            self.runner.think(request)
            self.runner._read_inbox()

    def work(self) -> None:
        for _ in range(10_000):
            if not self.runner.turn():
                return
        raise AssertionError("it never ends")

    def end_of(self, name: str) -> Message | MonkError:
        return self.heard[name][-1]


def request(name: str, prompt: range | list[int], max_tokens: int = 10, saved: tuple[int, ...] = ()) -> ThoughtRequest:
    return ThoughtRequest(name, tuple(token % 90 for token in prompt), max_tokens, saved=saved)


def unlike(one: ThoughtRequest) -> ThoughtRequest:
    """The same thought, but for a stop string that never comes: it is computed on its own."""
    return replace(one, stop=(f"never {one.id}",))


def assert_right(house: House, *requests: ThoughtRequest) -> None:
    for item in requests:
        end = house.end_of(item.id)
        assert isinstance(end, Finished), end
        assert (end.reason, end.text) == expected(item), item.id
