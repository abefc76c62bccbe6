"""What a night is asked, and what is known of each answer: from a JSON file, so that anybody can write one for documents of
their own.

    {"questions": [{"id": "aes", "kind": "answerable", "question": "...", "files": ["a.pdf"], "facts": [["128", "16 bytes"]]}]}

`kind` is answerable, unanswerable or across (from several documents). `files` are those that hold the answer. Each of `facts`
is a list of spellings, one of which must stand in the answer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

KINDS = ("answerable", "unanswerable", "across")


@dataclass(frozen=True, slots=True)
class Known:
    """A question and what is known of its answer."""

    id: str
    kind: str
    question: str
    files: tuple[str, ...]
    facts: tuple[tuple[str, ...], ...]


def load(path: Path) -> list[Known]:
    """The questions of a file, in its order. Raises ValueError that names what is wrong."""
    known = [_known(one) for one in json.loads(path.read_text(encoding="utf-8"))["questions"]]
    if len({one.question for one in known}) != len(known):
        raise ValueError(f"{path}: a question stands there twice")
    return known


def _known(given: dict[str, object]) -> Known:
    kind, facts, files = str(given["kind"]), given.get("facts", []), given.get("files", [])
    assert isinstance(facts, list) and isinstance(files, list)
    if kind not in KINDS:
        raise ValueError(f"{given['id']}: kind is {kind!r}, not one of {', '.join(KINDS)}")
    if (kind == "unanswerable") == bool(facts):
        raise ValueError(f"{given['id']}: {kind} questions {'have no' if facts else 'need'} facts")
    return Known(str(given["id"]), kind, str(given["question"]), tuple(files), tuple(tuple(one) for one in facts))
