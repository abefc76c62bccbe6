"""What an engine said, and whether two runs said the same: equal tokens, or a parting where two were nearly equal."""

from __future__ import annotations

from dataclasses import replace

from monk.engine.client import EngineClient, Finished, NewTokens, Stream, ThoughtRequest

Ids = tuple[int, ...]
NEAR_TIE = 0.5  # natural log: how far apart two candidates may be that another batch shape makes swap places
ROUNDING = 0.05  # the same of random weights, which have no favourites: only rounding may part two runs


def ids_of(*streams: Stream) -> list[Ids]:
    """All tokens of each, to its end."""
    return [tuple(id_ for m in stream if isinstance(m, NewTokens) for id_ in m.ids) for stream in streams]


def said(engine: EngineClient, request: ThoughtRequest) -> Ids:
    """All tokens of one thought, which must come to its own end."""
    ids: list[int] = []
    for message in engine.think(request):
        if isinstance(message, NewTokens):
            ids += message.ids
        elif isinstance(message, Finished):
            assert message.reason in ("length", "stop")
    return tuple(ids)


def parting(left: Ids, right: Ids) -> int | None:
    """Where two texts part; None where they do not, as when one is only longer."""
    return next((at for at, (one, other) in enumerate(zip(left, right, strict=False)) if one != other), None)


def chances_at(engine: EngineClient, request: ThoughtRequest, saved: Ids, count: int = 16) -> dict[int, float]:
    """Log probabilities of the likeliest tokens behind these of an answer."""
    sampling = replace(request.sampling, logprobs=count)
    probe = replace(
        request, id=f"{request.id}-probe", saved=saved, max_tokens=len(saved) + 1, stop=(), sampling=sampling
    )
    told = [message for message in engine.think(probe) if isinstance(message, NewTokens)]
    return dict(told[0].logprobs[0].top)


def gap(engine: EngineClient, request: ThoughtRequest, left: Ids, right: Ids) -> float:
    """How far apart the two candidates were where the texts part; endless where one is only longer."""
    place = parting(left, right)
    if place is None:
        return float("inf")
    chances = chances_at(engine, request, left[:place])
    lost = -1e9  # not even among the likeliest
    return abs(chances.get(left[place], lost) - chances.get(right[place], lost))


def assert_same_greedy(
    engine: EngineClient, request: ThoughtRequest, left: Ids, right: Ids, most: float = NEAR_TIE
) -> None:
    """Equal tokens; or, at the first difference, two candidates whose logits were nearly equal."""
    if left != right:
        found = gap(engine, request, left, right)
        assert found < most, f"texts part at token {parting(left, right)} with a gap of {found:.3f}"
