"""The outbox at its limits, a test for each; test_outbox_model.py checks the outbox against a model."""

import gc
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from support.logger.fake_logger import unpack_records
from support.machine.children import wait_for
from support.records.recordings import START_NS, make_stream

from tensorboard_sidecar.protocol.codec import decode_message
from tensorboard_sidecar.protocol.errors import TooLarge
from tensorboard_sidecar.protocol.frame import FRAME_OVERHEAD_BYTES
from tensorboard_sidecar.protocol.limits import RECORD_SIZE_MAX_BYTES
from tensorboard_sidecar.protocol.messages import Gap
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox
from tensorboard_sidecar.protocol.record import HEADER_SIZE_BYTES, Kind, Record
from tensorboard_sidecar.protocol.storage.segment import list_segments
from tensorboard_sidecar.telemetry.outbox.memory_segment import MemorySegment
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox

# Appends to be interrupted: far more than the time for them allows, and an end to them where no interrupt comes.
INTERRUPTED_MAX = 100_000


def make_outbox(folder: Path, *, capacity: int = 2**20, segment: int = 2**16) -> Outbox:
    return Outbox(folder, make_stream(), capacity_bytes=capacity, wall_time_ns=START_NS, segment_size_bytes=segment)


def say(outbox: Outbox, kind: int = Kind.SCALARS, size: int = 100) -> int:
    return outbox.append(kind, 0, START_NS, bytes(size))


def read_all(outbox: Outbox | OrphanedOutbox, sequence: int | None = None) -> list[Record]:
    records: list[Record] = []
    at = outbox.first_sequence if sequence is None else sequence
    while (run := outbox.read(at, 2**18)) is not None:
        records += unpack_records(run.frames)
        at = run.next_sequence
    return records


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def outbox(memory: Path) -> Iterator[Outbox]:
    made = make_outbox(memory / "outbox")
    yield made
    made.close(keep=False)


def test_a_folder_is_private_to_its_user(outbox: Outbox) -> None:
    assert outbox.folder.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in outbox.folder.iterdir())


