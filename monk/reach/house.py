"""The reach of the house's model, with the house's settings: for `/status` and `monk doctor`, whether it is loaded or not."""

from __future__ import annotations

from monk.engine.client import EngineClient
from monk.engine.config import EngineConfig
from monk.engine.fingerprint import remembered
from monk.errors import MonkError
from monk.model_check import ModelCheck
from monk.reach.reading import Reading, of_card, of_config
from monk.reach.record import Reach, Reaches


class HouseReach:
    """Callable from any thread: what is known, or None when it was never measured or the model's hash is not known yet."""

    def __init__(self, config: EngineConfig, reaches: Reaches, check: ModelCheck, engine: EngineClient | None) -> None:
        """`engine`: asked for the model it has loaded; None: there is none to ask."""
        self._config = config
        self._reaches = reaches
        self._check = check
        self._engine = engine

    def __call__(self) -> Reach | None:
        reading = self._reading()
        return None if reading is None else self._reaches.find(reading)

    def _reading(self) -> Reading | None:
        use = self._check.plain(self._config.model_use)
        card = None if self._engine is None else self._engine.status().model
        if card is not None:
            return of_card(card, use)
        sha256 = self._config.model_sha256 or self._remembered()
        return None if sha256 is None else of_config(self._config, sha256, use)

    def _remembered(self) -> str | None:
        """Reading 60 GB to know a hash is nothing for a glance."""
        try:
            return remembered(self._check.parts(), self._config.hash_cache)
        except MonkError:
            return None
