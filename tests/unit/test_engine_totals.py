"""Counters go on over the deaths of children."""

from __future__ import annotations

from monk.engine.totals import Totals


def test_sums_go_on_over_children_and_what_is_held_does_not() -> None:
    totals = Totals()
    totals.now = {"active": 2, "prefill_tokens": 100, "kv_hits": 3, "kv_seconds_saved": 1.5, "kv_bytes_held": 4096}
    totals.end_of_child()
    assert totals.active == 0
    assert (totals.kv().hits, totals.kv().bytes_held) == (3, 0)

    totals.now = {"active": 1, "prefill_tokens": 10, "kv_hits": 2, "kv_seconds_saved": 0.25, "kv_bytes_held": 8192}

    assert totals.active == 1
    assert totals.whole("prefill_tokens") == 110
    assert totals.kv().hits == 5
    assert totals.kv().seconds_saved == 1.75
    assert totals.kv().bytes_held == 8192


def test_without_a_store_there_are_zeros() -> None:
    assert Totals().kv().blocks_written == 0
