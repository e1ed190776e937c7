"""Frames: what goes in comes out, however the stream is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.model.errors import CallerError
from coordinator.model.framing import EMPTY, Splitter, frame, frames, unframed

VALUES = st.lists(st.binary(min_size=1, max_size=40), max_size=8)


@given(VALUES, st.lists(st.integers(0, 400), max_size=6))
def test_a_stream_that_is_cut_anywhere_gives_its_messages_in_order(values: list[bytes], cuts: list[int]) -> None:
    stream = EMPTY.join([frame(value) for value in values])
    splitter, found, at = Splitter(), [], 0
    for cut in [*sorted(cuts), len(stream)]:
        found += splitter.feed(stream[at : max(at, cut)])
        at = max(at, cut)
    assert (found, splitter.pending) == (values, 0)


@given(VALUES)
def test_a_body_gives_its_messages(values: list[bytes]) -> None:
    assert unframed(frames(values)) == values


@pytest.mark.parametrize("body", [b"\0", frame(b"whole") + b"\0\0\0\2x", b"\xff" * 8])
def test_a_body_that_is_no_row_of_frames_is_refused(body: bytes) -> None:
    with pytest.raises(CallerError):
        unframed(body)
