"""Segments become tokens; what crosses the socket comes out as it went in."""

from __future__ import annotations

import json
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monk.engine import wire, words
from monk.engine.client import (
    Finished,
    Message,
    NewTokens,
    PrefillProgress,
    Sampling,
    Segment,
    Thinking,
    ThoughtRequest,
    TokenLogprob,
)
from monk.engine.scripted import BEGIN, CONTROL_TOKENS, FIRST_CONTROL, ByteVocabulary
from monk.errors import ContextTooLong, EngineFailed


def test_text_is_cut_behind_the_first_character_of_what_it_spells() -> None:
    assert words.broken_up("a<b><b>c", ("<b>",)) == ["a<", "b><", "b>c"]
    assert words.broken_up("a<<bb>b>", ("<bb>", "<<bb>b>")) == ["a<", "<", "bb>b>"]
    assert words.broken_up("plain", ("<b>",)) == ["plain"]
    assert words.broken_up("plain", ()) == ["plain"]


@given(st.lists(st.sampled_from([*CONTROL_TOKENS, "<|im_", "end|>", "ж", " "])))
def test_people_cannot_write_control_tokens(parts: list[str]) -> None:
    text = "".join(parts)
    ids = words.tokenize(ByteVocabulary(), [Segment(text, control=False)], CONTROL_TOKENS, add_bos=False)

    assert all(token < FIRST_CONTROL for token in ids)
    assert words.detokenize(ByteVocabulary(), ids) == text


def test_the_begin_token_is_added_once() -> None:
    def ids(*segments: Segment, add_bos: bool = True) -> list[int]:
        return words.tokenize(ByteVocabulary(), segments, CONTROL_TOKENS, add_bos)

    assert ids(Segment("a", True), Segment("b", False)) == [BEGIN, 97, 98]
    assert ids(Segment("<|begin|>a", True)) == [BEGIN, 97]
    assert ids(Segment("a", True), add_bos=False) == [97]
    assert ids(Segment("", True), Segment("<|begin|>", False))[0] == BEGIN


@pytest.mark.parametrize(
    "message",
    [
        PrefillProgress(3, 9),
        NewTokens((1, 2), "привет"),
        NewTokens((1,), "\ud800", (TokenLogprob(-0.5, ((1, -0.5), (2, -1.0))),)),
        Finished("stop", "ok", 1, 2, 0.5, 0.25),
    ],
)
def test_messages_cross_the_wire(message: Message) -> None:
    ours, theirs = socket.socketpair()
    sender, receiver = wire.Channel(ours), wire.Channel(theirs)

    sender.send({"message": wire.message_to_json(message)})
    frames = receiver.receive()

    assert frames is not None
    assert wire.message_from_json(frames[0]["message"]) == message
    sender.close()
    assert receiver.receive() is None
    receiver.close()


def test_frames_are_put_together_however_they_arrive() -> None:
    ours, theirs = socket.socketpair()
    receiver = wire.Channel(theirs)
    body = json.dumps({"a": 1}).encode()
    data = len(body).to_bytes(4, "big") + body
    got: list[wire.Frame] = []
    for piece in (data[:2], data[2:7], data[7:] + data + data[:5], data[5:]):
        ours.sendall(piece)
        got += receiver.receive() or []

    assert got == [{"a": 1}] * 3
    ours.close()
    receiver.close()


def test_a_frame_of_absurd_length_breaks_the_channel() -> None:
    ours, theirs = socket.socketpair()
    ours.sendall(b"\xff\xff\xff\xff")

    with pytest.raises(ConnectionError):
        wire.Channel(theirs).receive()
    ours.close()
    theirs.close()


def test_requests_and_errors_cross_the_wire() -> None:
    request = ThoughtRequest(
        "t",
        (1, 2),
        9,
        Sampling(logit_bias={7: -1.5}, json_schema={"type": "object"}),
        ("x",),
        (3,),
        thinking=Thinking((1,), (2,), (3, 2), opened=True, tokens=4),
    )
    error = ContextTooLong("too long", param="prompt", num_tokens=9, limit_tokens=4)

    assert wire.request_from_json(json.loads(json.dumps(wire.request_to_json(request)))) == request
    back = wire.error_from_json(json.loads(json.dumps(wire.error_to_json(error))))
    assert type(back) is ContextTooLong
    assert (back.message, back.param, back.facts) == (error.message, error.param, error.facts)
    assert type(wire.error_from_json({"class": "Exotic", "message": "m", "param": None, "facts": {}})) is EngineFailed
