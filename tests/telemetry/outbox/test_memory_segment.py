"""A segment in shared memory: what a kill can leave of it, and finding one's way in it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.machine.small_memory import run_in_small_memory
from support.records.recordings import START_NS, make_stream

from tensorboard_sidecar.protocol.frame import (
    FRAME_OVERHEAD_BYTES,
    HEAD_SIZE_BYTES,
    Frame,
    pack_frame,
    pack_head,
    read_frames,
)
from tensorboard_sidecar.protocol.record import HEADER_SIZE_BYTES, Kind, Record, pack_record, parse_record
from tensorboard_sidecar.protocol.storage.segment import list_segments, read_segment_head, segment_path
from tensorboard_sidecar.telemetry.outbox.memory_segment import Frames, MemorySegment

SIZE = 2**16


def make_segment(folder: Path, first_sequence: int = 1, size: int = SIZE) -> MemorySegment:
    segment = MemorySegment(folder, size)
    segment.begin(make_stream(), first_sequence, START_NS)
    segment.take_name()
    return segment


def payload(sequence: int, size: int = 20, span: int = 1) -> bytes:
    kind = Kind.SCALARS if span == 1 else Kind.GAP
    return pack_record(Record(kind, sequence, 0, START_NS, bytes([sequence % 256]) * size, span))


def append_at(segment: MemorySegment, start: int, data: bytes) -> None:
    segment.write_frame(start, data[:HEADER_SIZE_BYTES], data[HEADER_SIZE_BYTES:])


def append(segment: MemorySegment, data: bytes) -> None:
    append_at(segment, segment.end, data)
    segment.finish(segment.end + len(data) + FRAME_OVERHEAD_BYTES, parse_record(data).next_sequence)


def note_stores(segment: MemorySegment, work: Callable[[], None]) -> list[slice]:
    """Return where ``work`` writes in a segment, in order."""
    stores: list[slice] = []

    class Watched:
        def __setitem__(self, where: slice, data: bytes) -> None:
            stores.append(where)
            real[where] = data

    real, segment.map = segment.map, Watched()  # type: ignore[assignment]
    work()
    segment.map = real
    return stores


def sequences(data: bytes) -> list[int]:
    """Return the sequence numbers of all whole frames but the segment's head."""
    frames = [item for item in read_frames(memoryview(data)) if isinstance(item, Frame)]
    return [parse_record(frame.payload).sequence for frame in frames][1:]


def test_a_spare_is_no_segment_until_it_begins(memory: Path) -> None:
    spare = MemorySegment(memory, SIZE)
    spare.begin(make_stream(), 7, START_NS)
    assert list_segments(memory) == []
    assert not spare.named
    spare.take_name()
    [found] = list_segments(memory)
    assert found.first_sequence == read_segment_head(found.path).first_sequence == 7
    assert found.path == spare.path
    spare.close(keep=False)
    assert list(memory.iterdir()) == []


def test_a_name_that_somebody_else_took_for_the_segment_is_its_name(memory: Path) -> None:
    """A handler that interrupts the naming names it; but what another segment lies under is not its name."""
    spare = MemorySegment(memory, SIZE)
    spare.begin(make_stream(), 7, START_NS)
    spare.path.rename(segment_path(memory, 7))
    spare.take_name()
    assert spare.path == segment_path(memory, 7)
    other = MemorySegment(memory, SIZE)
    other.begin(make_stream(), 7, START_NS)
    other.path.unlink()
    with pytest.raises(FileNotFoundError):
        other.take_name()
    assert not other.named
    spare.close(keep=False)
    other.close(keep=False)


def test_a_segment_to_be_kept_stays(memory: Path) -> None:
    segment = make_segment(memory)
    append(segment, payload(1))
    segment.close(keep=True)
    assert sequences(segment.path.read_bytes()) == [1]


def test_a_kill_at_any_byte_of_an_append_leaves_the_frames_before_it(memory: Path) -> None:
    """The head is written last: whatever part of a frame is there, no reader takes it for one."""
    segment = make_segment(memory)
    append(segment, payload(1))
    before, start = segment.path.read_bytes(), segment.end
    append(segment, payload(2))
    after, end = segment.path.read_bytes(), segment.end
    segment.close(keep=False)
    rest_start = start + HEAD_SIZE_BYTES
    for cut in range(rest_start, end + 1):
        assert sequences(before[:rest_start] + after[rest_start:cut] + before[cut:]) == [1]
    for cut in range(start, rest_start):
        assert sequences(before[:start] + after[start:cut] + before[cut:rest_start] + after[rest_start:]) == [1]
    assert sequences(after) == [1, 2]


