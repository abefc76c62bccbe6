"""How long a prompt the model finds things in, as far as that was measured."""

from __future__ import annotations

from collections.abc import Iterator

from monk.doctor.finding import Finding
from monk.settings import Settings


def reach(settings: Settings) -> Iterator[Finding]:
    """Measured with these settings, and what came of it."""
    from monk.daemon import engine_config
    from monk.model_check import ModelCheck
    from monk.reach import HOW
    from monk.reach.house import HouseReach
    from monk.reach.record import Reaches

    config = engine_config(settings)
    known = HouseReach(config, Reaches(settings.home / "reach"), ModelCheck(config), None)()
    if known is None:
        yield Finding("reach", "ok", f"never measured how long a prompt the model finds things in; `{HOW}` does")
        return
    tried = f"measured {known.measured_at} up to {known.longest_tokens} tokens"
    if known.reliable_tokens == known.longest_tokens:
        yield Finding("reach", "ok", f"finds things in prompts of up to {known.reliable_tokens} tokens; {tried}")
        return
    told = f"finds things in prompts of up to {known.reliable_tokens} tokens, not in longer ones"
    if not known.reliable_tokens:
        told = f"loses things even in prompts of {known.shortest_tokens} tokens"
    yield Finding(
        "reach", "warn", f"{told}; {tried}", "jobs with longer prompts are warned; a larger model reads further"
    )
