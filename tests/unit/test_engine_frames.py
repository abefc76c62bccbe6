"""KV images change their frame without changing a cell, and nonsense is refused."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monk.engine.frames import MARGIN_BYTES, Image, empty_buffer

Blob = npt.NDArray[np.uint8]


def written(num_streams: int, stream: int, cells: bytes) -> Blob:
    """What llama.cpp writes for a sequence in one of several streams. `cells` begin with their count, which is not 0."""
    counts = np.array([num_streams], "<u4").tobytes()
    empty = bytes(4)
    data = b"\x01\x02\x03\x04\x05\x06\x07\x08" + counts + empty * stream + cells + empty * (num_streams - 1 - stream)
    return np.frombuffer(data, np.uint8).copy()


cells = st.binary(min_size=4, max_size=80).map(lambda data: b"\x01" + data)
shapes = st.integers(1, 256).flatmap(lambda count: st.tuples(st.just(count), st.integers(0, count - 1)))


@given(shapes, cells, st.integers(1, 256), st.booleans())
def test_any_frame_becomes_any_other(shape: tuple[int, int], data: bytes, wanted: int, roomy: bool) -> None:
    blob = written(*shape, data)
    image = Image.of(blob)
    if roomy:
        buffer = empty_buffer(len(blob))
        buffer[MARGIN_BYTES : MARGIN_BYTES + len(blob)] = blob
        image = Image.read(buffer, MARGIN_BYTES, MARGIN_BYTES + len(blob))

    assert image.framed(wanted).tobytes() == written(wanted, 0, data).tobytes()
    assert image.payload.tobytes() == written(1, 0, data).tobytes()


def test_reframing_copies_nothing_where_there_is_room() -> None:
    blob = written(16, 5, b"\x01" * 1000)
    buffer = empty_buffer(len(blob))
    buffer[MARGIN_BYTES : MARGIN_BYTES + len(blob)] = blob

    image = Image.read(buffer, MARGIN_BYTES, MARGIN_BYTES + len(blob))

    assert np.shares_memory(image.framed(1), buffer)
    assert np.shares_memory(image.framed(256), buffer)


def test_memory_that_cannot_be_written_is_copied() -> None:
    blob = written(1, 0, b"\x01" * 100)
    blob.flags.writeable = False

    assert Image.of(blob).framed(4).tobytes() == written(4, 0, b"\x01" * 100).tobytes()


@pytest.mark.parametrize("size", range(16))
def test_what_is_cut_off_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="KV image"):
        Image.of(written(1, 0, b"\x01" * 50)[:size])


@pytest.mark.parametrize("count", [0, 257, 1 << 31])
def test_a_nonsensical_number_of_streams_is_refused(count: int) -> None:
    blob = written(1, 0, b"\x01" * 50)
    blob[8:12] = np.array([count], "<u4").view(np.uint8)

    with pytest.raises(ValueError, match="streams"):
        Image.of(blob)
