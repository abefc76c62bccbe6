"""The real embedding model over real documents, and what is said when it cannot be had."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import corpus
from corpus.citations import cite
from corpus.config import CorpusConfig
from corpus.embedding import SentenceModel, SharedModel, _embedded_folder
from corpus.library import Library
from corpus.passages import prepared
from corpus.readers import read_bytes
from db.database import Database
from jobs.answer import is_evidence
from monk.errors import ModelUnusable
from tests.bench.retrieval.questions import ANSWERABLE, UNANSWERABLE

STARTER = Path(corpus.__file__).parent / "starter"

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def model() -> SentenceModel:
    return SentenceModel(None, threads=1, batch=16)


@pytest.fixture
def library(tmp_path: Path, database: Database, model: SentenceModel) -> Iterator[Library]:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "kv.md").write_text(
        "# KV cache\n\nThe cache of keys and values grows with the length of the context, two tensors per layer.\n\n"
        "# Windows\n\nA night opens at ten in the evening and closes at seven in the morning.\n"
    )
    (folder / "pamyat.md").write_text("# Память\n\nСкорость ответа зависит от пропускной способности памяти сервера.\n")
    opened = Library(CorpusConfig(folder, tmp_path / "chroma"), database, model=lambda: model)
    opened.sync()
    yield opened
    opened.close()


def test_finds_what_is_meant_although_no_word_is_the_same(library: Library) -> None:
    best = library.search("When does the work begin each day?", 1)[0]
    assert best.heading == "Windows"
    assert best.similarity is not None and best.coverage == 0.0


def test_finds_russian_and_cites_it(library: Library) -> None:
    best = library.search("От чего зависит скорость ответов?", 1)[0]
    found = cite(best, "зависит от пропускной способности памяти")
    assert found is not None
    assert found.to_json() | {"passage": ""} == {
        "file": "pamyat.md",
        "line": 3,
        "quote": "зависит от пропускной способности памяти",
        "verified": True,
        "passage": "",
    }


def test_rows_come_in_the_order_of_the_texts_and_have_length_one(model: SentenceModel) -> None:
    texts = ["a", "much longer text about another thing entirely " * 3, "short text"]
    shared = SharedModel(model, 2)
    vectors = shared.embed_documents(texts)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    for text, vector in zip(texts, vectors, strict=True):
        assert float(vector @ shared.embed_documents([text])[0]) > 0.9999


def test_passages_of_the_handbook_fit_into_the_model(model: SentenceModel) -> None:
    files = sorted(path for path in STARTER.rglob("*") if path.suffix in (".md", ".html"))[:4]
    assert files
    for path in files:
        reading = read_bytes(path.name, path.read_bytes())
        passages = prepared(path.name, reading, model, 192, 0)
        assert max(model.count([passage.embedded_text for passage in passages])) <= model.max_tokens - 2
        assert max(model.count([passage.record.text for passage in passages])) <= 192


def test_what_the_handbook_answers_is_told_from_what_it_does_not(
    tmp_path: Path, database: Database, model: SentenceModel
) -> None:
    library = Library(CorpusConfig(STARTER, tmp_path / "chroma"), database, model=lambda: model)
    try:
        library.sync()
        found = {question: library.search(question, 6) for question, _ in ANSWERABLE}
        refused = [question for question, hits in found.items() if not is_evidence(hits)]
        answered = [question for question in UNANSWERABLE if is_evidence(library.search(question, 6))]
    finally:
        library.close()
    assert len(refused) <= 0.05 * len(ANSWERABLE), refused
    assert len(answered) <= 0.05 * len(UNANSWERABLE), answered
    astray = [question for question, file in ANSWERABLE if file not in {hit.file for hit in found[question]}]
    assert len(astray) <= 0.05 * len(ANSWERABLE), astray


def test_a_model_with_other_weights_is_refused_where_the_pinned_one_belongs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(_embedded_folder(), tmp_path / "model")
    with (tmp_path / "model" / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    monkeypatch.setattr("corpus.embedding._embedded_folder", lambda: tmp_path / "model")
    with pytest.raises(ModelUnusable, match=r"SHA-256.*reinstall"):
        SentenceModel(None, threads=1, batch=8)


def test_a_model_by_path_is_used_with_its_own_prompts(tmp_path: Path, model: SentenceModel) -> None:
    folder = tmp_path / "my-e5-small"
    shutil.copytree(_embedded_folder(), folder)
    other = SentenceModel(str(folder), threads=1, batch=8)
    assert other.key == model.key, "the same files are the same model, wherever they lie"
    same = "one and the same text"
    assert float(other.embed_query(same) @ other.embed_documents([same])[0]) < 0.999, (
        "E5 prefixes questions and passages"
    )


def test_a_model_with_damaged_weights_is_told(tmp_path: Path) -> None:
    shutil.copytree(_embedded_folder(), tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelUnusable, match="cannot be loaded"):
        SentenceModel(str(tmp_path / "model"), threads=1, batch=8).count(["a"])


@pytest.mark.parametrize("name", ["no-such-model", "nobody/no-such-model", "/no/such/folder", "not a name at all!"])
def test_a_model_that_is_not_here_is_told_with_the_way_to_get_it(name: str) -> None:
    with pytest.raises(ModelUnusable, match="neither a folder nor on this machine"):
        SentenceModel(name, threads=1, batch=8)


def test_a_folder_that_is_no_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable, match="no weights"):
        SentenceModel(str(tmp_path), threads=1, batch=8)
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelUnusable, match="cannot be loaded"):
        SentenceModel(str(tmp_path), threads=1, batch=8).count(["a"])
