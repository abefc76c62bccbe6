"""Source code: lines as they stand, sections by definition, whatever the language."""

from __future__ import annotations

import time

import pytest

from corpus.readers import read_bytes
from corpus.reading import Reading


def headings_over(reading: Reading, words: str) -> tuple[str, ...]:
    offset = reading.text.index(words)
    return next(block.headings for block in reading.blocks if block.start <= offset < block.end)


PYTHON = '''"""What it is for."""

import os

LIMIT = 3


@cached
class Shelf(Base):
    """Books."""

    def find(self, name: str) -> Book:
        # first look here
        return self.books[name]


# what comes
# after it
def sort(books):
    return sorted(books)


main(LIMIT)
'''


def test_python_is_parted_by_class_and_function() -> None:
    reading = read_bytes("a.py", PYTHON.encode())
    assert reading.text == PYTHON
    assert headings_over(reading, "return self.books") == ("class Shelf", "def find")
    assert headings_over(reading, "return sorted") == ("def sort",)
    assert headings_over(reading, "after it") == ("def sort",), "comments right above a definition belong to it"
    assert headings_over(reading, "@cached") == ("class Shelf",)
    assert headings_over(reading, "LIMIT = 3") == ()
    assert headings_over(reading, "main(LIMIT)") == ()
    assert str(reading.place_at(reading.text.index("return sorted"))) == "line 20"


@pytest.mark.parametrize(
    ("name", "source", "words", "path"),
    [
        (
            "a.rs",
            "pub struct A;\n\nimpl A {\n    pub async fn run(&self) {\n        go();\n    }\n}\n",
            "go()",
            ("impl A", "pub async fn run"),
        ),
        ("a.go", "package x\n\nfunc (s *Shelf) Find(n string) int {\n\treturn 7\n}\n", "return 7", ("func",)),
        (
            "a.c",
            "#include <x.h>\n\nstatic int\tfind(const char *n)\n{\n    return 7;\n}\n",
            "return 7",
            ("static int find",),
        ),
        ("a.ts", "export default class Shelf {\n  x = 1;\n}\n", "x = 1", ("export default class Shelf",)),
        ("a.java", "public final class A {\n    int x;\n}\n", "int x", ("public final class A",)),
        ("a.sql", "CREATE TABLE books (\n  id INTEGER\n);\n", "id INTEGER", ("CREATE TABLE books",)),
    ],
)
def test_other_languages_are_too(name: str, source: str, words: str, path: tuple[str, ...]) -> None:
    assert headings_over(read_bytes(name, source.encode()), words) == path


def test_blocks_are_in_order_and_hold_every_line_that_says_something() -> None:
    reading = read_bytes("a.py", PYTHON.encode())
    previous, covered = 0, ""
    for block in reading.blocks:
        assert previous <= block.start < block.end
        previous = block.end
        covered += reading.text[block.start : block.end]
    assert "".join(covered.split()) == "".join(PYTHON.split())


@pytest.mark.parametrize(
    "source",
    [
        "def " * 100_000,
        "a" * 400_000,
        "a(" * 200_000,
        "int a " * 60_000,
        "\n".join("int aaaa bbbb(" + "c " * 70 for _ in range(4000)),
        "pub " * 100_000,
        "    " * 100_000 + "x",
        "class a:\n" * 50_000,
        "# comment\n" * 50_000,
    ],
    ids=range(9),
)
def test_the_worst_of_sources_takes_seconds(source: str) -> None:
    began = time.process_time()
    read_bytes("a.py", source.encode())
    assert time.process_time() - began < 5.0
