"""The flight ring of a killed trainer: its burst follows the trainer's last record, once, whoever delivers it."""

from pathlib import Path

import pytest
from support.logger.fake_logger import unpack_records
from support.records.recordings import START_NS, make_stream
from support.running.spoken import read_recording

from tensorboard_sidecar.protocol.codec import decode_message, encode_scalars
from tensorboard_sidecar.protocol.messages import Scalars, Text
from tensorboard_sidecar.protocol.outbox.flight_ring import RING_NAME, read_entries
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox
from tensorboard_sidecar.protocol.outbox.orphan_delivery import RecordingDelivery
from tensorboard_sidecar.protocol.record import FrameBatch, Kind, Record, check_batch
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox
from tensorboard_sidecar.telemetry.outbox.ring_memory import RingMemory

LOGGED = 30
KEPT = 7


def abandon(folder: Path, *, shipped: int = 0, unfilled: bool = False, entries: int = 20) -> int:
    """Leave an outbox and a ring of 7 steps, as a kill does; return the number after the outbox's last record.

    ``shipped`` entries of the ring were shipped before.
    """
    outbox = Outbox(folder, make_stream(), capacity_bytes=2**20, wall_time_ns=START_NS, segment_size_bytes=8192)
    for step in range(LOGGED):
        outbox.append(Kind.SCALARS, step, START_NS, encode_scalars({"loss": float(step)}))
    if unfilled:
        outbox.reserve(Kind.SCALARS, LOGGED, START_NS, 100)
    ring = RingMemory(folder, KEPT)
    for step in range(entries):
        ring.append(step, START_NS + step, encode_scalars({"loss": float(step)}))
    for entry in [*read_entries(ring.copy(lambda: None))][:shipped]:
        ring.write_mark(ring.mark.behind(entry))
    ring._memory.close(keep=True)
    outbox.close(keep=True)
    return outbox.next_sequence


def read_all(orphan: OrphanedOutbox, first_sequence: int, size_max_bytes: int = 2**20) -> list[Record]:
    records, at = [], first_sequence
    while (batch := orphan.read(at, size_max_bytes)) is not None:
        assert isinstance(check_batch(batch.frames, at), FrameBatch)
        records += unpack_records(batch.frames)
        at = batch.next_sequence
    assert at == orphan.next_sequence
    return records


def steps(records: list[Record]) -> list[int]:
    """Return the steps of a burst, which ends with its reason."""
    *scalars, reason = records
    assert [decode_message(record) for record in scalars] == [
        Scalars({"flight/loss": float(record.step)}) for record in scalars
    ]
    message = decode_message(reason)
    assert isinstance(message, Text)
    assert message.text.startswith("`the process ended without closing its telemetry")
    assert reason.step == scalars[-1].step
    return [record.step for record in scalars]


def test_the_burst_follows_the_last_record(memory: Path) -> None:
    for size_max_bytes in (1, 300, 2**20):
        end = abandon(memory / f"{size_max_bytes}")
        orphan = OrphanedOutbox(memory / f"{size_max_bytes}")
        records = read_all(orphan, 1, size_max_bytes)
        assert [record.sequence for record in records] == [*range(1, orphan.next_sequence)]
        assert [record.step for record in records[:LOGGED]] == [*range(LOGGED)]
        assert orphan.next_sequence == end + KEPT + 1
        assert steps(records[LOGGED:]) == [*range(13, 20)]
        assert read_all(orphan, end + 3) == records[LOGGED + 3 :]
        orphan.close(keep=False)
        assert not (memory / f"{size_max_bytes}").exists()


def test_it_follows_a_record_that_never_came(memory: Path) -> None:
    end = abandon(memory / "outbox", unfilled=True)
    orphan = OrphanedOutbox(memory / "outbox")
    records = read_all(orphan, 1)
    assert (records[LOGGED].kind, records[LOGGED].sequence, end) == (Kind.GAP, LOGGED + 1, LOGGED + 2)
    assert steps(records[LOGGED + 1 :]) == [*range(13, 20)]
    orphan.close(keep=False)


def test_what_the_trainer_shipped_itself_is_not_shipped_again(memory: Path) -> None:
    end = abandon(memory / "some", shipped=16)
    orphan = OrphanedOutbox(memory / "some")
    assert steps(read_all(orphan, end)) == [16, 17, 18, 19]
    orphan.close(keep=False)
    end = abandon(memory / "all", shipped=20)
    orphan = OrphanedOutbox(memory / "all")
    assert orphan.next_sequence == end
    orphan.close(keep=False)


def test_an_outbox_that_was_shipped_but_for_its_ring_is_delivered(memory: Path) -> None:
    """The usual case: the logger had everything when the trainer was killed."""
    end = abandon(memory / "outbox")
    orphan = OrphanedOutbox(memory / "outbox")
    assert steps(read_all(orphan, end)) == [*range(13, 20)]
    orphan.close(keep=False)


def test_who_goes_on_where_another_was_killed_makes_the_same_records(memory: Path, tmp_path: Path) -> None:
    abandon(memory / "outbox")
    first = OrphanedOutbox(memory / "outbox")
    expected = read_all(first, 1)
    delivery = RecordingDelivery(first, tmp_path, wall_time_ns=START_NS)
    delivery._writer.append(first.read(1, 2**20) or FrameBatch(memoryview(b""), 1, 1))
    batch = first.read(LOGGED + 1, 150)
    assert batch is not None
    assert LOGGED + 1 < batch.next_sequence < first.next_sequence
    delivery._writer.append(batch)
    delivery.close()
    first.close(keep=True)
    second = OrphanedOutbox(memory / "outbox")
    delivery = RecordingDelivery(second, tmp_path, wall_time_ns=START_NS)
    assert delivery.records == second.next_sequence - batch.next_sequence
    while not delivery.result:
        delivery.step(0.0)
    second.close(keep=False)
    assert read_recording(tmp_path) == expected


def test_a_damaged_ring_costs_no_other_record(memory: Path) -> None:
    end = abandon(memory / "outbox")
    (memory / "outbox" / RING_NAME).write_bytes(b"rubbish" * 1000)
    orphan = OrphanedOutbox(memory / "outbox")
    assert orphan.next_sequence == end
    assert len(read_all(orphan, 1)) == LOGGED
    orphan.close(keep=False)
    assert list(memory.iterdir()) == []


def test_a_removal_that_was_interrupted_leaves_no_burst(memory: Path) -> None:
    """Segments are deleted first: without them nobody knows the numbers of a burst."""
    abandon(memory / "outbox")
    for segment in (memory / "outbox").glob("*.segment"):
        segment.unlink()
    with pytest.raises(FileNotFoundError, match="nothing is left"):
        OrphanedOutbox(memory / "outbox")
    assert list(memory.iterdir()) == []
