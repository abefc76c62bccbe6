"""One measurement: what is computed, and with which settings. Plain values: no model, no clock."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from monk.engine.lane_plan import PAD

Test = Literal["prompt", "answer"]


@dataclass(frozen=True, slots=True)
class Point:
    """`tokens` of one prompt, or so many steps of `rows` answers, behind `depth` tokens. `room`: a context has for them."""

    test: Test
    tokens: int
    rows: int
    depth: int
    flash: bool
    type_k: str
    type_v: str
    threads: int
    ubatch: int
    room: int = 0

    @property
    def context(self) -> int:
        """Tokens each sequence must hold; llama.cpp rounds up to this anyway."""
        return -(-(self.depth + max(self.tokens, self.room) + 1) // PAD) * PAD

    @property
    def num_tokens(self) -> int:
        """That one repeat computes."""
        return self.tokens * self.rows

    @property
    def settings(self) -> dict[str, Any]:
        """How KV is stored and attended to, by field of EngineConfig."""
        return {
            "flash_attention": "on" if self.flash else "off",
            "kv_type_k": self.type_k,
            "kv_type_v": self.type_v,
        }

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Point:
        """The inverse. Raises TypeError for anything else."""
        return cls(**{name: values[name] for name in cls.__dataclass_fields__ if name in values})
