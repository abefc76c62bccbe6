"""How `monk doctor` prints what it found, and the settings in force."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from monk.cli.terminal import console, one_line, say, say_json, say_table

if TYPE_CHECKING:
    from monk.doctor.finding import Finding

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def say_findings(findings: Iterable[Finding], json: bool) -> int:
    """Print each finding as it comes. 2 if anything fails, else 0."""
    seen = []
    for finding in findings:
        seen.append(finding)
        if not json:
            _say(finding)
    failed = sum(1 for finding in seen if finding.state == "fail")
    if json:
        say_json({"ok": not failed, "findings": [asdict(finding) for finding in seen]})
    elif failed:
        say(f"\n{failed} of {len(seen)} checks failed")
    return 2 if failed else 0


def say_settings(home: Path | None, json: bool) -> None:
    """Every setting, its value, and whence it is. The token is never shown."""
    from monk.doctor.settings import in_force

    rows = in_force(home)
    if json:
        say_json([{"setting": key, "value": value, "from": source} for key, value, source in rows])
    else:
        say_table(("setting", "value", "from"), rows, may_shrink="value")


def _say(finding: Finding) -> None:
    from rich.text import Text

    line = Text(f"{finding.state:<5}", style=COLOURS[finding.state])
    line.append(f"{finding.check}: {one_line(finding.text)}", style="default")
    out = console()
    out.print(line, soft_wrap=True)
    if finding.remedy:
        out.print(Text(f"      → {one_line(finding.remedy)}"), soft_wrap=True)
