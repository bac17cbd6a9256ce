"""Outboxes whose trainer is gone."""

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from support.logger.fake_logger import unpack_records
from support.machine.children import start, wait_for
from support.records.recordings import START_NS, make_stream

from tensorboard_sidecar.protocol.codec import decode_message, encode_scalars
from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.messages import Gap, Scalars
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox, find_outboxes, frame_payloads
from tensorboard_sidecar.protocol.outbox.outbox_files import NO_LOGGER, Destination, read_destination, write_destination
from tensorboard_sidecar.protocol.outbox.owner_lock import OWNER_LOCK, OwnerLock
from tensorboard_sidecar.protocol.record import FrameBatch, Kind, Record, check_batch, pack_record
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox


def log_for_ever(folder: Path, said: int) -> None:
    """Act as a trainer that writes the sequence number of each record to a pipe after the call has returned."""
    outbox = Outbox(folder, Stream("killed"), capacity_bytes=2**26, wall_time_ns=1, segment_size_bytes=2**16)
    for step in range(10**9):
        sequence = outbox.append(Kind.SCALARS, step, step, encode_scalars({"loss": float(step)}))
        os.write(said, b"%d\n" % sequence)
        if step % 100 == 0:
            outbox.prepare(step)


def abandon(folder: Path, bodies: list[bytes], *, unfilled: tuple[int, ...] = ()) -> int:
    """Leave an orphaned outbox with these records; return the sequence number after the last."""
    outbox = Outbox(folder, make_stream(), capacity_bytes=2**20, wall_time_ns=START_NS, segment_size_bytes=8192)
    for number, body in enumerate(bodies):
        if number in unfilled:
            outbox.reserve(Kind.SCALARS, 0, START_NS, 100)
        else:
            outbox.append(Kind.SCALARS, 0, START_NS, body)
    outbox.close(keep=True)
    return outbox.next_sequence


def test_a_live_outbox_is_not_adopted_and_an_adopted_one_only_once(memory: Path) -> None:
    outbox = Outbox(memory / "live", make_stream(), capacity_bytes=2**20, wall_time_ns=START_NS)
    with pytest.raises(BlockingIOError):
        OrphanedOutbox(memory / "live")
    outbox.close(keep=True)
    orphan = OrphanedOutbox(memory / "live")
    with pytest.raises(BlockingIOError):
        OrphanedOutbox(memory / "live")
    orphan.close(keep=True)
    OrphanedOutbox(memory / "live").close(keep=False)
    assert not (memory / "live").exists()


@pytest.mark.parametrize("size_max", [1, 50, 300, 5000, 2**20])
def test_records_come_whole_in_order_and_in_pieces_of_any_size(memory: Path, size_max: int) -> None:
    end = abandon(memory / "outbox", [b"%d" % number * 40 for number in range(300)])
    orphan = OrphanedOutbox(memory / "outbox")
    assert (orphan.first_sequence, orphan.next_sequence) == (1, end)
    bodies, at = [], 1
    while (run := orphan.read(at, size_max)) is not None:
        bodies += [record.body for record in unpack_records(run.frames)]
        at = run.next_sequence
    assert bodies == [b"%d" % number * 40 for number in range(300)]
    run = orphan.read(150, 1)
    assert run is not None
    assert unpack_records(run.frames)[0].sequence == 150
    orphan.close(keep=False)


def test_slots_that_were_never_filled_are_told_as_lost(memory: Path) -> None:
    """At the beginning, in the middle, and at the end, where no later record shows the hole."""
    end = abandon(memory / "outbox", [b"x"] * 9, unfilled=(0, 3, 4, 8))
    orphan = OrphanedOutbox(memory / "outbox")
    records, at = [], 1
    while (run := orphan.read(at, 10_000)) is not None:
        assert isinstance(check_batch(run.frames, at), FrameBatch)
        records += unpack_records(run.frames)
        at = run.next_sequence
    gaps = [(record.sequence, record.next_sequence) for record in records if record.kind == Kind.GAP]
    assert gaps == [(1, 2), (4, 6), (9, 10)]
    assert at == orphan.next_sequence == end == 10
    message = decode_message(records[0])
    assert isinstance(message, Gap)
    assert message.reason.startswith("lost with the trainer")
    orphan.close(keep=False)


def test_what_is_lost_between_two_records_has_step_and_time_of_the_first() -> None:
    payloads = [memoryview(pack_record(Record(Kind.SCALARS, n, 10 * n, START_NS + n, b""))) for n in (2, 5, 9)]
    frames, at = frame_payloads(payloads, 1, 9, "lost")
    found = [record for record in unpack_records(b"".join(frames)) if record.kind == Kind.GAP]
    assert [record[1:4] for record in found] == [(1, 0, 0), (3, 20, START_NS + 2)]
    assert at == 6


def test_refusals_that_were_never_told_are_told_as_lost(memory: Path) -> None:
    outbox = Outbox(memory / "outbox", make_stream(), capacity_bytes=10_000, wall_time_ns=START_NS)
    outbox.append(Kind.SCALARS, 0, START_NS, b"kept")
    for _ in range(5):
        outbox.append(Kind.SCALARS, 0, START_NS, bytes(20_000))
    shutil.copytree(outbox.folder, memory / "killed")
    outbox.close(keep=False)
    orphan = OrphanedOutbox(memory / "killed")
    run = orphan.read(2, 100)
    assert run is not None
    [gap] = unpack_records(run.frames)
    assert (gap.kind, gap.sequence, gap.next_sequence, orphan.next_sequence) == (Kind.GAP, 2, 7, 7)
    orphan.close(keep=False)