def test_a_start_that_fails_leaves_nothing_behind(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(_file: int, _offset: int, _size: int) -> None:
        raise OSError(28, "No space left on device")

    before = open_files()
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(OSError, match="No space"):
        make_outbox(memory / "outbox")
    assert list(memory.iterdir()) == []
    assert open_files() == before


def test_a_folder_that_is_there_is_not_taken(memory: Path) -> None:
    (memory / "outbox").mkdir()
    with pytest.raises(FileExistsError):
        make_outbox(memory / "outbox")
    assert (memory / "outbox").is_dir()


def test_a_record_larger_than_any_logger_takes_is_an_error_and_no_number(memory: Path) -> None:
    outbox = make_outbox(memory / "outbox", capacity=2**28)
    body = bytes(RECORD_SIZE_MAX_BYTES - HEADER_SIZE_BYTES)
    with pytest.raises(TooLarge):
        outbox.append(Kind.TEXT, 0, START_NS, body + b"1")
    with pytest.raises(TooLarge):
        outbox.reserve(Kind.TEXT, 0, START_NS, len(body) + 1)
    assert outbox.append(Kind.TEXT, 0, START_NS, body) == 1
    assert len(read_all(outbox)[0].body) == len(body)
    outbox.close(keep=False)


def test_refusals_are_told_by_kind_before_the_next_record(memory: Path) -> None:
    outbox = make_outbox(memory / "outbox", capacity=10_000, segment=2**16)
    sizes = {Kind.MATRIX: 7_000, Kind.EMBEDDING: 8_000, Kind.SCALARS: 9_500}
    refused = [say(outbox, kind, size) for kind, size in sizes.items() for _ in range(2)]
    assert refused == [1, 2, 3, 4, 5, 6]
    assert outbox.refusals.total == 6
    assert read_all(outbox) == []
    assert say(outbox) == 7
    gap, record = read_all(outbox)
    assert (gap.kind, gap.sequence, gap.span, record.sequence) == (Kind.GAP, 1, 6, 7)
    assert decode_message(gap) == Gap("the outbox was full", {"matrix": 2, "embedding": 2, "scalars": 2})
    outbox.close(keep=False)


def test_refusals_are_told_when_no_record_comes(memory: Path) -> None:
    outbox = make_outbox(memory / "outbox", capacity=10_000)
    say(outbox, Kind.RUN_END, 9_000)
    say(outbox, Kind.RUN_END, 9_000)
    outbox.prepare(START_NS)
    assert [record.sequence for record in read_all(outbox)] == [1], "there is no room yet"
    outbox.release(2)
    outbox.prepare(START_NS)
    outbox.release(2)
    outbox.prepare(START_NS)
    [gap] = read_all(outbox)
    assert (gap.kind, gap.sequence, gap.next_sequence) == (Kind.GAP, 2, 3)
    assert outbox.next_sequence == 3
    outbox.close(keep=False)


def test_a_gap_that_no_longer_fits_begins_the_next_segment(memory: Path) -> None:
    outbox = make_outbox(memory / "outbox", capacity=30_000, segment=8192)
    while outbox.used_bytes < 8192 - 600:
        say(outbox, Kind.SCALARS)
    first_refused = say(outbox, Kind.MATRIX, 25_000)
    last = say(outbox, Kind.SCALARS)
    [gap, record] = read_all(outbox)[-2:]
    assert (gap.kind, gap.sequence, gap.next_sequence, record.sequence) == (Kind.GAP, first_refused, last, last)
    assert (outbox.folder / f"{first_refused:020d}.segment").exists()
    outbox.close(keep=False)


def test_a_record_too_large_for_an_empty_segment_takes_its_place(memory: Path) -> None:
    """Both are named for the same number: to delete the empty one would delete the record."""
    outbox = make_outbox(memory / "outbox", segment=8192)
    large = say(outbox, Kind.TEXT, 20_000)
    outbox.release(large)
    shutil.copytree(outbox.folder, memory / "killed")
    orphan = OrphanedOutbox(memory / "killed")
    assert [len(record.body) for record in read_all(orphan)] == [20_000]
    orphan.close(keep=False)
    outbox.release(large + 1)
    outbox.close(keep=False)


@pytest.mark.parametrize(("more", "segments"), [(0, 1), (1, 2)])
def test_a_segment_takes_frames_up_to_its_last_byte(memory: Path, more: int, segments: int) -> None:
    outbox = make_outbox(memory / "outbox", segment=4096)
    say(outbox)
    left = 4096 - outbox.used_bytes - FRAME_OVERHEAD_BYTES - HEADER_SIZE_BYTES
    say(outbox, Kind.SCALARS, left + more)
    assert len(list_segments(outbox.folder)) == segments
    assert (outbox.used_bytes == 4096) == (segments == 1)
    assert [len(record.body) for record in read_all(outbox)] == [100, left + more]
    outbox.close(keep=False)


def test_a_slot_that_is_filled_before_its_call_returns_stays_as_it_was_filled(outbox: Outbox) -> None:
    """The sender thread may find the values there at once."""
    slot = outbox.reserve(Kind.SCALARS, 0, START_NS, 100)
    assert slot is not None
    outbox.fill(slot, b"at once")
    slot.mark()
    assert [record.body for record in read_all(outbox)] == [b"at once"]


def test_bodies_of_records_that_are_kept_are_not_kept_twice(outbox: Outbox) -> None:
    """A large body would lie in memory until the next record."""

    class Body(bytes):
        """Bytes that can be looked for."""

    body = Body(1000)
    before = sys.getrefcount(body)
    outbox.append(Kind.TEXT, 0, START_NS, body)
    outbox.prepare(START_NS)
    assert sys.getrefcount(body) == before


def test_scalars_are_kept_when_pictures_are_refused(outbox: Outbox) -> None:
    while not outbox.refusals:
        say(outbox, Kind.IMAGES, 10_000)
    refused = outbox.refusals.total
    say(outbox, Kind.SCALARS)
    say(outbox, Kind.IMAGES, 10_000)
    assert outbox.refusals.total == refused + 1


def test_an_outbox_whose_records_are_all_shipped_takes_new_ones(memory: Path) -> None:
    """Also when the one segment there is has no room left that the capacity allows."""
    outbox = make_outbox(memory / "outbox", capacity=50_000, segment=2**16)
    for kind in (Kind.IMAGES, Kind.SCALARS, Kind.RUN_END) * 3:
        while not outbox.refusals:
            say(outbox, kind, 5_000)
        for _ in range(2):
            outbox.release(outbox.next_sequence - 1)
            outbox.prepare(START_NS)
        assert not outbox.refusals
        assert outbox.used_bytes < 10_000
    outbox.close(keep=False)


def test_two_readers_side_by_side_do_not_walk(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link and the recorder both go on where they were, in whatever steps."""
    outbox = make_outbox(memory / "outbox", segment=2**19)
    walked: list[int] = []
    seek = MemorySegment.seek

    def noted_seek(segment: MemorySegment, sequence: int) -> int:
        walked.append(sequence)
        return seek(segment, sequence)

    monkeypatch.setattr(MemorySegment, "seek", noted_seek)
    at = [1, 1]
    for _ in range(20):
        say(outbox)
        say(outbox)
        for reader, size in enumerate((100, 2**18)):
            while (run := outbox.read(at[reader], size)) is not None:
                at[reader] = run.next_sequence
    assert at == [41, 41]
    assert walked == [1, 1]
    outbox.close(keep=False)


def test_a_sealed_outbox_takes_nothing_and_gives_what_it_has(outbox: Outbox) -> None:
    slot = outbox.reserve(Kind.SCALARS, 0, START_NS, 100)
    say(outbox)
    outbox.seal()
    with pytest.raises(RuntimeError):
        say(outbox)
    with pytest.raises(RuntimeError):
        outbox.reserve(Kind.SCALARS, 0, START_NS, 100)
    assert slot is not None
    outbox.fill(slot, b"late")
    assert [record.body for record in read_all(outbox)] == [b"late", bytes(100)]


def test_what_is_kept_can_be_adopted_and_what_is_not_is_gone(memory: Path) -> None:
    kept, dropped = make_outbox(memory / "kept"), make_outbox(memory / "dropped")
    say(kept)
    say(dropped)
    kept.prepare(START_NS)
    with pytest.raises(BlockingIOError):
        OrphanedOutbox(kept.folder)
    kept.close(keep=True)
    dropped.close(keep=False)
    assert [path.name for path in memory.iterdir()] == ["kept"]
    assert not list(kept.folder.glob("*.spare"))
    assert len(read_all(OrphanedOutbox(kept.folder))) == 1


def test_a_folder_that_somebody_deleted_costs_records_and_no_error(memory: Path) -> None:
    """Cleaners of temporary files do that. Refused, and counted, is all that can be done."""
    outbox = make_outbox(memory / "outbox", segment=8192)
    outbox.prepare(START_NS)
    shutil.rmtree(outbox.folder)
    for _ in range(200):
        say(outbox)
    assert outbox.refusals.total > 100
    outbox.prepare(START_NS)
    outbox.close(keep=False)


def test_a_forked_child_does_not_keep_the_lock(memory: Path) -> None:
    """Else a DataLoader's worker that outlives its trainer would keep everybody from adopting the outbox."""
    outbox = make_outbox(memory / "outbox")
    forked, done = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.write(forked[1], b"1")
        os.read(done[0], 1)
        os._exit(0)
    os.read(forked[0], 1)
    outbox.close(keep=True)
    OrphanedOutbox(outbox.folder).close(keep=False)
    os.write(done[1], b"1")
    assert wait_for(child) == 0
    for descriptor in (*forked, *done):
        os.close(descriptor)


def test_ctrl_c_at_any_moment_leaves_no_hole_in_the_sequence(memory: Path) -> None:
    """A number without its record would be refused by the logger, with all that follows."""
    outbox = make_outbox(memory / "outbox", capacity=2**26, segment=2**18)
    outbox.prepare(START_NS)
    interrupts = 0

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous_timer, previous = signal.setitimer(signal.ITIMER_REAL, 0), signal.signal(signal.SIGALRM, interrupt)
    gc.disable()  # it has callbacks, of Hypothesis for one, and what is raised in those disappears
    returned: list[int] = []
    try:
        while interrupts < 600:
            try:
                signal.setitimer(signal.ITIMER_REAL, 30e-6 * (1 + interrupts % 60))
                for _ in range(INTERRUPTED_MAX):
                    returned.append(say(outbox))  # noqa: PERF401 - what came before an interrupt is kept
            except KeyboardInterrupt:
                interrupts += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        gc.enable()
        signal.signal(signal.SIGALRM, previous)
        signal.setitimer(signal.ITIMER_REAL, *previous_timer)  # the test's own timeout
    sequences = [record.sequence for record in read_all(outbox)]
    assert sequences == list(range(1, len(sequences) + 1))
    assert set(returned) <= set(sequences)
    assert outbox.next_sequence == len(sequences) + 1
    outbox.close(keep=False)


def test_an_interpreter_without_its_lock_is_refused_at_once(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing a map while another thread writes there was not tried without the lock."""
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    with pytest.raises(RuntimeError, match="global interpreter lock"):
        make_outbox(memory / "outbox")
    assert list(memory.iterdir()) == []
