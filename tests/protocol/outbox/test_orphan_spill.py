"""Orphaned outboxes with spilled segments."""

import shutil
from pathlib import Path

import pytest
from support.logger.fake_logger import unpack_records
from support.records.recordings import START_NS, make_stream

from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox, find_outboxes
from tensorboard_sidecar.protocol.outbox.outbox_files import (
    NO_LOGGER,
    SPILL_POINTER,
    Destination,
    read_destination,
    write_destination,
    write_spill_pointer,
)
from tensorboard_sidecar.protocol.outbox.owner_lock import OwnerLock
from tensorboard_sidecar.protocol.record import FrameBatch, Kind, check_batch
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.telemetry.outbox.backlog import Backlog, Spill
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox


def abandon_spilled(memory: Path, disk: Path, count: int = 200) -> int:
    """Leave the orphan ``memory / "outbox"``, mostly in ``disk / "spill"``; return the end's sequence number."""
    outbox = Outbox(
        memory / "outbox", make_stream(), capacity_bytes=2**15, wall_time_ns=START_NS, segment_size_bytes=8192
    )
    backlog = Backlog(outbox, Spill(outbox.folder, disk / "spill", 2**30))
    for number in range(count):
        outbox.append(Kind.SCALARS, 0, START_NS, b"%d" % number * 300)
        while backlog.step(0.0):
            pass
    assert backlog.spilled_bytes > 2**16
    backlog.close(keep=True)
    return backlog.next_sequence


def read_bodies(orphan: OrphanedOutbox, size_max: int = 5000) -> list[bytes]:
    """Return the bodies of all records and gaps, after a check that no record is missing or doubled."""
    bodies, at = [], orphan.first_sequence
    while (run := orphan.read(at, size_max)) is not None:
        assert isinstance(check_batch(run.frames, at), FrameBatch)
        bodies += [record.body for record in unpack_records(run.frames)]
        at = run.next_sequence
    assert at == orphan.next_sequence
    return bodies


@pytest.mark.parametrize("size_max", [1, 700, 2**20])
def test_what_was_spilled_is_read_before_what_is_in_memory(memory: Path, tmp_path: Path, size_max: int) -> None:
    end = abandon_spilled(memory, tmp_path)
    orphan = OrphanedOutbox(memory / "outbox")
    assert (orphan.first_sequence, orphan.next_sequence) == (1, end)
    assert read_bodies(orphan, size_max) == [b"%d" % number * 300 for number in range(200)]
    run = orphan.read(20, 1)
    assert run is not None
    assert unpack_records(run.frames)[0].sequence == 20
    orphan.close(keep=True)
    OrphanedOutbox(memory / "outbox").close(keep=False)
    assert list(memory.iterdir()) == list(tmp_path.iterdir()) == []


def test_a_segment_that_lies_in_both_places_is_read_once(memory: Path, tmp_path: Path) -> None:
    """The trainer was killed when the segment was on disk and still in memory."""
    end = abandon_spilled(memory, tmp_path)
    last = max((tmp_path / "spill").glob("*.segment"))
    shutil.copy(last, memory / "outbox")
    orphan = OrphanedOutbox(memory / "outbox")
    assert len(read_bodies(orphan)) == end - 1
    orphan.close(keep=False)


def test_what_is_missing_on_disk_is_told_as_lost(memory: Path, tmp_path: Path) -> None:
    end = abandon_spilled(memory, tmp_path)
    first, second, *_, last = sorted((tmp_path / "spill").glob("*.segment"))
    second.unlink()
    last.unlink()
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 1
    first.write_bytes(data)
    orphan = OrphanedOutbox(memory / "outbox")
    bodies = read_bodies(orphan)
    lost = [body for body in bodies if b"lost with the trainer" in body]
    assert len(lost) == 3
    assert end - 1 - 40 < len(bodies) < end - 1
    orphan.close(keep=False)


def test_a_spilled_part_that_is_not_there_means_that_nobody_takes_the_rest(memory: Path, tmp_path: Path) -> None:
    abandon_spilled(memory, tmp_path)
    (tmp_path / "spill").rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="bring it back"):
        OrphanedOutbox(memory / "outbox")
    OwnerLock(memory / "outbox").close()
    (tmp_path / "elsewhere").rename(tmp_path / "spill")
    (tmp_path / "spill").chmod(0o755)
    with pytest.raises(PermissionError):
        OrphanedOutbox(memory / "outbox")
    (tmp_path / "spill").chmod(0o700)
    holder = OwnerLock(tmp_path / "spill")
    with pytest.raises(BlockingIOError):
        OrphanedOutbox(memory / "outbox")
    holder.close()
    OrphanedOutbox(memory / "outbox").close(keep=True)
    (memory / "outbox" / SPILL_POINTER).unlink()
    orphan = OrphanedOutbox(memory / "outbox")
    assert orphan.first_sequence > 100, "given up, as the message says"
    orphan.close(keep=False)


def test_a_spilled_part_of_another_stream_is_refused(memory: Path, tmp_path: Path) -> None:
    abandon_spilled(memory, tmp_path)
    for segment in (tmp_path / "spill").glob("*.segment"):
        segment.unlink()
    other = Outbox(memory / "other", Stream("other"), capacity_bytes=2**20, wall_time_ns=START_NS)
    shutil.copy(min(other.folder.glob("*.segment")), tmp_path / "spill")
    other.close(keep=False)
    with pytest.raises(Malformed, match="holds stream"):
        OrphanedOutbox(memory / "outbox")


def test_what_was_spilled_is_found_with_its_outbox_or_alone_when_that_is_no_more(memory: Path, tmp_path: Path) -> None:
    """Memory is lost when a machine restarts; the disk is not."""
    abandon_spilled(memory, tmp_path)
    assert find_outboxes(memory, tmp_path) == [memory / "outbox"]
    assert find_outboxes(tmp_path) == [], "it is a part, wherever one looks"
    shutil.rmtree(memory / "outbox")
    assert find_outboxes(memory, tmp_path) == [tmp_path / "spill"]
    orphan = OrphanedOutbox(tmp_path / "spill")
    bodies = read_bodies(orphan)
    assert bodies == [b"%d" % number * 300 for number in range(len(bodies))]
    assert len(bodies) > 100
    orphan.close(keep=False)
    assert list(tmp_path.iterdir()) == []


def test_both_parts_say_where_they_are_to_go(memory: Path, tmp_path: Path) -> None:
    """After a restart of the machine, the part on disk still goes to its own destination."""
    abandon_spilled(memory, tmp_path)
    for folder in (memory / "outbox", tmp_path / "spill"):
        write_destination(folder, Destination("tcp://127.0.0.1:5555", tmp_path / "recordings"))
    orphan = OrphanedOutbox(memory / "outbox")
    assert not orphan.settle(shipped=True)
    orphan.close(keep=True)
    for folder in (memory / "outbox", tmp_path / "spill"):
        assert read_destination(folder) == Destination(NO_LOGGER, tmp_path / "recordings")


def test_a_spilled_part_goes_where_its_outbox_does(memory: Path, tmp_path: Path) -> None:
    where = Destination(NO_LOGGER, tmp_path / "recordings", "key")
    for folder in (memory / "outbox", tmp_path / "spill"):
        folder.mkdir(mode=0o700)
    write_destination(memory / "outbox", where)
    write_spill_pointer(memory / "outbox", tmp_path / "spill")
    assert read_destination(tmp_path / "spill") == where
