"""The morning report: what was asked, what came of it, what is left, what it cost. Reads only the database.

    events after the last report ──▶ gather (JSON, kept) ──▶ compose (words) ──▶ markdown, html ──▶ files
                                          └──────────────▶ json

`gather.py` holds the schema. `scrub.py`, `escape.py` and `prose.py` stand between the report and what people, models and
documents wrote: a text can harm neither the terminal, nor the browser, nor the report's own structure.
"""

from monk.report.reporter import MorningReporter

__all__ = ["MorningReporter"]
