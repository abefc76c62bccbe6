"""A benchmark's result in words and as data for pictures. Pure."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]
GIB = 1 << 30
BUSY_PERCENT = 5.0  # of the machine used by others while it was measured: worth a word


def answer(wanted: dict[str, Any], here: dict[str, Any], rows: list[Row], left: list[str]) -> str:
    """Markdown: what was measured where, the table, what is to be known beside it."""
    model, base = here["model"], here["base"]
    settings = f", {model['settings']}" if model["settings"] else ""
    cores = here["host"]["cores"]
    parts = [
        f"{model['name']} ({model['parameters'] / 1e6:.0f} million weights, {model['weight_bytes'] / GIB:.2f} GiB"
        f"{settings}) on {here['host']['cpu']}, {cores} core{'' if cores == 1 else 's'}, {here['build']}.",
        f"Tokens per second, mean and standard deviation of {wanted['repeats']}: prompts of {wanted['prompt_tokens']} "
        f"tokens, answers of {wanted['answer_tokens']}; all thoughts of a row together. Expected is the roofline that "
        f"`monk plan` reckons with, the bound what {here['machine']['bandwidth'] / 1e9:.1f} GB/s of memory (answers) "
        f"and {here['machine']['gflops']:.0f} GFLOP/s (prompts) allow. GiB is the peak of memory meanwhile.",
        table(rows),
        *_notes(here, rows, left, base),
    ]
    return "\n\n".join(part for part in parts if part)


def table(rows: list[Row]) -> str:
    """One line for each measurement, in Markdown."""
    told = [row for row in rows if "refused" not in row]
    if not told:
        return ""
    energy = any(row["energy_joules"] is not None for row in told)
    heads = ["test", "behind", "flash", "KV", "threads", "tokens/s", "expected", "bound", "GiB"]
    heads += ["J/token"] if energy else []
    lines = [_line(heads), _line(["---"] + ["---:" for _ in heads[1:]])]
    return "\n".join([*lines, *(_line(cells(row, energy)) for row in told)])


def cells(row: Row, energy: bool) -> list[str]:
    """A measurement as texts."""
    what = row["test"] if row["rows"] == 1 else f"{row['rows']} answers"
    kv = row["type_k"] if row["type_k"] == row["type_v"] else f"{row['type_k']}, {row['type_v']}"
    rate = row["tokens_per_second"]
    told = [
        what,
        str(row["depth"]),
        "on" if row["flash"] else "off",
        kv,
        str(row["threads"]),
        f"{rate['mean']:.2f}\u00a0±\u00a0{rate['deviation']:.2f}",
        f"{row['predicted']:.1f}",
        f"{row['bound']:.1f}",
        "" if row["memory_bytes"] is None else f"{row['memory_bytes'] / GIB:.2f}",
    ]
    if energy:
        told.append("" if row["joules_per_token"] is None else f"{row['joules_per_token']:.2f}")
    return told


def _line(texts: list[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _notes(here: dict[str, Any], rows: list[Row], left: list[str], base: dict[str, Any]) -> list[str]:
    refused = [row for row in rows if "refused" in row]
    notes = []
    if refused:
        lines = [f"- {row['test']} x {row['rows']} behind {row['depth']}: {row['refused']}" for row in refused]
        notes.append("Not measured:\n\n" + "\n".join(lines))
    if left:
        notes.append(
            f"The job's minutes ended before {len(left)} measurements, from `{left[0]}` on; give it more with `--minutes`."
        )
    if here["energy"]:
        notes.append(f"Energy was not measured: {here['energy']}.")
    busy = max((row.get("others_percent") or 0.0 for row in rows), default=0.0)
    if busy > BUSY_PERCENT:
        notes.append(
            f"Others used up to {busy:.0f} % of the machine meanwhile: on a quiet one the figures would be higher."
        )
    return notes


# ── pictures ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def pictures(here: dict[str, Any], rows: list[Row]) -> list[dict[str, Any]]:
    """Plain data as `monk.pictures.draw` takes it: speed over depth and width, and memory."""
    told = [row for row in rows if "refused" not in row]
    if not told:
        return []
    name = here["model"]["name"]
    first = told[0]
    usual = [row for row in told if _settings(row) == _settings(first)]
    drawn = [
        _speed(f"{name}: prompts", "tokens before the prompt", _depths(told, first, "prompt", usual)),
        _speed(f"{name}: one answer", "tokens before the answer", _depths(told, first, "answer", usual)),
        _speed(f"{name}: several answers at once", "answers at once", _widths(usual)),
        _memory(f"{name}: memory", [row for row in usual if row["rows"] == 1 and row["test"] == "prompt"]),
    ]
    return [picture for picture in drawn if any(len(line["points"]) > 1 for line in picture["lines"])]


def _settings(row: Row) -> tuple[Any, ...]:
    return (row["flash"], row["type_k"], row["type_v"])


def _speed(title: str, x: str, lines: list[dict[str, Any]]) -> dict[str, Any]:
    return {"form": "lines", "title": title, "x": x, "y": "tokens/s", "log_x": True, "log_y": True, "lines": lines}


def _depths(told: list[Row], first: Row, test: str, usual: list[Row]) -> list[dict[str, Any]]:
    curve = _base_threads([row for row in usual if row["test"] == test and row["rows"] == 1])
    lines = _three(curve, "depth")
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in told:
        if row["test"] == test and row["rows"] == 1 and _settings(row) != _settings(first):
            groups.setdefault(_settings(row), []).append(row)
    for (flash, type_k, type_v), others in groups.items():
        kv = type_k if type_k == type_v else f"{type_k}, {type_v}"
        name = f"flash attention {'on' if flash else 'off'}, KV {kv}"
        lines.append(_drawn(name, "measured", others, "depth", _rate, group=name))
    return lines


def _widths(usual: list[Row]) -> list[dict[str, Any]]:
    """Behind the depth that most widths were measured behind."""
    answers = [row for row in usual if row["test"] == "answer"]
    wide = [row["depth"] for row in answers if row["rows"] > 1]
    if not wide:
        return []
    depth = max(set(wide), key=wide.count)
    singles = _base_threads([row for row in answers if row["depth"] == depth and row["rows"] == 1])
    return _three([*singles, *(row for row in answers if row["depth"] == depth and row["rows"] > 1)], "rows")


def _base_threads(rows: list[Row]) -> list[Row]:
    """Without those that only try other numbers of threads."""
    return [row for row in rows if row["threads"] == rows[0]["threads"]] if rows else []


def _three(rows: list[Row], over: str) -> list[dict[str, Any]]:
    return [
        _drawn("measured", "measured", rows, over, _rate),
        _drawn("expected", "predicted", rows, over, lambda row: float(row["predicted"])),
        _drawn("bound", "bound", rows, over, lambda row: float(row["bound"])),
    ]


def _rate(row: Row) -> float:
    return float(row["tokens_per_second"]["median"])


def _memory(title: str, rows: list[Row]) -> dict[str, Any]:
    rows = _base_threads([row for row in rows if row["memory_bytes"] is not None])
    lines = [
        _drawn("measured", "measured", rows, "depth", lambda row: row["memory_bytes"] / GIB),
        _drawn("planned", "predicted", rows, "depth", lambda row: row["planned_bytes"] / GIB),
    ]
    return {"form": "lines", "title": title, "x": "tokens before the prompt", "y": "GiB", "log_x": True, "lines": lines}


def _drawn(name: str, manner: str, rows: list[Row], over: str, value: Any, group: str = "base") -> dict[str, Any]:
    points = sorted([float(row[over]), value(row)] for row in rows)
    return {"name": name, "manner": manner, "group": group, "points": points}
