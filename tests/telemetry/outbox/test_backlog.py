"""Memory, and the disk behind it, as one: what goes where and when, and disks that will not."""

import errno
import logging
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from support.logger.fake_logger import unpack_records
from support.machine.sick_disk import SickDisk
from support.records.recordings import START_NS, make_stream

from tensorboard_sidecar.protocol.codec import decode_message
from tensorboard_sidecar.protocol.messages import Gap
from tensorboard_sidecar.protocol.record import Kind, Record
from tensorboard_sidecar.telemetry.outbox.backlog import Backlog, Spill
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox

CAPACITY_BYTES = 2**17
Make = Callable[..., Backlog]


@pytest.fixture
def make(memory: Path, tmp_path: Path) -> Iterator[Make]:
    """Make a backlog of sixteen segments."""
    made: list[Backlog] = []

    def make_backlog(spill_bytes: int = 2**24) -> Backlog:
        folder = memory / str(len(made))
        outbox = Outbox(
            folder, make_stream(), capacity_bytes=CAPACITY_BYTES, wall_time_ns=START_NS, segment_size_bytes=8192
        )
        spill = Spill(folder, tmp_path / folder.name, spill_bytes) if spill_bytes else None
        made.append(Backlog(outbox, spill))
        return made[-1]

    yield make_backlog
    for backlog in made:
        backlog.close(keep=False)


def say(backlog: Backlog, count: int, *, kind: Kind = Kind.SCALARS) -> None:
    for number in range(count):
        backlog.outbox.append(kind, number, START_NS, bytes(500))


def read_all(backlog: Backlog, size_max: int = 5000) -> list[Record]:
    records: list[Record] = []
    sequence = backlog.first_sequence
    while (run := backlog.read(sequence, size_max)) is not None:
        records += unpack_records(run.frames)
        sequence = run.next_sequence
    return records


def test_half_of_the_memory_is_used_before_a_disk_is(make: Make) -> None:
    backlog = make()
    say(backlog, 100)
    assert backlog.outbox.used_bytes < CAPACITY_BYTES / 2
    assert not backlog.step(0.0)
    say(backlog, 25)
    assert not backlog.step(0.0, busy=True)
    assert backlog.step(0.0)
    while backlog.step(0.0):
        pass
    assert CAPACITY_BYTES / 2 - 8192 <= backlog.outbox.used_bytes <= CAPACITY_BYTES / 2
    assert backlog.spilled_bytes > 0


def test_one_segment_is_moved_in_a_turn(make: Make) -> None:
    backlog = make()
    say(backlog, 200)
    spilled = [backlog.spilled_bytes]
    while backlog.step(0.0):
        spilled.append(backlog.spilled_bytes)
    assert len(spilled) > 4
    assert all(0 < later - earlier <= 8192 for earlier, later in pairwise(spilled))


def test_a_disk_makes_the_memory_larger_and_everything_is_there_in_order(make: Make) -> None:
    backlog = make()
    for _ in range(40):
        say(backlog, 50)
        while backlog.step(0.0):
            pass
        backlog.outbox.prepare(START_NS)
    assert backlog.outbox.refusals.total == 0
    assert backlog.spilled_bytes > 5 * CAPACITY_BYTES
    assert (backlog.first_sequence, backlog.next_sequence) == (1, 2001)
    assert [record.sequence for record in read_all(backlog)] == list(range(1, 2001))
    backlog.release(1500)
    assert 1 < backlog.first_sequence <= 1500
    with pytest.raises(LookupError, match="was released"):
        backlog.read(backlog.first_sequence - 1, 100)
    backlog.release(2001)
    assert backlog.spilled_bytes == 0
    assert not backlog.step(0.0)


def test_a_slot_that_waits_for_a_device_keeps_its_segment_in_memory(make: Make) -> None:
    backlog = make()
    slot = backlog.outbox.reserve(Kind.SCALARS, 0, START_NS, 100)
    assert slot is not None
    say(backlog, 150)
    assert not backlog.step(0.0)
    backlog.outbox.fill(slot, b"late")
    assert backlog.step(0.0)
    assert read_all(backlog)[0].body == b"late"


def test_a_full_disk_means_refusals_by_class_and_gaps_that_tell_them(make: Make) -> None:
    """Memory fills once the spill is full: pictures first, scalars go on."""
    backlog = make(spill_bytes=50_000)
    for _ in range(60):
        say(backlog, 5, kind=Kind.IMAGES)
        say(backlog, 1)
        while backlog.step(0.0):
            pass
    assert 30_000 < backlog.spilled_bytes <= 50_000
    refused = backlog.outbox.refusals.total
    assert refused > 50
    records, sequence = [], 1
    while sequence < backlog.next_sequence:
        while (run := backlog.read(sequence, 5000)) is not None:
            records += unpack_records(run.frames)
            sequence = run.next_sequence
        backlog.release(sequence)
        backlog.outbox.prepare(START_NS)
    gaps = [decode_message(record) for record in records if record.kind == Kind.GAP]
    kinds = [gap.kinds for gap in gaps if isinstance(gap, Gap)]
    assert sum(sum(counts.values()) for counts in kinds) == refused
    assert {kind for counts in kinds for kind in counts} == {"images"}
    assert sum(record.kind == Kind.SCALARS for record in records) == 60


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_fails_is_said_once_tried_again_and_used_when_it_recovers(
    make: Make, error: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    backlog = make()
    say(backlog, 180)
    disk = SickDisk(monkeypatch, "write")
    disk.error = error
    for tenth in range(1000):
        assert not backlog.step(tenth / 10)
    assert 5 <= disk.failures <= 8, "after 0, 1, 3, 7, 15, 31 and 61 seconds"
    [said] = caplog.records
    assert said.levelno == logging.WARNING
    assert len(read_all(backlog)) == 180, "what cannot be moved stays"
    disk.error = 0
    assert backlog.step(200.0)
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.INFO]
    assert len(read_all(backlog)) == 180
    disk.error = error
    assert not backlog.step(201.0)
    assert len(caplog.records) == 3


def test_a_disk_that_does_not_give_back_is_said_once_and_read_when_it_does(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    backlog = make()
    say(backlog, 150)
    assert backlog.step(0.0)
    disk = SickDisk(monkeypatch, "open")
    disk.error = errno.EIO
    assert backlog.read(1, 100) is None
    assert backlog.read(1, 100) is None
    [said] = caplog.records
    assert "cannot read back" in said.getMessage()
    disk.error = 0
    assert len(read_all(backlog)) == 150


def test_without_a_disk_everything_stays_in_memory(make: Make) -> None:
    backlog = make(spill_bytes=0)
    say(backlog, 180)
    assert not backlog.step(0.0)
    assert backlog.spilled_bytes == 0
    assert len(read_all(backlog)) == 180
