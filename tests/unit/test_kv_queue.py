"""KV blocks on their way to the disk: few, and never in the engine's way for long."""

from __future__ import annotations

import threading
import time

from monk.engine.kv_queue import BlockQueue
from tests.small_kv import (
    text,
)


def test_a_disk_that_is_behind_holds_the_engine_up_once_and_not_for_every_block() -> None:
    queue = BlockQueue(most_blocks=2, wait_seconds=0.2)
    blocks = text(1, 60)
    assert queue.offer(blocks[0])
    assert queue.offer(blocks[1])
    began = time.monotonic()

    assert not any(queue.offer(block) for block in blocks[2:])

    assert 0.2 <= time.monotonic() - began < 0.2 * 30
    assert queue.take() is blocks[0]
    assert queue.offer(blocks[2]), "there is room again"


def test_an_offer_waits_for_the_writer_rather_than_filling_the_memory() -> None:
    queue = BlockQueue(most_blocks=1, wait_seconds=60)
    blocks = text(1, 2)
    queue.offer(blocks[0])
    waiting = threading.Thread(target=queue.offer, args=(blocks[1],))
    waiting.start()

    assert queue.take() is blocks[0]
    waiting.join(30)
    assert blocks[0].key in queue
    assert blocks[1].key in queue
    queue.done()
    assert blocks[0].key not in queue
    assert not queue.wait_empty(0)


def test_closing_wakes_whoever_waits() -> None:
    queue = BlockQueue(most_blocks=1, wait_seconds=60)
    blocks = text(1, 2)
    queue.offer(blocks[0])
    answers: list[bool] = []
    waiting = threading.Thread(target=lambda: answers.append(queue.offer(blocks[1])))
    waiting.start()
    queue.close()
    waiting.join(30)

    assert answers == [False]
    assert queue.take() is blocks[0]
    queue.done()
    assert queue.take() is None
