"""The outbox and several threads that append at once."""

import shutil
import sys
import threading
from pathlib import Path

import pytest
from support.logger.fake_logger import unpack_records
from support.records.recordings import START_NS, make_stream

from tensorboard_sidecar.protocol.codec import encode_scalars
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox
from tensorboard_sidecar.protocol.record import Kind, Record
from tensorboard_sidecar.protocol.scalar_template import ScalarTemplate
from tensorboard_sidecar.telemetry.outbox import memory_segment
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox


def make_outbox(folder: Path, *, capacity: int, segment: int = 2**16) -> Outbox:
    return Outbox(folder, make_stream(), capacity_bytes=capacity, wall_time_ns=START_NS, segment_size_bytes=segment)


def say(outbox: Outbox) -> int:
    return outbox.append(Kind.SCALARS, 0, START_NS, bytes(100))


def read(outbox: Outbox | OrphanedOutbox, at: int) -> list[Record]:
    records: list[Record] = []
    while (run := outbox.read(at, 2**16)) is not None:
        records += unpack_records(run.frames)
        at = run.next_sequence
    return records


def test_threads_that_append_at_once_get_a_number_each(memory: Path) -> None:
    outbox = make_outbox(memory / "outbox", capacity=2**24)
    given: list[list[int]] = [[] for _ in range(4)]

    def work(mine: list[int]) -> None:
        mine.extend(say(outbox) for _ in range(500))

    threads = [threading.Thread(target=work, args=(mine,)) for mine in given]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(number for mine in given for number in mine) == list(range(1, 2001))
    assert all(mine == sorted(mine) for mine in given)
    assert [record.sequence for record in read(outbox, 1)] == list(range(1, 2001))
    outbox.close(keep=False)


def test_records_of_all_sizes_from_many_threads_are_kept_while_others_are_read_and_released(memory: Path) -> None:
    """The interpreter switches threads every 10 us, in the middle of any call."""
    outbox = make_outbox(memory / "outbox", capacity=2**26, segment=2**14)
    said: list[dict[int, bytes]] = [{} for _ in range(4)]

    def work(number: int) -> None:
        for size in (*range(0, 400, 2), *range(0, 40_000, 997)):
            body = bytes([number]) * size
            said[number][outbox.append(Kind.SCALARS, 0, START_NS, body)] = body

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    kept: dict[int, bytes] = {}
    at, interval = 1, sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads) or at < outbox.next_sequence:
            outbox.prepare(START_NS)
            found = read(outbox, at)
            kept.update((record.sequence, record.body) for record in found)
            at = found[-1].next_sequence if found else at
            outbox.release(at)
    finally:
        sys.setswitchinterval(interval)
    assert kept == {sequence: body for mine in said for sequence, body in mine.items()}
    assert list(kept) == list(range(1, outbox.next_sequence))
    outbox.close(keep=False)


def test_scalars_of_many_threads_are_kept_once_each(memory: Path) -> None:
    """The interpreter switches threads every 10 us; threads with scalars race with a thread that takes the long way."""
    outbox = make_outbox(memory / "outbox", capacity=2**26, segment=2**14)
    long_ways: list[int] = []

    def work(number: int) -> None:
        template = ScalarTemplate(f"thread/{number}")
        for step in range(500):
            if not outbox.append_scalar(template, step, START_NS, step / 2):
                outbox.append(Kind.SCALARS, step, START_NS, encode_scalars({f"thread/{number}": step / 2}))
                long_ways.append(step)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    threads.append(threading.Thread(target=lambda: [say(outbox) for _ in range(500)]))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    records = read(outbox, 1)
    assert [record.sequence for record in records] == list(range(1, 2501))
    for number in range(4):
        tag = f"thread/{number}"
        mine = [record.body for record in records if tag.encode() in record.body]
        assert mine == [encode_scalars({tag: step / 2}) for step in range(500)]
    assert len(long_ways) < 1900, "the short way is taken"
    outbox.close(keep=False)


