"""How the report says numbers: durations, counts, speeds, sizes, local times. Pure functions of raw values to text."""

from __future__ import annotations

from datetime import datetime, timedelta

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_SIZES = ("bytes", "KiB", "MiB", "GiB", "TiB")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def from_json(value: str) -> datetime:
    """A moment of the report's data; its offset is the night's zone at that moment."""
    return datetime.fromisoformat(value)


def duration(seconds: float) -> str:
    """The two largest units: "9 h", "1 h 5 min", "42 s", "0.8 s"."""
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s".replace(".0 s", " s")
    rest, parts = round(seconds), []
    for size, unit in _UNITS:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}")
        elif parts:
            break
    return " ".join(parts[:2])


def number(value: float) -> str:
    """Thousands by comma: 12,345."""
    return f"{value:,.0f}"


def count(value: int, noun: str, plural: str | None = None) -> str:
    """ "1 job", "2 jobs"."""
    return f"{number(value)} {noun if value == 1 else plural or noun + 's'}"


def times(value: int) -> str:
    """ "once", "twice", "3 times"."""
    return {1: "once", 2: "twice"}.get(value, f"{number(value)} times")


def speed(tokens_per_second: float) -> str:
    """Three figures: "0.42", "8.31", "83.1", "1,204" tokens/s."""
    digits = 0 if tokens_per_second >= 100 else 1 if tokens_per_second >= 10 else 2
    return f"{tokens_per_second:,.{digits}f} tokens/s"


def size(num_bytes: float) -> str:
    """Binary units: "1.4 GiB"."""
    for unit in _SIZES:
        if num_bytes < 1024 or unit == _SIZES[-1]:
            break
        num_bytes /= 1024
    return f"{num_bytes:.0f} {unit}" if unit == "bytes" else f"{num_bytes:.1f} {unit}"


def day(moment: datetime) -> str:
    """ "Monday, 23 November 2026"."""
    return f"{_DAYS[moment.weekday()]}, {moment.day} {_MONTHS[moment.month - 1]} {moment.year}"


def clock(moment: datetime) -> str:
    """ "07:00"."""
    return moment.strftime("%H:%M")


def moment(at: datetime, beside: datetime) -> str:
    """Local time, with the day when it is not the day of `beside`, and the year when that differs too."""
    if at.date() == beside.date():
        return clock(at)
    year = f" {at.year}" if at.year != beside.year else ""
    return f"{at.day} {_MONTHS[at.month - 1][:3]}{year} {clock(at)}"


def offset(at: datetime) -> str:
    """ "UTC+03:00"."""
    shift = at.utcoffset() or timedelta()
    sign, minutes = ("-", -shift) if shift < timedelta() else ("+", shift)
    return f"UTC{sign}{int(minutes.total_seconds()) // 3600:02d}:{int(minutes.total_seconds()) // 60 % 60:02d}"


_ADVICE = {
    "invalid_input": "Submit it again with a corrected input.",
    "unknown_kind": "Put the kind's file back into jobs/ in the home, then retry.",
    "context_too_long": "Shorten the input, or raise MONK_CONTEXT, then retry.",
    "deadline_passed": "Retry it with a later deadline.",
    "document_unreadable": "Replace the document or convert it, run monk corpus sync, then retry.",
    "not_found": "Check the name it asks for, then retry.",
    "model_unusable": "Run monk doctor: it names the model file and what is wrong with it. Then retry.",
    "memory_too_small": "Lower MONK_CONTEXT or MONK_SLOTS, free some memory, or take a smaller model. Then retry.",
    "engine_failed": "Retry it; if it fails again, look into the journal.",
    "engine_died": "Look into the journal for why the engine died (often memory), then retry.",
    "crash_loop": "Look into the journal first: this job may be what kills the engine. Then retry.",
    "unavailable": "Retry it.",
    "home_unusable": "Free some space or mend the home's permissions, then retry.",
    "internal": "This is a mistake of the program. The journal holds the details; retry once, then report it.",
}


def advice(code: str) -> str:
    """What a person can do about a failure of this code."""
    return _ADVICE.get(code, "Look at what it says, mend it, then retry.")
