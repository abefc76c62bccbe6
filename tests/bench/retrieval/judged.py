"""Judged collections on disk in the BEIR layout: documents, questions, and which documents answer which question."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FILES = ("corpus.jsonl", "queries.jsonl")
Judgements = dict[str, dict[str, int]]  # question id → document id → grade


@dataclass(frozen=True, slots=True)
class Collection:
    """One collection. `splits` names its sets of judged questions: "train", "test"; "judged" where there is only one."""

    name: str
    documents: dict[str, tuple[str, str]]  # id → (title, text)
    questions: dict[str, str]
    splits: dict[str, Judgements]


def data_folder(given: Path | None) -> Path | None:
    """The folder to measure with: as given, else MONK_EVAL_DATA; None when there is none."""
    folder = given or (Path(os.environ["MONK_EVAL_DATA"]) if os.environ.get("MONK_EVAL_DATA") else None)
    return folder if folder is not None and folder.is_dir() else None


def collections(folder: Path, names: list[str]) -> Iterator[Collection]:
    """The collections in the folders of `folder`, by name; all of them when no names are given."""
    for part in sorted(folder.iterdir()):
        if (not names or part.name in names) and all((part / file).is_file() for file in _FILES):
            yield collection(part)


def collection(folder: Path) -> Collection:
    """One collection: corpus.jsonl, queries.jsonl, and qrels.tsv or qrels/*.tsv."""
    documents = {row["_id"]: (row.get("title") or "", row["text"]) for row in _rows(folder / "corpus.jsonl")}
    questions = {row["_id"]: row["text"] for row in _rows(folder / "queries.jsonl")}
    single = folder / "qrels.tsv"
    files = {"judged": single} if single.is_file() else {file.stem: file for file in sorted(folder.glob("qrels/*.tsv"))}
    return Collection(folder.name, documents, questions, {name: _judgements(file) for name, file in files.items()})


def halves(judgements: Judgements) -> tuple[Judgements, Judgements]:
    """Every other question, by id: one half to choose parameters on, the other to see what they are worth."""
    ids = sorted(judgements)
    return {id: judgements[id] for id in ids[::2]}, {id: judgements[id] for id in ids[1::2]}


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                yield json.loads(line)


def _judgements(file: Path) -> Judgements:
    found: Judgements = {}
    with file.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            if int(row["score"]) > 0:
                found.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    return found
