"""What an engine did not have to compute, as counts that grow: between two looks the difference is what was spared.

Plain values, so that they can be written down as an event and added up by the report.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from monk.engine.client import EngineStatus


@dataclass(frozen=True, slots=True)
class Spared:
    """Totals since the daemon started, or what came between two looks."""

    restored_tokens: int = 0  # of prompts, from KV on disk
    restored_blocks: int = 0
    missed_blocks: int = 0  # of prompts, that had to be computed
    failed_blocks: int = 0  # found wrong, and deleted
    saved_seconds: float = 0.0  # of prefill, by restored blocks
    shared_tokens: int = 0  # of prompts, taken over from a neighbour, a slot or the disk
    forked_tokens: int = 0  # of prompts, read together with others
    identical_thoughts: int = 0  # answered by another one
    guessed_tokens: int = 0  # computed as guesses
    accepted_tokens: int = 0  # of them, those that answers went on with

    @classmethod
    def of(cls, status: EngineStatus) -> Spared:
        kv = status.kv
        return cls(
            restored_tokens=kv.tokens_restored,
            restored_blocks=kv.hits,
            missed_blocks=kv.misses,
            failed_blocks=kv.failures,
            saved_seconds=kv.seconds_saved,
            shared_tokens=status.shared_tokens,
            forked_tokens=status.forked_tokens,
            identical_thoughts=status.deduplicated,
            guessed_tokens=status.drafted_tokens,
            accepted_tokens=status.accepted_tokens,
        )

    def since(self, before: Spared) -> Spared:
        """What came after `before`."""
        mine, theirs = asdict(self), asdict(before)
        return Spared(**{name: mine[name] - theirs[name] for name in mine})

    @property
    def nothing(self) -> bool:
        return self == Spared()
