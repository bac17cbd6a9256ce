"""Reading: every record once, in order, also beside damage."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.running.runs import STREAM, make_record, make_run, numbered_run

from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.frame import pack_frame, pack_head
from tensorboard_sidecar.protocol.limits import RECORD_SIZE_MAX_BYTES
from tensorboard_sidecar.protocol.record import Kind, Record, pack_record
from tensorboard_sidecar.protocol.storage.recording_reader import RecordingReader
from tensorboard_sidecar.protocol.storage.segment import pack_segment_head, segment_path
from tensorboard_sidecar.protocol.stream import Stream


def segment_bytes(first: int, count: int, *, size_bytes: int = 8, stream: Stream = STREAM) -> bytes:
    """Return a segment of numbered records."""
    return pack_segment_head(stream, first, 0) + bytes(numbered_run(first, count, size_bytes=size_bytes).frames)


def read_all(reader: RecordingReader, size_max_bytes: int = 2**20) -> list[int]:
    """Read to the end; check that the records are the written records, and return their sequence numbers."""
    found: list[Record] = []
    while records := reader.read(size_max_bytes):
        found += records
    for record in found:
        assert record == make_record(record.sequence, size_bytes=len(record.body), span=record.span)
    return [record.sequence for record in found]


def read_once(folder: Path, size_max_bytes: int = 2**20) -> tuple[list[int], list[tuple[int, int]], list[str]]:
    """Return sequence numbers, holes and damages of a recording."""
    reader = RecordingReader(folder)
    try:
        return read_all(reader, size_max_bytes), reader.holes, reader.damages
    finally:
        reader.close()


def test_a_recording_is_read_in_order(tmp_path: Path) -> None:
    for first in (1, 4, 7):
        segment_path(tmp_path, first).write_bytes(segment_bytes(first, 3))
    reader = RecordingReader(tmp_path)
    assert (reader.stream, reader.first_sequence, reader.next_sequence) == (STREAM, 1, 1)
    assert repr(reader) == f"<RecordingReader {tmp_path.name} at 1 in 00000000000000000001.segment>"
    assert read_all(reader) == list(range(1, 10))
    assert reader.next_sequence == 10
    reader.close()
    reader.close()


@pytest.mark.parametrize("size_max_bytes", [0, 1, 11, 12, 13, 60, 64, 100, 229, 1000])
def test_chunks_may_end_anywhere(tmp_path: Path, size_max_bytes: int) -> None:
    """A chunk may end inside a head, between head and payload, or be smaller than a frame."""
    body_sizes = [0, 1, 256, 65_536, 5, 1_000, 0, 300]
    run = make_run(*(make_record(n, size_bytes=size) for n, size in enumerate(body_sizes, 1)))
    segment_path(tmp_path, 1).write_bytes(pack_segment_head(STREAM, 1, 0) + bytes(run.frames))
    assert read_once(tmp_path, size_max_bytes) == (list(range(1, 9)), [], [])


def test_a_read_is_bounded(tmp_path: Path) -> None:
    segment_path(tmp_path, 1).write_bytes(segment_bytes(1, 1000))
    reader = RecordingReader(tmp_path)
    assert 5 < len(reader.read(1000)) < 20
    assert all(isinstance(payload, memoryview) for payload in reader.read_payloads(1000))
    reader.close()


def test_a_growing_recording_is_followed(tmp_path: Path) -> None:
    """The file grows byte by byte; each record comes when its last byte is there, and not again."""
    whole = [segment_bytes(1, 3), segment_bytes(4, 3)]
    segment_path(tmp_path, 1).write_bytes(pack_segment_head(STREAM, 1, 0))
    reader = RecordingReader(tmp_path)
    found: list[int] = []
    for first, data in zip((1, 4), whole, strict=True):
        for size in range(len(pack_segment_head(STREAM, 1, 0)), len(data) + 1):
            segment_path(tmp_path, first).write_bytes(data[:size])
            found += read_all(reader)
    assert found == [1, 2, 3, 4, 5, 6]
    assert (reader.holes, reader.damages) == ([], [])
    reader.close()


def test_a_preallocated_recording_is_followed(tmp_path: Path) -> None:
    whole = segment_bytes(1, 5)
    head = len(pack_segment_head(STREAM, 1, 0))
    path = segment_path(tmp_path, 1)
    path.write_bytes(whole[:head] + bytes(3 * 2**20))
    reader = RecordingReader(tmp_path)
    found: list[int] = []
    with path.open("r+b") as file:
        for end in range(head, len(whole) + 1, (len(whole) - head) // 5):
            file.seek(0)
            file.write(whole[:end])
            file.flush()
            found += read_all(reader)
    segment_path(tmp_path, 6).write_bytes(segment_bytes(6, 1))
    assert found + read_all(reader) == [1, 2, 3, 4, 5, 6]
    assert (reader.holes, reader.damages) == ([], [])
    reader.close()


@pytest.mark.parametrize("next_sequence", [1, 2, 3, 4, 6, 9, 10, 50])
def test_reading_begins_in_the_middle(tmp_path: Path, next_sequence: int) -> None:
    for first in (1, 4, 7):
        segment_path(tmp_path, first).write_bytes(segment_bytes(first, 3))
    reader = RecordingReader(tmp_path, next_sequence=next_sequence)
    assert read_all(reader, 100) == list(range(next_sequence, 10))
    assert reader.holes == []
    reader.close()


def test_reading_in_the_middle_of_a_gap_gives_the_gap(tmp_path: Path) -> None:
    run = make_run(make_record(1), make_record(2, span=5), make_record(7))
    segment_path(tmp_path, 1).write_bytes(pack_segment_head(STREAM, 1, 0) + bytes(run.frames))
    reader = RecordingReader(tmp_path, next_sequence=4)
    assert read_all(reader) == [2, 7]
    reader.close()


def test_a_recording_whose_first_segments_are_gone_begins_with_a_hole(tmp_path: Path) -> None:
    segment_path(tmp_path, 40).write_bytes(segment_bytes(40, 2))
    assert read_once(tmp_path) == ([40, 41], [(1, 39)], [])


def test_records_that_come_twice_are_read_once(tmp_path: Path) -> None:
    """After a failed write the records that were not durable come again in the next segment."""
    segment_path(tmp_path, 1).write_bytes(segment_bytes(1, 6) + b"torn frame of a failed write")
    segment_path(tmp_path, 4).write_bytes(segment_bytes(4, 5))
    assert read_once(tmp_path) == (list(range(1, 9)), [], [])


def test_the_later_of_two_segments_speaks(tmp_path: Path) -> None:
    """The end of the older segment was given up where the later segment begins, and may hold anything."""
    older = bytearray(segment_bytes(1, 6))
    at = len(segment_bytes(1, 4))
    older[at : at + 20] = bytes(20)
    segment_path(tmp_path, 1).write_bytes(older)
    segment_path(tmp_path, 4).write_bytes(segment_bytes(4, 5))
    assert read_once(tmp_path) == (list(range(1, 9)), [], [])


def test_a_torn_frame_that_is_made_good_is_no_damage(tmp_path: Path) -> None:
    segment_path(tmp_path, 1).write_bytes(segment_bytes(1, 4)[:-3])
    segment_path(tmp_path, 4).write_bytes(segment_bytes(4, 2))
    assert read_once(tmp_path) == ([1, 2, 3, 4, 5], [], [])


def test_a_torn_frame_that_is_missed_is_damage(tmp_path: Path) -> None:
    segment_path(tmp_path, 1).write_bytes(segment_bytes(1, 4)[:-3])
    segment_path(tmp_path, 5).write_bytes(segment_bytes(5, 2))
    at = len(segment_bytes(1, 3))
    damages = [f"00000000000000000001.segment at byte {at:,}: torn frame"]
    assert read_once(tmp_path) == ([1, 2, 3, 5, 6], [(4, 4)], damages)


def test_a_segment_begun_anew_under_its_name_is_read(tmp_path: Path) -> None:
    """A write that fails at a segment's first record leaves a torn file; the next try takes its name."""
    segment_path(tmp_path, 1).write_bytes(segment_bytes(1, 2)[:-3])
    reader = RecordingReader(tmp_path)
    assert read_all(reader) == [1]
    again = tmp_path / "again"
    again.write_bytes(segment_bytes(1, 3))
    again.replace(segment_path(tmp_path, 1))
    assert read_all(reader) == [2, 3]
    assert (reader.holes, reader.damages) == ([], [])
    reader.close()


