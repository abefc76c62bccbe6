"""A citation's link opens the passage, as data or as a page, and nothing that stands in the passage is live there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from starlette.testclient import TestClient

from corpus.config import CorpusConfig
from corpus.library import Library
from db.database import Database
from db.library import DocumentRecord, LibraryTables, PassageRecord
from monk.api import create_app
from tests.small_house import small_house

HOSTILE = "</blockquote><script>alert(1)</script> <img src=http://e.org/p.png> \x1b[2J \u202e"
IDS = [f"{number:032x}" for number in range(4)]


def record(path: str) -> DocumentRecord:
    now = datetime(2026, 11, 22, 23, 0, tzinfo=UTC)
    return DocumentRecord(path, "00", 10, 0, "T", path.rpartition(".")[2], None, 100, True, None, "k", now)


def passage(
    id_: str, text: str, *, line: int | None = None, page: int | None = None, end: int | None = None
) -> PassageRecord:
    ends = (None, end) if line is not None else (end, None)
    return PassageRecord(id_, text, "H", page, line, *ends, 0, len(text), (), "", "", text)


@pytest.fixture
def client(database: Database) -> Iterator[TestClient]:
    tables = LibraryTables(database)
    tables.save(
        [
            (record("a.md"), [passage(IDS[0], "first words", line=1, end=4), passage(IDS[1], HOSTILE, line=9, end=9)]),
            (record("b & c?.pdf"), [passage(IDS[2], "page three", page=3, end=4)]),
        ]
    )
    library = Library(CorpusConfig(database.path.parent, database.path.parent / "chroma"), database)
    services = replace(small_house(database), library=library)
    with TestClient(create_app(services), base_url="http://127.0.0.1") as client:
        yield client


def test_a_passage_is_told_with_its_place(client: TestClient) -> None:
    told = client.get(f"/corpus/passages/{IDS[0]}").json()

    assert (told["file"], told["place"], told["to"], told["text"]) == ("a.md", {"line": 1}, {"line": 4}, "first words")


def test_a_browser_gets_a_page_on_which_the_document_is_only_text(client: TestClient) -> None:
    answer = client.get(f"/corpus/passages/{IDS[1]}", headers={"accept": "text/html,*/*"})

    page = answer.text[answer.text.index("<body>") :]
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert set(re.findall(r"<(\w+)", page)) == {"body", "main", "h3", "p", "cite", "br", "span", "blockquote"}
    assert "&lt;script&gt;alert(1)" in page
    assert not re.search("[\x1b\u202e]", page)
    assert "a.md</cite>, line 9" in page


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"file": "a.md", "line": 3}, 0),
        ({"file": "a.md", "line": 9}, 1),
        ({"file": "a.md", "line": 1000}, 1),
        ({"file": "a.md"}, 0),
        ({"file": "b & c?.pdf", "page": 4}, 2),
        ({"file": "b & c?.pdf", "page": 1}, 2),
    ],
)
def test_a_place_of_a_document_leads_to_its_passage(client: TestClient, query: dict[str, str], found: int) -> None:
    assert client.get("/corpus/passages", params=query).json()["passage_id"] == IDS[found]


def test_what_is_not_there_is_told(client: TestClient) -> None:
    assert client.get(f"/corpus/passages/{IDS[3]}").status_code == 404
    assert client.get("/corpus/passages", params={"file": "../../etc/passwd"}).status_code == 404
    assert client.get("/corpus/passages", params={"file": "a.md", "line": 0}).status_code == 400
    assert client.get("/corpus/passages", params={"file": "a.md", "line": 1, "page": 1}).status_code == 400
    assert client.get("/corpus/passages/%3Cscript%3E").json()["error"]["code"] == "not_found"
