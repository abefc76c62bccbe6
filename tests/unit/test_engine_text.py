"""Text comes in whole characters and never shows a stop string."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from monk.engine.text import TextStream


def feed(pieces: list[bytes], stop: tuple[str, ...] = ()) -> tuple[list[str], TextStream]:
    stream = TextStream(stop)
    return [stream.push(piece) for piece in pieces], stream


def test_a_character_waits_for_its_last_byte() -> None:
    first, second = "ж".encode()[:1], "ж".encode()[1:]

    shown, stream = feed([b"a", first, second, b"b"])

    assert shown == ["a", "", "ж", "b"]
    assert stream.text == "aжb"


def test_half_a_character_at_the_end_is_left_out() -> None:
    _, stream = feed([b"ok", "€".encode()[:2]])

    assert stream.finish() == ""
    assert stream.text == "ok"


def test_bytes_that_are_no_text_are_marked() -> None:
    shown, _ = feed([b"\xff", b"x"])

    assert "".join(shown) == "\ufffdx"


def test_text_waits_while_it_may_become_a_stop_string() -> None:
    shown, stream = feed([b"one EN", b"D", b" two"], stop=("END.",))

    assert shown == ["one ", "", "END two"]
    assert not stream.stopped


def test_a_stop_string_across_pieces_ends_the_text() -> None:
    shown, stream = feed([b"one E", b"N", b"D. two"], stop=("END.",))

    assert shown == ["one ", "", ""]
    assert stream.stopped
    assert stream.finish() == ""
    assert stream.text == "one "


def test_the_earliest_of_several_stop_strings_wins() -> None:
    _, stream = feed([b"abcdef"], stop=("e", "bcd", "cd"))

    assert stream.text == "a"


def test_what_was_held_back_is_shown_at_the_end() -> None:
    _, stream = feed([b"the EN"], stop=("END",))

    assert stream.finish() == "EN"
    assert stream.text == "the EN"


@given(st.lists(st.text("ab€ж", max_size=4)), st.lists(st.text("ab€", min_size=1, max_size=3), max_size=3), st.data())
def test_however_bytes_are_cut_the_text_is_the_same(words: list[str], stops: list[str], data: st.DataObject) -> None:
    raw = "".join(words).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    pieces = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]

    shown, stream = feed(pieces, tuple(stops))
    rest = stream.finish()

    whole = raw.decode()
    places = [whole.find(stop) for stop in stops if stop in whole]
    if not stops:
        assert stream.text == whole
    assert "".join(shown) + rest == stream.text
    assert all(stop not in stream.text for stop in stops)
    assert stream.stopped == bool(places)
    assert whole.startswith(stream.text)
