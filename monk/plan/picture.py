"""An outlook as a picture: memory as stacked parts against what the machine has, and speed over depth by width."""

from __future__ import annotations

from pathlib import Path

from monk.errors import HomeUnusable
from monk.pictures import Line, Stack, stack_and_lines
from monk.plan.outlook import Outlook

GIB = float(1 << 30)
PARTS = ("weights", "KV of all", "other lanes", "output", "process")
BESIDE = "beside the engine"
ENGINE_NAMES = frozenset(
    {
        *PARTS,
        "KV of a token",
        "KV of one thought",
        "compute",
        "in all",
        "with all beside it",
        "to be had",
        "repacked copy",
    }
    | {"page cache"}
)


def draw(outlook: Outlook) -> str:
    """SVG. What does not fit is drawn too: its one part, the weights, against the line."""
    plan = outlook.plan
    title = f"{outlook.model.path.name}: "
    title += "does not fit" if plan is None else f"{plan.slots} thoughts at once, {plan.context} tokens each"
    stack = Stack("memory", "GiB", _bars(outlook), [("RAM", outlook.available / GIB)])
    lines = [Line(f"{width} at once", points, "predicted") for width, points in outlook.curves.items()]
    how = "measured rates" if outlook.measured_at else "general shares"
    return stack_and_lines(
        title, stack, f"decoding ({how})", "tokens behind", "tokens/s, all together", lines, log_x=True
    )


def _bars(outlook: Outlook) -> list[tuple[str, dict[str, float]]]:
    """Without and with flash attention, where both can be; the chosen one is marked."""
    values = {figure.name: figure.value for figure in outlook.memory}
    beside = sum(figure.value for figure in outlook.memory if figure.name not in ENGINE_NAMES)
    if outlook.plan is None:
        return [("does not fit", {"weights": values["weights"] / GIB, BESIDE: beside / GIB})]
    lanes = sum(lane.compute_bytes for lane in outlook.plan.lanes.values())
    bars = []
    for flash, compute in outlook.compute.items():
        if compute is None:
            continue
        parts = {name: values[name] / GIB for name in PARTS}
        parts["other lanes"] -= (lanes - outlook.plan.compute_bytes) / GIB
        parts["compute"] = compute / GIB
        parts[BESIDE] = beside / GIB
        chosen = " (chosen)" if outlook.plan.flash_attention == (flash == "on") else ""
        bars.append((f"flash attention {flash}{chosen}", parts))
    return bars


def write(outlook: Outlook, path: Path) -> None:
    """Raises HomeUnusable."""
    try:
        path.write_text(draw(outlook), encoding="utf-8")
    except OSError as exc:
        raise HomeUnusable(f"{path} cannot be written: {exc.strerror}; name another place for the picture") from exc
