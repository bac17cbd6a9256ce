"""Batches: accepted whole, refused whole, and without the records received before."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorboard_sidecar.protocol.errors import Malformed, ProtocolError, UnsupportedVersion
from tensorboard_sidecar.protocol.frame import pack_frame, pack_head
from tensorboard_sidecar.protocol.record import FrameBatch, Hole, Kind, Record, check_batch, pack_record


def frame(sequence: int, span: int = 1, kind: int = Kind.SCALARS) -> bytes:
    return pack_frame(pack_record(Record(kind, sequence, 0, 0, b"body", span)))


def batch_of(*frames: bytes) -> memoryview:
    return memoryview(b"".join(frames))


def test_a_batch_that_continues_is_accepted_byte_for_byte() -> None:
    frames = batch_of(frame(5), frame(6, 3, Kind.GAP), frame(9))
    assert check_batch(frames, 5) == FrameBatch(frames, 5, 10)


def test_records_received_before_are_dropped() -> None:
    """Go-back-N sends some records twice; the journal holds each once."""
    whole = [frame(n) for n in range(1, 6)]
    for expected in range(1, 7):
        taken = check_batch(batch_of(*whole), expected)
        assert isinstance(taken, FrameBatch)
        assert (bytes(taken.frames), taken.first_sequence) == (b"".join(whole[expected - 1 :]), expected)
        assert taken.next_sequence == 6


def test_a_batch_of_old_records_is_empty() -> None:
    taken = check_batch(batch_of(frame(1), frame(2)), 7)
    assert isinstance(taken, FrameBatch)
    assert (bytes(taken.frames), taken.first_sequence, taken.next_sequence) == (b"", 7, 7)


def test_no_bytes_are_an_empty_batch() -> None:
    assert check_batch(batch_of(), 7) == FrameBatch(batch_of(), 7, 7)


def test_a_batch_that_begins_too_late_is_a_hole() -> None:
    assert check_batch(batch_of(frame(8), frame(9)), 7) == Hole(7)


def test_a_batch_with_a_hole_inside_is_malformed() -> None:
    with pytest.raises(Malformed, match="sequence 9 follows in a batch; expected 8"):
        check_batch(batch_of(frame(7), frame(9)), 7)


def test_a_gap_over_kept_records_is_malformed() -> None:
    with pytest.raises(Malformed, match="a gap over 5 to 8 covers 6, already kept"):
        check_batch(batch_of(frame(5, 4, Kind.GAP)), 7)


def test_a_segment_head_is_malformed() -> None:
    with pytest.raises(Malformed, match="segment head in a batch"):
        check_batch(batch_of(frame(0, 0, Kind.SEGMENT)), 1)


def test_another_version_is_refused() -> None:
    with pytest.raises(UnsupportedVersion):
        check_batch(batch_of(pack_frame(b"\x02" + pack_record(Record(Kind.TEXT, 1, 0, 0, b""))[1:])), 1)


@pytest.mark.parametrize(
    ("rubbish", "reason"),
    [
        (frame(2)[:-1], "cut off"),
        (bytes(64), "zeros"),
        (b"rubbish of some length", "bad head checksum"),
        (frame(2)[:-1] + b"x", "bad payload checksum"),
        (pack_head(2**40) + b"x", "payload of 1,099,511,627,776 bytes is too large"),
    ],
)
def test_one_bad_frame_refuses_the_batch(rubbish: bytes, reason: str) -> None:
    with pytest.raises(Malformed, match=f"no whole frame at byte 60 of a batch of {60 + len(rubbish)}: .*{reason}"):
        check_batch(batch_of(frame(1), rubbish), 1)


def test_the_size_of_a_record_is_bounded() -> None:
    assert isinstance(check_batch(batch_of(frame(1)), 1, record_size_max_bytes=44), FrameBatch)
    with pytest.raises(Malformed, match="payload of 44 bytes is too large"):
        check_batch(batch_of(frame(1)), 1, record_size_max_bytes=43)


def test_a_batch_cut_or_flipped_is_a_shorter_batch_or_a_protocol_error() -> None:
    whole = b"".join(frame(n) for n in (1, 2, 3))
    for size in range(len(whole) + 1):
        if size % 60:
            with pytest.raises(Malformed):
                check_batch(memoryview(whole[:size]), 1)
        else:
            assert check_batch(memoryview(whole[:size]), 1) == FrameBatch(memoryview(whole[:size]), 1, 1 + size // 60)
    for bit in range(8 * len(whole)):
        flipped = (int.from_bytes(whole) ^ 1 << bit).to_bytes(len(whole))
        with pytest.raises(ProtocolError):
            check_batch(memoryview(flipped), 1)


@given(st.binary(max_size=200), st.integers(1, 2**62))
def test_rubbish_is_refused_or_empty(data: bytes, expected: int) -> None:
    try:
        taken = check_batch(memoryview(data), expected)
    except ProtocolError:
        return
    assert taken == FrameBatch(memoryview(b""), expected, expected)
