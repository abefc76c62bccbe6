"""What reaches the terminal. Everything a person, a document or a model wrote passes `clean` first: it may hold escapes
that move the cursor, rename the window or hide text. Knows streams; knows nothing of jobs."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x1b\\|[\x07\x9c])"  # OSC, DCS and kin, with their text
    r"|\x1b[ -/]*[0-~]"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")  # keeps \t and \n
_UNSAFE_IN_JSON = re.compile(r"[\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_BREAKS = re.compile(r"\r\n?|[\x85\u2028\u2029]")
WIDE_COLUMNS = 100  # of a terminal on which two texts are readable side by side


def clean(text: str) -> str:
    """The text without escape sequences, control characters and direction overrides; newlines and tabs stay."""
    return _CONTROLS.sub("", _SEQUENCES.sub("", _BREAKS.sub("\n", text)))


def one_line(text: str, most: int = 0) -> str:
    """The cleaned text on one line, cut to `most` characters with an ellipsis (0: not cut)."""
    flat = " ".join(clean(text).split())
    return flat if not most or len(flat) <= most else flat[: most - 1].rstrip() + "…"


def say(text: str = "") -> None:
    """One paragraph to stdout, cleaned."""
    sys.stdout.write(clean(text) + "\n")


def tell(text: str) -> None:
    """One line to stderr, cleaned: news beside the result."""
    sys.stderr.write(clean(text) + "\n")
    sys.stderr.flush()


def say_json(value: Any) -> None:
    """A value for programs. Characters that a terminal might obey are written as \\u escapes."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    sys.stdout.write(_UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n")


def console(*, stderr: bool = False) -> Console:
    """A rich console that takes nothing for markup. Plain and unwrapped unless a person is watching."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 10_000
    return Console(file=stream, markup=False, highlight=False, emoji=False, width=width)


def say_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, may_shrink: str = "") -> None:
    """Aligned columns. On a terminal the column `may_shrink` gives way; elsewhere nothing is cut."""
    from rich.table import Table
    from rich.text import Text

    out = console()
    shrinking = may_shrink in headers and out.is_terminal
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold", expand=shrinking)
    for header in headers:
        ratio = 1 if shrinking and header == may_shrink else None
        table.add_column(header, no_wrap=True, overflow="ellipsis", ratio=ratio)
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    with out.capture() as captured:
        out.print(table)
    sys.stdout.write("".join(line.rstrip() + "\n" for line in captured.get().splitlines()))


def say_markdown(text: str) -> None:
    """Markdown, set for reading on a terminal, and as it stands anywhere else."""
    out = console()
    if not out.is_terminal:
        say(text.rstrip("\n"))
        return
    from rich.markdown import Markdown

    out.print(Markdown(clean(text), hyperlinks=False))  # a link's text must not hide its address


def say_side_by_side(left: tuple[str, str], right: tuple[str, str]) -> None:
    """Two texts under their titles: in two columns on a wide terminal, elsewhere one under the other."""
    out = console()
    if not out.is_terminal or out.width < WIDE_COLUMNS:
        for title, text in (left, right):
            say(f"{title}\n{text}\n")
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold", expand=True, padding=(0, 2, 0, 0))
    for title, _ in (left, right):
        table.add_column(Text(one_line(title)), ratio=1, overflow="fold")
    table.add_row(*(Text(clean(text)) for _, text in (left, right)))
    out.print(table)
    out.print()