def test_a_file_cut_under_the_reader_is_read_on_in_the_next(tmp_path: Path) -> None:
    """After a failed sync the writer cuts off records that the reader may have seen, and writes them elsewhere."""
    segment_path(tmp_path, 1).write_bytes(segment_bytes(1, 5))
    reader = RecordingReader(tmp_path)
    assert read_all(reader) == [1, 2, 3, 4, 5]
    os.truncate(segment_path(tmp_path, 1), len(segment_bytes(1, 2)))
    assert read_all(reader) == []
    segment_path(tmp_path, 3).write_bytes(segment_bytes(3, 5))
    assert read_all(reader) == [6, 7]
    assert (reader.holes, reader.damages) == ([], [])
    reader.close()


def test_a_recording_cut_anywhere_gives_a_clean_prefix(tmp_path: Path) -> None:
    whole = segment_bytes(1, 4)
    head = len(pack_segment_head(STREAM, 1, 0))
    frame = len(numbered_run(1).frames)
    for size in range(len(whole) + 1):
        segment_path(tmp_path, 1).write_bytes(whole[:size])
        if size < head:
            with pytest.raises(Malformed, match="begins with no segment head"):
                RecordingReader(tmp_path)
        else:
            assert read_once(tmp_path) == (list(range(1, 1 + (size - head) // frame)), [], [])


def test_a_flipped_bit_costs_its_own_record(tmp_path: Path) -> None:
    """The damage and the missing number are reported."""
    first, second = segment_bytes(1, 3), segment_bytes(4, 2)
    segment_path(tmp_path, 4).write_bytes(second)
    head, frame = len(pack_segment_head(STREAM, 1, 0)), len(numbered_run(1).frames)
    for at in range(len(first)):
        flipped = first[at] ^ 1 << at % 8
        segment_path(tmp_path, 1).write_bytes(first[:at] + bytes((flipped,)) + first[at + 1 :])
        sequences, holes, damages = read_once(tmp_path)
        hit = 1 + (at - head) // frame if at >= head else 0
        assert sequences == [n for n in range(1, 6) if n != hit]
        assert holes == [(hit, hit)] * (hit > 0)
        start = head + (hit - 1) * frame if hit else 0
        assert len(damages) == 1
        assert damages[0].startswith(f"00000000000000000001.segment at byte {start:,}: bad ")


@pytest.mark.parametrize("size_max_bytes", [12, 100, 1000, 10**6])
def test_damage_is_told_once_however_large(tmp_path: Path, size_max_bytes: int) -> None:
    """Damage and zeros are longer than a chunk, end with the chunk, or cross its end."""
    for size in (50, 99, 1000, 40_000):
        for wrong in (b"\x01" * size, bytes(size), b"\x01" + bytes(size), bytes(size) + b"\x01" * 40):
            run = bytes(numbered_run(3, 2).frames)
            segment_path(tmp_path, 1).write_bytes(segment_bytes(1, 2) + wrong + run)
            sequences, holes, damages = read_once(tmp_path, size_max_bytes)
            assert (sequences, holes) == ([1, 2, 3, 4], [])
            assert len(damages) == 1
            assert f"at byte {len(segment_bytes(1, 2)):,}: " in damages[0]


def test_a_frame_above_the_limit_is_damage(tmp_path: Path) -> None:
    larger = pack_head(RECORD_SIZE_MAX_BYTES + 1) + b"what there is of it"
    segment_path(tmp_path, 1).write_bytes(segment_bytes(1, 1) + larger + bytes(numbered_run(3).frames))
    sequences, holes, damages = read_once(tmp_path)
    assert (sequences, holes) == ([1, 3], [(2, 2)])
    assert len(damages) == 1
    assert damages[0].endswith(f"at byte {len(segment_bytes(1, 1)):,}: payload of 67,108,865 bytes is too large")


def test_a_huge_length_reads_no_further_than_the_file(tmp_path: Path) -> None:
    """A head may claim 64 MiB; a file of a few bytes is not read into a buffer of that size again and again."""
    segment_path(tmp_path, 1).write_bytes(segment_bytes(1, 1) + pack_head(RECORD_SIZE_MAX_BYTES) + b"x")
    assert read_once(tmp_path) == ([1], [], [])


def test_records_this_program_cannot_place_are_damage(tmp_path: Path) -> None:
    newer = pack_frame(b"\x02" + pack_record(make_record(2))[1:])
    lying = pack_frame(pack_record(Record(Kind.SCALARS, 0, 0, 0, b"")))
    segment_path(tmp_path, 1).write_bytes(segment_bytes(1, 1) + newer + lying + bytes(numbered_run(3).frames))
    sequences, holes, damages = read_once(tmp_path)
    assert (sequences, holes) == ([1, 3], [(2, 2)])
    at = len(segment_bytes(1, 1))
    assert damages[0].endswith(f"at byte {at:,}: record: version 2 came, this program reads version 1; upgrade it")
    assert damages[1].endswith(f"at byte {at + len(newer):,}: record of kind 2 with sequence 0 and span 1")


def test_an_unfilled_slot_costs_its_own_number(tmp_path: Path) -> None:
    """A slot reserved in an outbox whose owner died: a head, zeros, and whole records behind it."""
    slot = pack_head(48) + bytes(52)
    segment_path(tmp_path, 1).write_bytes(segment_bytes(1, 1) + slot + bytes(numbered_run(3).frames) + bytes(500))
    sequences, holes, damages = read_once(tmp_path)
    assert (sequences, holes) == ([1, 3], [(2, 2)])
    assert damages[0].endswith("bad payload checksum")


def test_a_segment_of_another_stream_is_passed_over_and_told(tmp_path: Path) -> None:
    other = Stream("team/demo", 1, 2, bytes(16))
    segment_path(tmp_path, 1).write_bytes(segment_bytes(1, 2))
    segment_path(tmp_path, 3).write_bytes(segment_bytes(3, 2, stream=other))
    segment_path(tmp_path, 5).write_bytes(segment_bytes(5, 2))
    sequences, holes, damages = read_once(tmp_path)
    assert (sequences, holes) == ([1, 2, 5, 6], [(3, 4)])
    assert damages == [f"00000000000000000003.segment at byte 0: a segment of another stream, {'00' * 16}"]


def test_a_folder_without_segments_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"a recording is a folder of \*.segment files"):
        RecordingReader(tmp_path)
    with pytest.raises(FileNotFoundError):
        RecordingReader(tmp_path / "missing")


@given(data=st.binary(max_size=300), size_max_bytes=st.integers(1, 100))
def test_damage_between_segments_is_skipped(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, size_max_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("recording")
    segment_path(folder, 1).write_bytes(segment_bytes(1, 2) + data)
    segment_path(folder, 3).write_bytes(data)
    segment_path(folder, 4).write_bytes(segment_bytes(4, 2))
    sequences, holes, _ = read_once(folder, size_max_bytes)
    assert (sequences, holes) == ([1, 2, 4, 5], [(3, 3)])
