"""A passage of a document as a page of its own: what a citation's link opens. All of it is text; nothing in it is live."""

from __future__ import annotations

from corpus.retrieval import Hit
from monk.report.html import render
from monk.report.scrub import one_line, plain


def to_page(hit: Hit) -> str:
    """The page, complete in itself."""
    first = hit.place
    last = hit.end_page if hit.end_page is not None else hit.end_line
    span = f"{first.unit}s {first.number}–{last}" if last is not None and last > first.number else str(first)
    return render(
        "passage.html",
        file=one_line(hit.file, 500),
        title=one_line(hit.title, 300),
        heading=one_line(hit.heading, 500),
        place=span,
        text=plain(hit.text),
    )
