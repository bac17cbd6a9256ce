"""The identity of a stream."""

from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.records.strategies import runs

from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.kinds import check_message
from tensorboard_sidecar.protocol.stream import Stream

streams = st.builds(
    Stream, runs, st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1), st.binary(min_size=16, max_size=16)
)


@given(streams, st.integers(1, 2**40))
def test_a_stream_comes_back_from_its_segment_heads(stream: Stream, first_sequence: int) -> None:
    head = stream.segment_head(first_sequence)
    check_message(head)
    assert head.first_sequence == first_sequence
    assert Stream.of(head) == stream


def test_a_folder_name_tells_attempt_rank_and_id_and_sorts_by_them() -> None:
    first = Stream("demo", rank=3, attempt=0, id=bytes(range(16)))
    assert first.folder_name == "stream-0000-0003-000102030405060708090a0b0c0d0e0f"
    names = [Stream("demo", rank, attempt).folder_name for attempt in (0, 2, 10) for rank in (0, 3, 12)]
    assert names == sorted(names)


def test_every_start_has_an_id_of_its_own() -> None:
    assert len({Stream("demo").id for _ in range(100)}) == 100
    assert len(Stream("demo").id) == 16


def test_a_run_that_leads_elsewhere_makes_no_stream() -> None:
    with pytest.raises(Malformed):
        Stream("../elsewhere")


def test_a_stream_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Stream("demo").run = "other"  # type: ignore[misc]
