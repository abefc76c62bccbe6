"""The words of `monk bench` as fields of a job."""

from __future__ import annotations

import pytest

from monk.cli.bench import _needle, _numbers
from monk.cli.follow import Voices
from monk.client import ServerEvent
from monk.errors import InvalidInput


def test_numbers_are_written_with_commas_and_k() -> None:
    assert _numbers("0, 512,4k,128K", "--depths") == [0, 512, 4096, 131072]
    assert _numbers(None, "--depths") == _numbers("", "--depths") == []
    for wrong in ("-1", "1.5", "k", "4kk", "9" * 12, "²"):
        with pytest.raises(InvalidInput, match="write whole numbers"):
            _numbers(wrong, "--depths")


def test_of_a_needle_only_what_was_said_is_sent() -> None:
    assert _needle(0, None, None, None, 0) == {}
    assert _needle(8192, "1k,4k", "0,50,99.5", "1,3", 2) == {
        "context": 8192,
        "lengths": [1024, 4096],
        "depths": [0.0, 50.0, 99.5],
        "needles": [1, 3],
        "trials": 2,
    }


def test_who_follows_sees_each_figure_as_it_comes() -> None:
    rate = {"mean": 41.25, "deviation": 0.5}
    point = {"test": "answer", "tokens": 64, "rows": 4, "depth": 1024, "flash": False, "type_k": "f16", "type_v": "f16"}
    voices = Voices()

    def heard(type_: str, **data: object) -> str:
        return voices.hear(ServerEvent(1, type_, {"data": data}))

    assert "tokens, 8.0 a second" in heard("bench-filling", tokens=512, of=1024, tokens_per_second=8.0)
    measured = heard("bench-measured", **point, threads=2, tokens_per_second=rate)
    assert measured == "· answer 64 x 4 behind 1024, flash off, KV f16,f16, 2 threads: 41.25 ± 0.50 tokens/s\n"
    assert "not measured, no room" in heard("bench-measured", **point, threads=2, refused="no room")
    assert heard("bench-repeat", number=1) == ""
