"""A cross-encoder over the best passages: a tiny one, made here with drawn weights, through the real library."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from corpus.config import CorpusConfig
from corpus.embedding import HashingEmbedder, offline
from corpus.library import Library
from corpus.rerank import CrossEncoderModel
from db.database import Database
from monk.doctor.library import reranker_works
from monk.errors import ModelUnusable
from monk.settings import load

WORDS = ("cache", "memory", "night", "monk", "grows", "slowly", "opens", "closes", "experts", "what", "about")


def tiny(folder: Path, *, outputs: int = 1, head: bool = True) -> Path:
    """A BERT of one layer, its weights drawn from a fixed seed."""
    offline()
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertModel, BertTokenizerFast

    torch.manual_seed(7)
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS)))
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=5 + len(WORDS), num_labels=outputs, initializer_range=1.0, **shape)
    (BertForSequenceClassification if head else BertModel)(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("reranker") / "tiny")


@pytest.fixture
def config(tmp_path: Path) -> CorpusConfig:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(40):
        words = " ".join(WORDS[(number * 3 + i * (1 + number % 4)) % len(WORDS)] for i in range(4 + number % 5))
        (folder / f"{number:02}.txt").write_text(f"Memory number {number}. {words}.\n")
    return CorpusConfig(folder, tmp_path / "chroma")


@pytest.fixture
def plain(config: CorpusConfig, database: Database) -> Iterator[Library]:
    opened = Library(config, database, model=HashingEmbedder)
    opened.sync()
    yield opened
    opened.close()


def with_reranker(plain: Library, database: Database, model: Path) -> Library:
    config = CorpusConfig(plain.config.folder, plain.config.chroma_dir, reranker=str(model))
    plain.close()
    return Library(config, database, model=HashingEmbedder)


def test_the_best_thirty_stand_in_the_rerankers_order_and_the_rest_as_before(
    plain: Library, database: Database, model: Path
) -> None:
    question = "what grows in memory"
    before = [hit.passage_id for hit in plain.search(question, 40)]
    library = with_reranker(plain, database, model)
    try:
        after = library.search(question, 40)
        again = library.search(question, 40)
    finally:
        library.close()
    assert after == again
    ids = [hit.passage_id for hit in after]
    assert set(ids[:30]) == set(before[:30]) and ids[:30] != before[:30]
    assert ids[30:] == before[30:]
    assert [hit.score for hit in after] == sorted((hit.score for hit in after), reverse=True)
    assert after[29].score >= 1.0 > after[30].score


def test_scores_do_not_depend_on_what_else_is_scored(model: Path) -> None:
    reranker = CrossEncoderModel(str(model), threads=1)
    texts = ["memory grows slowly", "night", "the monk opens what the night closes " * 9, "experts"]
    together = reranker.scores("what about memory", texts)
    alone = [reranker.scores("what about memory", [text])[0] for text in texts]
    assert together == pytest.approx(alone, abs=1e-5)
    assert len(set(together)) == 4 and all(0.0 <= score <= 1.0 for score in together)
    assert reranker.scores("what about memory", []) == []


def test_an_unset_reranker_changes_nothing_and_the_doctor_says_nothing(tmp_path: Path) -> None:
    assert list(reranker_works(load({}, home=tmp_path))) == []


def test_the_doctor_tries_the_one_that_is_set(tmp_path: Path, model: Path) -> None:
    (finding,) = reranker_works(load({"MONK_RERANKER": str(model)}, home=tmp_path))
    assert finding.state == "ok" and "loaded and tried" in finding.text


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda folder: "no-such-model", "reranker 'no-such-model' is neither a folder nor on this machine"),
        (lambda folder: folder.mkdir() or folder, "holds no config.json"),
        (lambda folder: tiny(folder, head=False), "is a BertModel, no reranker"),
        (lambda folder: tiny(folder, outputs=3), "has 3 outputs"),
    ],
)
def test_what_is_no_reranker_is_told_with_the_way_out(tmp_path: Path, make: object, told: str) -> None:
    given = make(tmp_path / "model")  # type: ignore[operator]
    with pytest.raises(ModelUnusable, match=told) as failed:
        CrossEncoderModel(str(given), threads=1).scores("a", ["b"])
    assert failed.value.param == "reranker"


def test_damaged_weights_are_told_and_not_sorted_by(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tiny(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    save_file({name: values * float("nan") for name, values in weights.items()}, folder / "model.safetensors")
    with pytest.raises(ModelUnusable, match="no numbers"):
        CrossEncoderModel(str(folder), threads=1).scores("a", ["memory"])
    (folder / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelUnusable, match="cannot be loaded"):
        CrossEncoderModel(str(folder), threads=1).scores("a", ["memory"])


def test_a_search_with_an_unusable_reranker_fails_with_one_clear_error(
    plain: Library, database: Database, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text(json.dumps({"architectures": []}))
    library = with_reranker(plain, database, tmp_path / "empty")
    try:
        with pytest.raises(ModelUnusable, match="no reranker; give a sentence-transformers CrossEncoder, or unset"):
            library.search("memory", 3)
    finally:
        library.close()
