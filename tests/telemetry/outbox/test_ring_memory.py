"""The flight ring as its trainer writes it: around and around, by several threads, up to a kill."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.machine.children import start, wait_for
from support.machine.shared_folder import shared_folder
from support.records.recordings import START_NS

from tensorboard_sidecar.protocol.codec import encode_scalars
from tensorboard_sidecar.protocol.frame import FRAME_OVERHEAD_BYTES
from tensorboard_sidecar.protocol.outbox import flight_ring
from tensorboard_sidecar.protocol.outbox.flight_ring import ENTRIES_START, RING_NAME, Mark, read_entries
from tensorboard_sidecar.protocol.record import HEADER_SIZE_BYTES, Record
from tensorboard_sidecar.telemetry.outbox.ring_memory import RingMemory

SMALL_BYTES = 2**12


@pytest.fixture
def ring(memory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RingMemory]:
    """Return a ring that has room for some dozen entries."""
    monkeypatch.setattr(flight_ring, "_SIZE_MIN_BYTES", SMALL_BYTES)
    made = RingMemory(memory, 1)
    assert made.size_bytes == SMALL_BYTES
    yield made
    made.close()


def on_disk(folder: Path) -> list[Record]:
    return sorted(read_entries(memoryview((folder / RING_NAME).read_bytes())), key=lambda record: record.sequence)


def assert_last(entries: list[Record], last: int, *, at_least: int) -> None:
    """Check that the entries have each number from some number up to ``last``, once."""
    numbers = [record.sequence for record in entries]
    assert numbers == [*range(last - len(numbers) + 1, last + 1)]
    assert len(numbers) >= at_least


def test_the_last_entries_are_in_the_file_however_often_the_ring_went_around(ring: RingMemory, memory: Path) -> None:
    for number in range(1, 1000):
        ring.append(2 * number, START_NS + number, encode_scalars({"x" * (number % 50 + 1): float(number)}))
        entries = on_disk(memory)
        assert_last(entries, number, at_least=min(number, 20))
        assert (entries[-1].step, entries[-1].wall_time_ns) == (2 * number, START_NS + number)
        assert entries[-1].body == encode_scalars({"x" * (number % 50 + 1): float(number)})


@given(st.lists(st.integers(0, SMALL_BYTES), max_size=80))
def test_entries_of_any_sizes_leave_the_latest_ones_without_a_hole(sizes: list[int]) -> None:
    with shared_folder() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(flight_ring, "_SIZE_MIN_BYTES", SMALL_BYTES)
        ring, kept = RingMemory(folder, 1), list[bytes]()
        for step, size in enumerate(sizes):
            body = bytes([step % 256]) * size
            if ring.append(step, step, body) is not None:
                kept.append(body)
        entries = on_disk(folder)
        assert_last(entries, len(kept), at_least=min(1, len(kept)))
        assert [record.body for record in entries] == kept[len(kept) - len(entries) :]
        ring.close()


def test_an_old_entry_at_the_end_does_not_outlive_newer_ones(ring: RingMemory, memory: Path) -> None:
    """Large entries never reach the last bytes of the file, where a small one of the first time around lies."""
    small = FRAME_OVERHEAD_BYTES + HEADER_SIZE_BYTES + 10
    for _ in range((SMALL_BYTES - ENTRIES_START) // small):
        ring.append(1, 1, bytes(10))
    for step in range(2, 50):
        ring.append(step, 1, bytes(1000))
    assert [record.step for record in on_disk(memory)] == [47, 48, 49]


def test_an_entry_that_is_larger_than_the_ring_is_not_kept(ring: RingMemory, memory: Path) -> None:
    largest = SMALL_BYTES - ENTRIES_START - FRAME_OVERHEAD_BYTES - HEADER_SIZE_BYTES
    assert ring.append(1, 1, bytes(largest + 1)) is None
    assert ring.append(2, 2, bytes(largest)) == (ENTRIES_START, SMALL_BYTES)
    assert [record.step for record in on_disk(memory)] == [2]


def test_an_entry_is_read_at_its_place(ring: RingMemory) -> None:
    first, second = (ring.append(step, 1, encode_scalars({"loss": step / 7})) for step in (1, 2))
    assert first is not None
    assert second is not None
    assert encode_scalars({"loss": 1 / 7}) in ring.read(first)
    assert encode_scalars({"loss": 2 / 7}) in ring.read(second)
    assert first[1] == second[0]


def test_a_copy_makes_way_for_other_threads(memory: Path) -> None:
    ring, pauses = RingMemory(memory, 500), []
    ring.append(1, 1, encode_scalars({"loss": 1.0}))
    copy = ring.copy(lambda: pauses.append(1))
    assert len(pauses) == -(-ring.size_bytes // 2**17)
    assert bytes(copy) == (memory / RING_NAME).read_bytes()
    ring.close()


def test_marks_are_written_in_turn(ring: RingMemory, memory: Path) -> None:
    """A torn mark leaves the mark before it."""
    entries = [ring.append(step, 1, b"") for step in range(3)]
    assert None not in entries
    for record in on_disk(memory):
        before = ring.mark
        ring.write_mark(before.behind(record))
        data = bytearray((memory / RING_NAME).read_bytes())
        assert Mark.read(memoryview(data)) == ring.mark
        data[data.index(ring.mark.pack()) + 20] ^= 1
        assert Mark.read(memoryview(data)) == before


def test_a_closed_ring_is_gone(memory: Path) -> None:
    ring = RingMemory(memory, 500)
    assert (memory / RING_NAME).stat().st_mode & 0o777 == 0o600
    ring.close()
    assert list(memory.iterdir()) == []
    ring.close()
    with pytest.raises(ValueError, match="closed"):
        ring.append(1, 1, b"")


def test_threads_keep_their_entries_beside_each_other(memory: Path) -> None:
    ring = RingMemory(memory, 500)

    def work(thread: int) -> None:
        for step in range(1000):
            ring.append(step, thread, encode_scalars({f"loss/{thread}": float(step)}))

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = on_disk(memory)
    assert_last(entries, 4000, at_least=4000)
    for thread in range(4):
        mine = [record for record in entries if record.wall_time_ns == thread]
        assert [record.step for record in mine] == [*range(1000)]
        assert mine[7].body == encode_scalars({f"loss/{thread}": 7.0})
    ring.close()


def test_a_kill_costs_at_most_the_entry_whose_call_had_not_returned(memory: Path) -> None:
    read, write = os.pipe()

    def log_for_ever() -> None:
        ring = RingMemory(memory, 16)
        for number in range(1, 10**9):
            ring.append(number, number, encode_scalars({"loss": float(number)}))
            os.write(write, b"%d\n" % number)

    child = start(log_for_ever)
    os.close(write)
    with os.fdopen(read) as said:
        while (number := int(said.readline())) < 3000:
            continue
        os.kill(child, signal.SIGKILL)
        assert wait_for(child) == -signal.SIGKILL
        last = int([str(number), *said.read().rpartition("\n")[0].splitlines()][-1])
    entries = on_disk(memory)
    assert entries[-1].sequence in (last, last + 1)
    assert_last(entries, entries[-1].sequence, at_least=500)
