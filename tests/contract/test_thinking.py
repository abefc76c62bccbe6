"""What every engine promises of a model that marks its thinking: on the scripted one, and on a real child with a tiny model
whose vocabulary has the marks."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace

import pytest

from monk.budget import SENTENCE, thinking_of
from monk.engine.client import EngineClient, NewTokens, Sampling, Segment, ThoughtRequest
from monk.engine.config import EngineConfig
from monk.engine.process import EngineProcess
from monk.engine.scripted import ScriptedEngine
from monk.engine.template import split_thinking
from monk.errors import EngineDied
from tests.contract.test_engine import Subject, hear, hear_until
from tests.engine_models import write_tiny_model

LONG = "<think>" + "It may be so, or it may not be so. " * 40 + "</think>The answer is yes. " * 8


@pytest.fixture(scope="module", params=["scripted", pytest.param("real", marks=pytest.mark.real)])
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    if request.param == "scripted":
        scripted = ScriptedEngine(lambda *_: LONG, token_delay_seconds=0.001, context=1024, thinks=True)
        yield Subject(scripted, scripted.die)
        scripted.stop()
        return
    model = write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf", marks=("<think>", "</think>"))
    # every token is told at once: a kill must find the thought in the middle, and a tiny model says 200 in 0.1 s
    real = EngineProcess(EngineConfig(model, context=512, slots=4, threads=1, flush_seconds=0.0))
    yield Subject(real, lambda: os.kill(real.status().pid or 0, signal.SIGKILL))
    real.stop()


@pytest.fixture
def engine(subject: Subject) -> EngineClient:
    return subject.engine


# a script follows no grammar
only_real = pytest.mark.parametrize("subject", [pytest.param("real", marks=pytest.mark.real)], indirect=True)


def asking(engine: EngineClient, name: str, share: float, max_tokens: int = 200, **sampling: object) -> ThoughtRequest:
    """A thought in the middle of whose thinking part the prompt ends; END is forbidden, as tiny models love it."""
    segments = [Segment("<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n<think>", control=True)]
    ends = engine.tokenize([Segment("<|im_start|><|im_end|></think><think>", control=True)], add_bos=False)
    options = Sampling(logit_bias=dict.fromkeys(ends, -100.0), **sampling)  # type: ignore[arg-type]
    thinking = thinking_of(engine, share, max_tokens, opened=True)
    return ThoughtRequest(name, tuple(engine.tokenize(segments)), max_tokens, options, thinking=thinking)


def ids_of(engine: EngineClient, text: str) -> tuple[int, ...]:
    return tuple(engine.tokenize([Segment(text, control=True)], add_bos=False))


def test_the_marks_come_from_the_vocabulary(engine: EngineClient) -> None:
    thinking = thinking_of(engine, 0.5, 400, opened=False)

    assert thinking is not None
    assert (thinking.opening, thinking.ending) == (ids_of(engine, "<think>"), ids_of(engine, "</think>"))
    assert thinking.closing[-3:] == ids_of(engine, "</think>\n\n")
    assert (thinking.tokens or 0) + len(thinking.closing) == 200


def test_the_part_ends_at_its_share_and_an_answer_follows(engine: EngineClient) -> None:
    request = asking(engine, "share", 0.5)
    assert request.thinking is not None and request.thinking.tokens is not None

    heard = hear(engine.think(request))

    last = request.thinking.tokens + len(request.thinking.closing)
    assert heard.ids[request.thinking.tokens : last] == request.thinking.closing
    assert len(heard.ids) == 200 and heard.finished.reason == "length"
    reasoning, answer = split_thinking(heard.finished.text, opened=True)
    assert reasoning.endswith(SENTENCE.strip()) and answer
    assert heard.text == heard.finished.text


def test_a_small_limit_gets_the_mark_alone(engine: EngineClient) -> None:
    request = asking(engine, "small", 0.5, max_tokens=12)
    assert request.thinking is not None

    heard = hear(engine.think(request))

    assert request.thinking.closing == ids_of(engine, "</think>\n\n")
    assert heard.ids[3:6] == request.thinking.closing
    assert len(heard.ids) == 12


def test_a_share_of_nothing_answers_at_once_and_one_of_all_thinks_to_the_end(engine: EngineClient) -> None:
    nothing = hear(engine.think(asking(engine, "nothing", 0.0, 40)))
    everything = hear(engine.think(asking(engine, "everything", 1.0, 40)))

    assert nothing.ids[:3] == ids_of(engine, "</think>\n\n")
    assert split_thinking(everything.finished.text, opened=True)[1] == ""


def test_stop_strings_begin_behind_the_part(engine: EngineClient) -> None:
    request = asking(engine, "stop-plain", 0.5)
    assert request.thinking is not None
    whole = hear(engine.think(request)).finished.text
    thought, answer = whole.split("</think>\n\n")
    word = next(letter for letter in answer if letter in thought and letter.isascii() and letter.isprintable())

    heard = hear(engine.think(replace(request, id="stop", stop=(word,))))

    assert heard.finished.reason == "stop"
    assert heard.finished.text == f"{thought}</think>\n\n{answer[: answer.index(word)]}"


def test_a_killed_engine_goes_on_in_the_middle_of_the_forced_words(subject: Subject) -> None:
    engine = subject.engine
    request = asking(engine, "whole", 0.4, temperature=0.8, top_k=20, seed=3)
    assert request.thinking is not None and request.thinking.tokens is not None
    whole = hear(engine.think(request))

    for place in (5, request.thinking.tokens, request.thinking.tokens + 10, 150):
        stream = engine.think(replace(request, id=f"killed-{place}", saved=whole.ids[:place]))
        saved = [*whole.ids[:place], *hear_until(stream, 1)]
        if place == request.thinking.tokens + 10:
            subject.kill()
            with pytest.raises(EngineDied):
                for message in stream:
                    saved += message.ids if isinstance(message, NewTokens) else ()
            stream = engine.think(replace(request, id=f"resumed-{place}", saved=tuple(saved)))
        rest = hear(stream)
        assert (*saved, *rest.ids) == whole.ids, f"cut at {place}"


def test_many_thoughts_with_other_budgets_do_not_disturb_each_other(engine: EngineClient) -> None:
    shares = (0.2, 0.4, 0.6, 0.8, 1.0)
    alone = [hear(engine.think(asking(engine, f"alone-{share}", share))).ids for share in shares]

    streams = [engine.think(asking(engine, f"together-{share}", share)) for share in shares]

    assert [hear(stream).ids for stream in streams] == alone


@only_real
def test_a_grammar_begins_behind_the_part(subject: Subject) -> None:
    engine = subject.engine
    request = asking(engine, "grammar", 0.5, 60, grammar='root ::= "yes" | "no"')
    free = hear(engine.think(asking(engine, "free", 0.5, 60)))
    assert request.thinking is not None and request.thinking.tokens is not None

    heard = hear(engine.think(request))
    resumed = hear(engine.think(replace(request, id="resumed", saved=heard.ids[: request.thinking.tokens + 3])))

    assert heard.ids[: request.thinking.tokens] == free.ids[: request.thinking.tokens]
    assert split_thinking(heard.finished.text, opened=True)[1] in ("yes", "no")
    assert resumed.finished.text == heard.finished.text


@only_real
def test_a_model_that_could_have_thought_but_answers_is_held_to_the_grammar(subject: Subject) -> None:
    engine = subject.engine
    request = asking(engine, "direct", 0.5, 60, grammar='root ::= "yes" | "no"')
    assert request.thinking is not None

    heard = hear(engine.think(replace(request, thinking=replace(request.thinking, opened=False))))

    assert heard.finished.text in ("yes", "no")
