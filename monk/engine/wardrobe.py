"""The adapters that are loaded, and which of them the lanes wear. One thread.

Loading one reads its file; wearing another costs llama.cpp one new graph. Those not worn now are kept for a while: waves
come back. What is opened here was written by `monk/lora`, checked against this very model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as C

from monk.engine.client import AdapterUse
from monk.engine.lane import LlamaLane
from monk.errors import AdapterUnusable

KEPT = 8  # loaded adapters, worn ones included


class Wardrobe:
    """`reason()`: what llama.cpp said last. The model must be freed after all lanes; adapters go with it."""

    def __init__(self, model: Any, reason: Callable[[], str]) -> None:
        self._model = model
        self._reason = reason
        self._loaded: dict[str, Any] = {}  # by content, the longest unused first
        self._worn: tuple[AdapterUse, ...] = ()

    def wear(self, adapters: tuple[AdapterUse, ...], lanes: Iterable[LlamaLane]) -> None:
        """Replace what all lanes wear. Raises AdapterUnusable; they are bare then."""
        lanes, self._worn = list(lanes), ()
        for lane in lanes:
            self.put_on(lane)
        for adapter in adapters:
            self._load(adapter)
        self._worn = tuple(sorted(adapters, key=lambda adapter: adapter.sha256))
        self._thin_out()
        for lane in lanes:
            self.put_on(lane)

    def put_on(self, lane: LlamaLane) -> None:
        """Have the lane wear what the others do."""
        handles = [self._loaded[adapter.sha256] for adapter in self._worn]
        code = lane.wear(handles, [adapter.scale for adapter in self._worn])
        if code:
            raise AdapterUnusable(f"llama.cpp does not put the adapters on (code {code}): {self._reason()}")

    def _load(self, adapter: AdapterUse) -> None:
        handle = self._loaded.pop(adapter.sha256, None)
        if handle is None:
            if not Path(adapter.path).is_file():
                raise AdapterUnusable(f"the adapter {adapter.path} is gone; add it again", param="adapter")
            handle = C.llama_adapter_lora_init(self._model, adapter.path.encode())
        if not handle:
            raise AdapterUnusable(f"llama.cpp refuses the adapter {adapter.path}: {self._reason()}", param="adapter")
        self._loaded[adapter.sha256] = handle

    def _thin_out(self) -> None:
        worn = {adapter.sha256 for adapter in self._worn}
        spare = [sha256 for sha256 in self._loaded if sha256 not in worn]
        for sha256 in spare[: max(0, len(self._loaded) - KEPT)]:
            C.llama_adapter_lora_free(self._loaded.pop(sha256))
