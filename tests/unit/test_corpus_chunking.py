"""Chunks: exact slices, in order, within the limit, covering every block."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from corpus.chunking import chunk
from corpus.embedding import HashingEmbedder
from corpus.passages import prepared
from corpus.readers import read_bytes
from corpus.reading import Reading


def words(texts: list[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def characters(texts: list[str]) -> list[int]:
    return [len("".join(text.split())) for text in texts]


def markdown(text: str) -> Reading:
    return read_bytes("a.md", text.encode("utf-8", "replace"))


LINES = st.lists(
    st.sampled_from(
        [
            "# Head",
            "## Sub head",
            "Some words stand here.",
            "Ещё одно предложение. И второе!",
            "",
            "- item",
            "字" * 30,
            "x" * 50,
        ]
    ),
    min_size=1,
    max_size=40,
)


@given(LINES, st.integers(4, 40), st.integers(0, 6))
def test_every_chunk_is_a_slice_in_order_and_within_the_limit(lines: list[str], limit: int, overlap: int) -> None:
    reading = markdown("word\n\n" + "\n".join(lines))
    chunks = chunk(reading, characters, limit, overlap)
    for piece in chunks:
        assert characters([reading.text[piece.start : piece.end]])[0] <= limit
    assert [piece.start for piece in chunks] == sorted(piece.start for piece in chunks)
    if overlap == 0:
        assert all(first.end <= second.start for first, second in pairwise(chunks))


@given(LINES, st.integers(4, 40), st.integers(0, 6))
def test_nothing_that_stands_in_a_block_is_left_out(lines: list[str], limit: int, overlap: int) -> None:
    reading = markdown("word\n\n" + "\n".join(lines))
    covered = {
        offset for piece in chunk(reading, characters, limit, overlap) for offset in range(piece.start, piece.end)
    }
    for block in reading.blocks:
        for offset in range(block.start, block.end):
            assert offset in covered or reading.text[offset].isspace()


@given(LINES)
def test_the_text_of_a_passage_is_the_documents_text_from_start_to_end(lines: list[str]) -> None:
    reading = markdown("word\n\n" + "\n".join(lines)).titled("a.md")
    records = [passage.record for passage in prepared("a.md", reading, HashingEmbedder(), 16, 4)]
    for record in records:
        assert reading.text[record.start : record.end] == record.text
        assert record.line == reading.text.count("\n", 0, record.start) + 1
        assert record.end_line == reading.text.count("\n", 0, record.end - 1) + 1
    assert len({record.id for record in records}) == len(records)


def test_a_sentence_is_not_cut_while_it_fits() -> None:
    text = "One two three four. Five six seven eight. Nine ten eleven twelve."
    reading = markdown(text)
    assert [text[piece.start : piece.end] for piece in chunk(reading, words, 9)] == [
        "One two three four. Five six seven eight.",
        "Nine ten eleven twelve.",
    ]


def test_a_section_begins_its_own_chunk_and_carries_its_heading() -> None:
    body = "Words that fill the space of this section well enough."
    reading = markdown(f"# One\n\n{body}\n\n## Two\n\n{body}\n")
    chunks = chunk(reading, words, 30)
    assert [piece.headings for piece in chunks] == [("One",), ("One", "Two")]
    assert reading.text[chunks[1].start :].startswith("## Two")


def test_small_sections_share_a_chunk_under_the_heading_they_share() -> None:
    reading = markdown("# Log\n\n## 1.1\n\nFixed.\n\n## 1.0\n\nNew.\n")
    assert [piece.headings for piece in chunk(reading, words, 100)] == [("Log",)]


def test_a_heading_does_not_stay_behind_its_section() -> None:
    reading = markdown("Six words stand in this text.\n\n# Head\n\nSix words stand in this one.\n")
    chunks = chunk(reading, words, 8)
    assert reading.text[chunks[-1].start : chunks[-1].end].startswith("# Head")


def test_overlap_repeats_whole_sentences_only() -> None:
    text = "One two three. Four five six. Seven eight nine. Ten eleven twelve."
    reading = markdown(text)
    pieces = [text[piece.start : piece.end] for piece in chunk(reading, words, 6, 3)]
    assert pieces == [
        "One two three. Four five six.",
        "Four five six. Seven eight nine.",
        "Seven eight nine. Ten eleven twelve.",
    ]


def test_a_million_characters_without_a_space_are_cut_in_good_time() -> None:
    reading = read_bytes("a.txt", b"x" * 1_000_000)
    assert all(piece.end - piece.start <= 200 for piece in chunk(reading, characters, 200))


def test_a_passage_keeps_its_id_when_only_what_stands_above_it_changed() -> None:
    body = "The same words stand in this section as before, and they are many."
    before = prepared("a.md", markdown(f"# T\n\nshort\n\n## S\n\n{body}").titled("a"), HashingEmbedder(), 16, 0)
    after = prepared(
        "a.md", markdown(f"# T\n\nshort but other\n\n## S\n\n{body}").titled("a"), HashingEmbedder(), 16, 0
    )
    assert before[-1].record.id == after[-1].record.id
    assert before[0].record.id != after[0].record.id
