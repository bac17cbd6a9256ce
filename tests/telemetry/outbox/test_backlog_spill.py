"""Segments of an outbox on disk: kept, read, released; and a disk that loses or changes them."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.logger.fake_logger import unpack_records
from support.machine.sick_disk import SickDisk
from support.records.recordings import START_NS, make_stream

from tensorboard_sidecar.protocol.codec import decode_message
from tensorboard_sidecar.protocol.messages import Gap
from tensorboard_sidecar.protocol.outbox.outbox_files import read_spill_pointer
from tensorboard_sidecar.protocol.outbox.owner_lock import OwnerLock
from tensorboard_sidecar.protocol.record import Kind, Record
from tensorboard_sidecar.protocol.storage.recording_reader import RecordingReader
from tensorboard_sidecar.telemetry.outbox.backlog import Spill
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox


@pytest.fixture
def outbox(memory: Path) -> Iterator[Outbox]:
    made = Outbox(
        memory / "outbox", make_stream(), capacity_bytes=2**20, wall_time_ns=START_NS, segment_size_bytes=8192
    )
    yield made
    made.close(keep=False)


@pytest.fixture
def spill(outbox: Outbox, tmp_path: Path) -> Iterator[Spill]:
    made = Spill(outbox.folder, tmp_path / "spill", 2**20)
    yield made
    made.close(keep=False)


def say(outbox: Outbox, count: int) -> None:
    for number in range(count):
        outbox.append(Kind.SCALARS, number, START_NS, b"%d" % outbox.next_sequence * 300)


def move(outbox: Outbox, spill: Spill) -> int:
    """Spill all that is full; return the number behind the last that was."""
    while (segment := outbox.oldest_full_segment()) is not None:
        spill.keep(segment)
        outbox.release(segment.next_sequence)
    return outbox.first_sequence


def read_all(spill: Spill, sequence: int, end: int, size_max: int = 2000) -> list[Record]:
    records: list[Record] = []
    while sequence < end:
        run = spill.read(sequence, size_max)
        records += unpack_records(run.frames)
        sequence = run.next_sequence
    return records


def test_nothing_is_made_on_disk_before_it_is_needed(spill: Spill, outbox: Outbox) -> None:
    assert not spill.folder.exists()
    assert spill.first_sequence is None
    assert read_spill_pointer(outbox.folder) is None


@pytest.mark.parametrize("size_max", [1, 700, 5000, 2**20])
def test_what_was_moved_is_read_as_it_was(spill: Spill, outbox: Outbox, size_max: int) -> None:
    say(outbox, 100)
    end = move(outbox, spill)
    assert end > 50
    assert (spill.first_sequence, outbox.first_sequence) == (1, end)
    records = read_all(spill, 1, end, size_max)
    assert [record.sequence for record in records] == list(range(1, end))
    assert [record.body for record in records] == [b"%d" % n * 300 for n in range(1, end)]
    [middle] = unpack_records(spill.read(20, 1).frames)
    assert middle.sequence == 20
    with pytest.raises(LookupError):
        spill.read(end, 100)


def test_a_spill_is_a_recording_that_the_outbox_names_and_nobody_else_can_take(spill: Spill, outbox: Outbox) -> None:
    say(outbox, 100)
    end = move(outbox, spill)
    assert read_spill_pointer(outbox.folder) == spill.folder
    assert spill.folder.stat().st_mode & 0o777 == 0o700
    with pytest.raises(BlockingIOError):
        OwnerLock(spill.folder)
    reader = RecordingReader(spill.folder)
    assert reader.stream == outbox.stream
    assert [record.sequence for records in iter(reader.read, []) for record in records] == list(range(1, end))
    assert not reader.damages
    reader.close()


def test_what_was_released_is_deleted(spill: Spill, outbox: Outbox) -> None:
    say(outbox, 100)
    end = move(outbox, spill)
    files = len(list(spill.folder.glob("*.segment")))
    used = spill.used_bytes
    spill.release(40)
    assert 0 < len(list(spill.folder.glob("*.segment"))) < files
    assert 1 < (spill.first_sequence or 0) <= 40
    assert 0 < spill.used_bytes < used
    spill.release(end)
    assert list(spill.folder.glob("*.segment")) == []
    assert (spill.first_sequence, spill.used_bytes) == (None, 0)


def test_a_close_leaves_all_or_nothing(outbox: Outbox, tmp_path: Path) -> None:
    for keep in (True, False):
        spill = Spill(outbox.folder, tmp_path / str(keep), 2**20)
        say(outbox, 30)
        move(outbox, spill)
        spill.close(keep=keep)
        assert spill.folder.exists() == keep
        OwnerLock(tmp_path / "True").close()
    assert not (outbox.folder / "spilled").exists()


def test_a_file_that_somebody_put_there_is_not_deleted_with_the_rest(spill: Spill, outbox: Outbox) -> None:
    say(outbox, 30)
    move(outbox, spill)
    (spill.folder / "notes.txt").write_text("mine")
    spill.close(keep=False)
    assert [path.name for path in spill.folder.iterdir()] == ["notes.txt"]


def test_no_more_is_kept_than_may_be(outbox: Outbox, tmp_path: Path) -> None:
    spill = Spill(outbox.folder, tmp_path / "spill", 20_000)
    say(outbox, 100)
    with pytest.raises(OSError, match="bytes are taken") as raised:
        move(outbox, spill)
    assert raised.value.errno == errno.ENOSPC
    assert 8192 < spill.used_bytes <= 20_000
    assert outbox.first_sequence == 1 + len(read_all(spill, 1, outbox.first_sequence))
    spill.close(keep=False)


def test_half_of_a_disk_is_left_to_others(outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spill = Spill(outbox.folder, tmp_path / "spill", 2**40)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=30_000))
    say(outbox, 100)
    with pytest.raises(OSError, match="bytes are taken"):
        move(outbox, spill)
    assert 15_000 < spill.used_bytes <= 30_000
    spill.close(keep=False)


@pytest.mark.parametrize("call", ["write", "fdatasync", "fsync", "mkdir", "replace"])
def test_a_disk_that_fails_leaves_nothing_and_is_tried_again(
    spill: Spill, outbox: Outbox, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(outbox, 100)
    disk = SickDisk(monkeypatch, call)
    segment = outbox.oldest_full_segment()
    assert segment is not None
    for _ in range(2):
        disk.error = errno.EIO
        with pytest.raises(OSError, match="Input/output"):
            spill.keep(segment)
        assert disk.failures
        assert spill.first_sequence is None
        assert list(spill.folder.parent.glob("spill/*.segment")) == []
        assert list(spill.folder.parent.glob("spill/*.segment.new")) == []
    disk.error = 0
    end = move(outbox, spill)
    assert len(read_all(spill, 1, end)) == end - 1


def test_a_disk_that_fails_in_the_middle_can_still_be_read(
    spill: Spill, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(outbox, 30)
    end = move(outbox, spill)
    say(outbox, 30)
    disk = SickDisk(monkeypatch, "fdatasync")
    disk.error = errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        move(outbox, spill)
    disk.error = 0
    assert len(read_all(spill, 1, end)) == end - 1
    end = move(outbox, spill)
    assert len(read_all(spill, 1, end)) == end - 1


def first_segment(spill: Spill) -> Path:
    return min(spill.folder.glob("*.segment"))


def test_a_flipped_bit_costs_one_record(spill: Spill, outbox: Outbox) -> None:
    say(outbox, 100)
    end = move(outbox, spill)
    path = first_segment(spill)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)
    records = read_all(spill, 1, end)
    [gap] = [record for record in records if record.kind == Kind.GAP]
    assert gap.span == 1
    message = decode_message(gap)
    assert isinstance(message, Gap)
    assert "damaged" in message.reason
    assert [record.sequence for record in records] == list(range(1, end))


@pytest.mark.parametrize("damage", ["deleted", "empty", "cut", "rubbish", "another's"])
def test_a_segment_that_is_not_what_it_was_is_told_as_a_gap(spill: Spill, outbox: Outbox, damage: str) -> None:
    say(outbox, 100)
    end = move(outbox, spill)
    path = first_segment(spill)
    [second] = unpack_records(spill.read(spill._segments[0].next_sequence, 1).frames)
    match damage:
        case "deleted":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(path.read_bytes()[:3000])
        case "rubbish":
            path.write_bytes(os.urandom(5000))
        case "another's":
            path.write_bytes(sorted(spill.folder.glob("*.segment"))[1].read_bytes())
    records = read_all(spill, 1, end)
    assert [record.next_sequence for record in records[:-1]] == [record.sequence for record in records[1:]]
    assert (records[0].sequence, records[-1].next_sequence) == (1, end)
    [gap] = [record for record in records if record.kind == Kind.GAP]
    assert gap.next_sequence == second.sequence


def test_a_disk_that_cannot_be_read_is_an_error_that_passes(
    spill: Spill, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(outbox, 100)
    end = move(outbox, spill)
    disk = SickDisk(monkeypatch, "open")
    disk.error = errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        spill.read(1, 100)
    disk.error = 0
    assert len(read_all(spill, 1, end)) == end - 1


def test_a_link_in_the_place_of_a_segment_is_not_followed(spill: Spill, outbox: Outbox, tmp_path: Path) -> None:
    say(outbox, 100)
    move(outbox, spill)
    path = first_segment(spill)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        spill.read(1, 100)
