"""The names of KV blocks."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from monk.engine.kv_key import chain, model_key


def test_a_block_is_named_by_everything_before_it() -> None:
    tokens = np.arange(100, dtype=np.int32)
    altered = tokens.copy()
    altered[20] += 1

    keys, other = chain(b"m" * 32, tokens, 16), chain(b"m" * 32, altered, 16)

    assert len(keys) == 6, "only whole blocks have names"
    assert keys[0] == other[0]
    assert set(keys[1:]).isdisjoint(other[1:])
    assert set(keys).isdisjoint(chain(b"n" * 32, tokens, 16))
    assert set(keys).isdisjoint(chain(b"m" * 32, tokens, 32))
    assert keys == chain(b"m" * 32, tokens.tolist(), 16)


def test_names_do_not_change_from_one_release_to_the_next() -> None:
    model = model_key({"model": "abc", "layers": 3})

    assert model == hashlib.blake2b(b'{"layers":3,"model":"abc"}', digest_size=32).digest()
    assert chain(model, [1, 2], 2) == [hashlib.blake2b(model + b"\1\0\0\0\2\0\0\0", digest_size=32).hexdigest()]


def test_fewer_tokens_than_a_block_have_no_name() -> None:
    assert chain(b"", [], 4) == chain(b"", [1, 2, 3], 4) == []


@pytest.mark.parametrize("block_tokens", [0, -1])
def test_a_block_of_no_tokens_is_refused(block_tokens: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        chain(b"", [1], block_tokens)


def test_the_order_of_a_models_facts_does_not_matter_and_each_value_does() -> None:
    facts = {"sha256": "ab", "rope": 10000.0, "adapters": [["x", 0.5]], "flash": None}

    assert model_key(facts) == model_key(dict(reversed(facts.items())))
    others = [{**facts, "rope": 10000.5}, {**facts, "adapters": [["x", 0.25]]}, {**facts, "flash": False}, {}]
    assert len({model_key(each) for each in (facts, *others)}) == 5


def test_a_fact_that_is_no_json_value_is_refused_rather_than_guessed() -> None:
    with pytest.raises(TypeError):
        model_key({"model": object()})