def test_what_was_released_is_not_there(memory: Path) -> None:
    outbox = Outbox(
        memory / "outbox", make_stream(), capacity_bytes=2**20, wall_time_ns=START_NS, segment_size_bytes=8192
    )
    for _ in range(300):
        outbox.append(Kind.SCALARS, 0, START_NS, bytes(100))
    outbox.release(200)
    first = outbox.first_sequence
    assert 1 < first <= 200
    outbox.close(keep=True)
    orphan = OrphanedOutbox(memory / "outbox")
    assert orphan.first_sequence == first
    with pytest.raises(LookupError, match=f"{first} is the first"):
        orphan.read(first - 1, 100)
    orphan.close(keep=False)


def test_an_outbox_that_was_all_shipped_ends_where_its_trainer_did(memory: Path) -> None:
    """The last segment may be empty: only its file name holds the next sequence number."""
    outbox = Outbox(
        memory / "outbox", make_stream(), capacity_bytes=16_384, wall_time_ns=START_NS, segment_size_bytes=8192
    )
    for _ in range(40):
        outbox.append(Kind.SCALARS, 0, START_NS, bytes(100))
    for _ in range(2):
        outbox.prepare(START_NS)
        outbox.release(41)
    assert outbox.first_sequence == 41
    outbox.close(keep=True)
    orphan = OrphanedOutbox(memory / "outbox")
    assert (orphan.first_sequence, orphan.next_sequence) == (41, 41)
    assert orphan.read(41, 100) is None
    orphan.close(keep=False)


def test_a_folder_that_is_no_outbox_is_an_error_and_stays_unlocked(memory: Path) -> None:
    OwnerLock(memory, make=True).close()
    (memory / f"{1:020d}.segment").write_bytes(b"rubbish")
    with pytest.raises(Malformed):
        OrphanedOutbox(memory)
    OwnerLock(memory).close()


def test_what_a_kill_left_of_a_deleted_outbox_is_deleted(memory: Path) -> None:
    """Segments are deleted first. A folder with a lock and no segments once blocked ``drain`` forever."""
    folder = memory / "outbox"
    abandon(folder, [b"x"])
    for segment in folder.glob("*.segment"):
        segment.unlink()
    with pytest.raises(FileNotFoundError, match="nothing is left"):
        OrphanedOutbox(folder)
    assert not folder.exists()


def test_outboxes_are_found_in_a_folder_or_are_the_folder(memory: Path) -> None:
    for name in ("b", "a"):
        abandon(memory / name, [b"x"])
    (memory / "other").mkdir()
    assert find_outboxes(memory) == [memory / "a", memory / "b"]
    assert find_outboxes(memory / "a") == [memory / "a"]
    assert find_outboxes(memory / "none") == []
    assert (memory / "a" / OWNER_LOCK).exists()


@pytest.mark.parametrize("kill", range(10))
def test_everything_returned_before_a_kill_is_recovered_once_and_in_order(memory: Path, kill: int) -> None:
    """C2, with a real process and a real SIGKILL."""
    heard, said = os.pipe()
    trainer = start(lambda: log_for_ever(memory / "outbox", said))
    os.close(said)
    returned = b""
    while returned.count(b"\n") < 50 + 731 * kill:
        returned += os.read(heard, 4096)
    os.kill(trainer, signal.SIGKILL)
    while rest := os.read(heard, 4096):
        returned += rest
    os.close(heard)
    assert wait_for(trainer) == -signal.SIGKILL
    last = int(returned.splitlines()[-1])
    orphan = OrphanedOutbox(memory / "outbox")
    assert orphan.stream == Stream("killed", id=orphan.stream.id)
    records, at = [], 1
    while (run := orphan.read(at, 2**18)) is not None:
        records += unpack_records(run.frames)
        at = run.next_sequence
    assert at - 1 in (last, last + 1), "one more may have been kept than could be said"
    assert [record.sequence for record in records] == list(range(1, at))
    assert [decode_message(record) for record in records] == [Scalars({"loss": float(n)}) for n in range(at - 1)]
    orphan.close(keep=False)


def test_outboxes_are_found_in_the_folder_that_was_given_for_them(memory: Path) -> None:
    (memory / "tensorboard-sidecar-0").mkdir()
    abandon(memory / "tensorboard-sidecar-0" / "a", [b"x"])
    assert find_outboxes(memory) == [memory / "tensorboard-sidecar-0" / "a"]


def test_an_outbox_says_who_still_waits_for_it(memory: Path) -> None:
    abandon(memory / "outbox", [b"x"] * 3)
    where = Destination("tcp://127.0.0.1:5555", memory / "recordings", "key")
    write_destination(memory / "outbox", where)
    orphan = OrphanedOutbox(memory / "outbox")
    assert orphan.destination == where
    assert not orphan.settle(shipped=True)
    assert orphan.destination == read_destination(memory / "outbox") == replace(where, endpoint=NO_LOGGER)
    assert orphan.settle(recorded=True)
    assert read_destination(memory / "outbox").record, "who is killed before it is deleted leaves it for its recording"
    orphan.close(keep=False)
    assert list(memory.iterdir()) == []


def test_what_names_nobody_waits_for_one_logger(memory: Path) -> None:
    abandon(memory / "outbox", [b"x"] * 3)
    orphan = OrphanedOutbox(memory / "outbox")
    assert not orphan.settle()
    assert orphan.settle(shipped=True)
    orphan.close(keep=False)