def test_a_kill_at_any_byte_of_a_large_append_leaves_the_frames_around_it(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head of a large frame comes first, its checksum last: readers step over the frame until it is whole."""
    monkeypatch.setattr("tensorboard_sidecar.telemetry.outbox.memory_segment._SLICE_BYTES", 7)
    segment = make_segment(memory)
    append(segment, payload(1))
    start, frame_size = segment.end, len(payload(2)) + FRAME_OVERHEAD_BYTES
    segment.finish(start + frame_size, 3)
    append(segment, payload(3))
    before, stores = segment.path.read_bytes(), note_stores(segment, lambda: append_at(segment, start, payload(2)))
    after = segment.path.read_bytes()
    segment.close(keep=False)
    assert [stores[0].stop, stores[-1].start] == [start + HEAD_SIZE_BYTES, start + frame_size - 4]
    assert [store.stop - store.start for store in stores[2:-1]] == [7, 7, 6]
    ends = [end for store in stores for end in range(store.start, store.stop)]
    assert ends == list(range(start, start + frame_size)), "in order, each byte once"
    for cut in ends:
        assert sequences(before[:start] + after[start:cut] + before[cut:]) == [1, 3]
    assert sequences(after) == [1, 2, 3]


def test_the_head_is_written_behind_the_rest(memory: Path) -> None:
    """The order that the test above takes for granted."""
    segment = make_segment(memory)
    start = segment.end
    stores = note_stores(segment, lambda: append(segment, payload(1)))
    segment.close(keep=False)
    assert stores == [slice(start + HEAD_SIZE_BYTES, segment.end), slice(start, start + HEAD_SIZE_BYTES)]
    assert segment.end - start == len(payload(1)) + FRAME_OVERHEAD_BYTES


@pytest.mark.parametrize("sequence", [5, 6, 10, 11])
def test_seek_finds_the_start_of_a_record(memory: Path, sequence: int) -> None:
    segment = make_segment(memory, first_sequence=5)
    for data in (payload(5), payload(6, span=4), payload(10), payload(11)):
        append(segment, data)
    start = segment.seek(sequence)
    assert parse_record(memoryview(segment.buffer[start + HEAD_SIZE_BYTES : segment.end])).sequence == sequence
    segment.close(keep=False)


def test_seek_refuses_a_number_inside_a_gap(memory: Path) -> None:
    segment = make_segment(memory)
    append(segment, payload(1, span=4))
    append(segment, payload(5))
    with pytest.raises(LookupError, match="inside a gap that ends at 5"):
        segment.seek(3)
    segment.close(keep=False)


@given(
    sizes=st.lists(st.integers(0, 300), min_size=1, max_size=12),
    first=st.integers(0, 11),
    limit=st.integers(-5, 2000),
)
def test_a_walk_passes_as_many_frames_as_fit_and_one_at_least(sizes: list[int], first: int, limit: int) -> None:
    first %= len(sizes)
    frame_sizes = [len(payload(1, size)) + FRAME_OVERHEAD_BYTES for size in sizes]
    if sum(frame_sizes[first:]) <= limit:
        return  # a walk is for those who have more before them than they take
    data = b"".join(pack_frame(payload(n + 1, size)) for n, size in enumerate(sizes))
    frames = Frames(data, first_sequence=1, next_sequence=len(sizes) + 1, first_frame=0, end=len(data))
    end, following = frames.walk(sum(frame_sizes[:first]), limit)
    taken = following - 1 - first
    passed = sum(frame_sizes[first : first + taken])
    assert end == sum(frame_sizes[: first + taken])
    assert taken == 1 or passed <= limit
    assert passed + (frame_sizes[first + taken] if first + taken < len(sizes) else 0) > limit


def test_a_head_fits_any_run_and_is_where_readers_look(memory: Path) -> None:
    segment = MemorySegment(memory, 4096)
    stream = make_stream("/".join(["é" * 30] * 8))
    segment.begin(stream, 2**62, START_NS)
    segment.take_name()
    assert read_segment_head(segment.path).run == stream.run
    assert pack_head(0) != bytes(12)  # so that zeros behind the last frame are the end
    segment.close(keep=False)


def resident_bytes(path: Path) -> int:
    """Return how much of a mapped file this process reaches without a page fault."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    assert any(line.endswith(str(path)) for line in lines)
    return next(int(line.split()[1]) for line in lines if line.startswith("Rss:")) * 1024


def test_a_populated_segment_has_its_page_faults_behind_it(memory: Path) -> None:
    segment = MemorySegment(memory, 2**19 + 4096)
    assert resident_bytes(segment.path) == 0
    segment.populate()
    assert resident_bytes(segment.path) == segment.size_bytes
    segment.close(keep=False)


def test_where_the_system_cannot_populate_appends_take_the_page_faults(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensorboard_sidecar.telemetry.outbox.memory_segment._POPULATE_WRITE", 10_000)
    segment = make_segment(memory)
    segment.populate()
    append(segment, payload(1))
    assert sequences(segment.path.read_bytes()) == [1]
    segment.close(keep=False)


def test_full_memory_is_an_error_and_no_signal(tmp_path: Path) -> None:
    """A sparse map on a full tmpfs would be SIGBUS at the first write."""
    mount_point = tmp_path / "memory"
    mount_point.mkdir()
    program = f"""
import errno
from collections.abc import Callable
from pathlib import Path
from tensorboard_sidecar.telemetry.outbox.memory_segment import Frames
from tensorboard_sidecar.telemetry.outbox.memory_segment import MemorySegment
folder = Path({str(mount_point)!r})
kept = MemorySegment(folder, 2**19)
try:
    MemorySegment(folder, 2**20)
except OSError as error:
    assert error.errno == errno.ENOSPC, error
else:
    raise AssertionError("there was room for more than there is")
assert list(folder.iterdir()) == [kept.path]
kept.map[:] = bytes([1]) * 2**19
print("alive")
"""
    assert run_in_small_memory(program, tmp_path, size="1m", mount_point=mount_point) == "alive\n"