def test_the_reader_writes_the_scalar_that_an_interrupted_call_did_not(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = make_outbox(memory / "outbox", capacity=2**20)
    template = ScalarTemplate("loss")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ScalarTemplate, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            outbox.append_scalar(template, 5, START_NS, 0.5)
    assert outbox.append_scalar(template, 6, START_NS, 1.5)
    shutil.copytree(outbox.folder, memory / "killed")
    orphan = OrphanedOutbox(memory / "killed")
    assert [(record.kind, record.sequence) for record in read(orphan, 1)] == [(Kind.GAP, 1), (Kind.SCALARS, 2)]
    orphan.close(keep=False)
    kept = [(record.sequence, record.step, record.body) for record in read(outbox, 1)]
    assert kept == [(1, 5, encode_scalars({"loss": 0.5})), (2, 6, encode_scalars({"loss": 1.5}))]
    outbox.close(keep=False)


def test_a_large_record_finds_its_way_between_a_thread_that_never_pauses(memory: Path) -> None:
    """Preparing the record takes longer than any pause; a call that prepared it anew each time would never end."""
    outbox = make_outbox(memory / "outbox", capacity=2**29, segment=2**22)
    stop, spoken = threading.Event(), threading.Event()

    def chatter() -> None:
        while not stop.is_set():
            say(outbox)
            spoken.set()

    thread = threading.Thread(target=chatter)
    thread.start()
    try:
        for _ in range(3):
            spoken.clear()
            assert spoken.wait(20), "nobody is kept waiting for good"
            body = bytes(40 * 2**20)
            sequence = outbox.append(Kind.EMBEDDING, 0, START_NS, body)
            run = outbox.read(sequence, 1)
            assert run is not None
            assert [len(record.body) for record in unpack_records(run.frames)] == [len(body)]
            assert outbox.used_bytes < 2**28, "segment after segment was begun in vain"
            outbox.release(sequence)
    finally:
        stop.set()
        thread.join()
    outbox.close(keep=False)


def test_nobody_waits_behind_a_large_record(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers once waited 100 ms and more for a large record. Here its copy stands still until they have returned.

    A kill at that moment keeps the records that returned, and loses the large record alone.
    """
    outbox = make_outbox(memory / "outbox", capacity=2**26)
    large, copying, go_on = bytes(2**20), threading.Event(), threading.Event()
    crc32c = memory_segment.crc32c

    def slow_crc32c(data: bytes, value: int = 0) -> int:
        if len(data) == len(large) and not copying.is_set():
            copying.set()
            assert go_on.wait(60)
        return crc32c(data, value)

    monkeypatch.setattr(memory_segment, "crc32c", slow_crc32c)
    thread = threading.Thread(target=outbox.append, args=(Kind.EMBEDDING, 0, START_NS, large))
    thread.start()
    try:
        assert copying.wait(20)
        assert [say(outbox) for _ in range(1000)] == list(range(2, 1002))
        shutil.copytree(outbox.folder, memory / "killed")
        assert thread.is_alive(), "the copy is not done"
    finally:
        go_on.set()
        thread.join()
    orphan = OrphanedOutbox(memory / "killed")
    gap, *kept = read(orphan, 1)
    assert (gap.kind, gap.sequence, gap.next_sequence) == (Kind.GAP, 1, 2)
    assert [record.sequence for record in kept] == list(range(2, 1002))
    orphan.close(keep=False)
    assert [len(record.body) for record in read(outbox, 1)] == [len(large)] + 1000 * [100]
    outbox.close(keep=False)


def test_the_reader_writes_what_an_interrupted_call_did_not(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between placing and copying: the place would hold back all records after it."""
    outbox = make_outbox(memory / "outbox", capacity=2**20)
    write_frame = memory_segment.MemorySegment.write_frame

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(memory_segment.MemorySegment, "write_frame", interrupted)
    with pytest.raises(KeyboardInterrupt):
        say(outbox)
    monkeypatch.setattr(memory_segment.MemorySegment, "write_frame", write_frame)
    assert say(outbox) == 2
    shutil.copytree(outbox.folder, memory / "killed")
    orphan = OrphanedOutbox(memory / "killed")
    assert [(record.kind, record.sequence) for record in read(orphan, 1)] == [(Kind.GAP, 1), (Kind.SCALARS, 2)]
    orphan.close(keep=False)
    assert [(record.sequence, record.body) for record in read(outbox, 1)] == [(1, bytes(100)), (2, bytes(100))]
    outbox.close(keep=False)
