"""The next trainer ships the outboxes of dead trainers in the background."""

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest
from support.logger.fake_logger import FakeLogger
from support.machine.children import fork
from support.machine.waiting import wait_until
from support.records.recordings import START_NS, STREAM_ID, make_stream
from support.running.programs import free_port

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.messages import RunStart
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox, find_outboxes
from tensorboard_sidecar.protocol.outbox.orphan_delivery import LOOK_INTERVAL_SECONDS
from tensorboard_sidecar.protocol.outbox.outbox_files import Destination, write_destination
from tensorboard_sidecar.protocol.outbox.owner_lock import OWNER_LOCK
from tensorboard_sidecar.protocol.outbox.send_session import SendSession
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.protocol.wire import Hello, Reject, Welcome, WireMessage
from tensorboard_sidecar.telemetry.outbox.backlog import Storage
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox
from tensorboard_sidecar.telemetry.shipping import background as background_module
from tensorboard_sidecar.telemetry.shipping.background import BackgroundRecovery

Make = Callable[[str], BackgroundRecovery]


def abandon(folder: Path, *, stream_id: bytes = STREAM_ID, count: int = 500, spilled: bool = False) -> int:
    """Leave an orphaned outbox, partly on disk if ``spilled``; return the sequence number after its last record."""
    backlog = Storage(2**20 if spilled else 2**24, folder.parent).make(
        make_stream(stream_id=stream_id), wall_time_ns=START_NS
    )
    backlog.outbox.append(Kind.RUN_START, 0, START_NS, encode_body(RunStart()))
    for step in range(count - 1):
        backlog.outbox.append(Kind.SCALARS, step, START_NS, b"%d" % step * (700 if spilled else 1))
        while backlog.step(0.0):
            pass
    assert (backlog.spilled_bytes > 0) == spilled
    backlog.close(keep=True)
    return backlog.next_sequence


@pytest.fixture
def make(outboxes: Path) -> Iterator[Make]:
    """Make a recovery that ships to the logger at an endpoint."""
    made: list[BackgroundRecovery] = []

    def make_recovery(endpoint: str) -> BackgroundRecovery:
        find = Storage(outbox_dir=outboxes.parent).find_outboxes
        made.append(BackgroundRecovery(find, endpoint=endpoint))
        return made[-1]

    yield make_recovery
    for recovery in made:
        recovery.close()


def turn_until(recovery: BackgroundRecovery, condition: Callable[[], object]) -> None:
    def turned() -> object:
        recovery.step(monotonic())
        return condition()

    wait_until(turned)


@pytest.mark.parametrize("spilled", [False, True])
def test_what_was_left_behind_is_shipped_and_deleted(make: Make, outboxes: Path, spilled: bool) -> None:
    end = abandon(outboxes, spilled=spilled, count=5000)
    [folder] = Storage(outbox_dir=outboxes.parent).find_outboxes()
    with FakeLogger() as logger:
        turn_until(make(logger.endpoint), lambda: not folder.exists())
        records = logger.records[STREAM_ID]
    assert [record.sequence for record in records] == list(range(1, end))
    assert list(outboxes.parent.rglob("*.segment")) == []
    assert Storage(outbox_dir=outboxes.parent).find_outboxes() == []


def test_all_are_shipped_one_after_another_and_damaged_ones_are_left_and_said_once(
    make: Make, outboxes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        abandon(outboxes, stream_id=bytes([number]) * 16)
    damaged = outboxes / ("01" * 16)
    (damaged / f"{1:020d}.segment").write_bytes(b"rubbish")
    with FakeLogger() as logger:
        recovery = make(logger.endpoint)
        turn_until(recovery, lambda: find_outboxes(outboxes) == [damaged])
        for later in range(1, 10):
            recovery.step(monotonic() + later * LOOK_INTERVAL_SECONDS)
        assert sorted(logger.records) == [bytes(16), b"\2" * 16]
        assert logger.count(Hello) == 2
    [said] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert str(damaged) in said.getMessage()
    assert (damaged / OWNER_LOCK).exists()


def test_what_is_spilled_elsewhere_and_gone_is_left(
    make: Make, outboxes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Shipping the rest would make the missing records look lost."""
    abandon(outboxes, spilled=True)
    [folder] = find_outboxes(outboxes)
    [spill] = [path for path in outboxes.parent.glob("*spill*/*") if path.is_dir()]
    shutil.move(spill, outboxes.parent / "moved")
    with FakeLogger() as logger:
        recovery = make(logger.endpoint)
        recovery.step(monotonic())
        assert "bring it back" in caplog.text
        assert folder.exists()
        assert not logger.heard
    shutil.move(outboxes.parent / "moved", spill)
    with FakeLogger() as logger:
        turn_until(make(logger.endpoint), lambda: not folder.exists())


def test_an_outbox_in_use_is_not_touched(make: Make, outboxes: Path) -> None:
    live = Outbox(outboxes / "live", make_stream(), capacity_bytes=2**20, wall_time_ns=START_NS)
    live.append(Kind.SCALARS, 0, START_NS, b"x")
    with FakeLogger() as logger:
        recovery = make(logger.endpoint)
        for later in range(5):
            recovery.step(later * LOOK_INTERVAL_SECONDS)
        assert not logger.heard
    live.close(keep=False)


def test_a_refusal_for_good_is_said_once_and_the_outbox_stays(
    make: Make, outboxes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    end = abandon(outboxes)
    [folder] = find_outboxes(outboxes)
    with FakeLogger(lambda _: [Reject("not yours", retry=False)]) as logger:
        recovery = make(logger.endpoint)
        turn_until(recovery, lambda: "is not adopted: not yours (logged once; " in caplog.text)
        for later in range(1, 5):
            recovery.step(monotonic() + later * LOOK_INTERVAL_SECONDS)
        assert logger.count(Hello) == 1
    orphan = OrphanedOutbox(folder)
    assert orphan.next_sequence == end
    orphan.close(keep=True)


def test_what_is_let_go_is_finished_by_the_next_without_saying_anything_twice(make: Make, outboxes: Path) -> None:
    end = abandon(outboxes, count=20_000)
    [folder] = find_outboxes(outboxes)
    with FakeLogger(credit_bytes=2000) as logger:
        first = make(logger.endpoint)
        turn_until(first, lambda: logger.next_sequence(STREAM_ID) > 100)
        with pytest.raises(BlockingIOError):
            OrphanedOutbox(folder)
        first.close()
        have = logger.next_sequence(STREAM_ID)
        assert have < end
        OrphanedOutbox(folder).close(keep=True)
    with FakeLogger() as another:
        another.records = logger.records
        turn_until(make(another.endpoint), lambda: not folder.exists())
        assert [record.sequence for record in another.records[STREAM_ID]] == list(range(1, end))


def test_without_progress_it_is_let_go_and_tried_later(make: Make, outboxes: Path) -> None:
    """A logger on the same host may claim the outbox in the meantime."""
    abandon(outboxes)
    [folder] = find_outboxes(outboxes)
    recovery = make(f"tcp://127.0.0.1:{free_port()}")
    recovery.step(0.0)
    recovery.step(1.0)
    with pytest.raises(BlockingIOError):
        OrphanedOutbox(folder)
    recovery.step(LOOK_INTERVAL_SECONDS + 1.0)
    OrphanedOutbox(folder).close(keep=True)
    recovery.step(2 * LOOK_INTERVAL_SECONDS + 2.0)
    with pytest.raises(BlockingIOError):
        OrphanedOutbox(folder)


def test_a_disk_that_cannot_be_read_leaves_it(
    make: Make, outboxes: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    abandon(outboxes)
    monkeypatch.setattr(OrphanedOutbox, "read", fail)
    with FakeLogger() as logger:
        turn_until(make(logger.endpoint), lambda: "Input/output error" in caplog.text)
    assert len(find_outboxes(outboxes)) == 1


def test_a_run_is_small_whatever_the_logger_takes(make: Make, outboxes: Path) -> None:
    """A turn holds the interpreter, and training waits for the interpreter."""
    abandon(outboxes, count=10_000)
    sizes: list[int] = []
    with FakeLogger() as logger, pytest.MonkeyPatch.context() as patch:
        sent = SendSession.sent
        patch.setattr(SendSession, "sent", lambda self, run, now: (sizes.append(len(run.frames)), sent(self, run, now)))
        turn_until(make(logger.endpoint), lambda: not find_outboxes(outboxes))
    assert len(sizes) > 5
    assert max(sizes) <= 2**16 + 100


def test_a_forked_child_does_not_keep_what_its_parent_has_adopted(make: Make, outboxes: Path) -> None:
    abandon(outboxes)
    [folder] = find_outboxes(outboxes)
    recovery = make(f"tcp://127.0.0.1:{free_port()}")
    recovery.step(0.0)
    assert fork(lambda: None) == 0
    with pytest.raises(BlockingIOError):
        OrphanedOutbox(folder)


def test_the_next_trainer_of_the_same_run_ships_both(outboxes: Path) -> None:
    end = abandon(outboxes)
    with FakeLogger() as logger:
        with Telemetry("demo", endpoint=logger.endpoint, strict=True) as telemetry:
            telemetry.scalars(0, {"a": 1.0})
            logger.wait_for(STREAM_ID, end)
            wait_until(lambda: len(find_outboxes(outboxes)) == 1)
        assert sorted(len(records) for records in logger.records.values()) == [3, end - 1]
    assert find_outboxes(outboxes) == []


def test_a_trainer_that_ends_lets_go_at_once(outboxes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_module, "_BATCH_MAX_BYTES", 1)
    abandon(outboxes, count=5000)

    def starve(message: WireMessage) -> list[WireMessage] | None:
        """Give no credit to the orphan."""
        return [Welcome(1, 0)] if isinstance(message, Hello) and message.stream == STREAM_ID else None

    with FakeLogger(starve) as logger:
        telemetry = Telemetry("next", endpoint=logger.endpoint, strict=True)
        wait_until(lambda: logger.count(Hello) == 2)
        before = monotonic()
        telemetry.close(60.0)
        assert monotonic() - before < 20.0
    [folder] = find_outboxes(outboxes)
    OrphanedOutbox(folder).close(keep=True)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("orphan_delivery.SessionDelivery.step", "is not adopted: ArithmeticError('a bug')"),
        ("OrphanWorker.step", "left to the next one"),
    ],
)
def test_a_fault_of_recovery_harms_neither_the_trainer_nor_the_outbox(
    outboxes: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, method: str, said: str
) -> None:
    """Neither a fault in the delivery of an outbox, nor a fault in the search for outboxes."""

    def explode(*_: object) -> None:
        raise ArithmeticError("a bug")

    abandon(outboxes)
    [folder] = find_outboxes(outboxes)
    monkeypatch.setattr(f"{background_module.__name__}.{method}", explode)
    with FakeLogger() as logger:
        with Telemetry("next", endpoint=logger.endpoint, strict=True) as telemetry:
            wait_until(lambda: said in caplog.text)
            telemetry.scalars(0, {"a": 1.0})
            OrphanedOutbox(folder).close(keep=True)
        assert [len(records) for records in logger.records.values()] == [3]


def test_who_only_records_adopts_nothing(outboxes: Path, tmp_path: Path) -> None:
    abandon(outboxes)
    with Telemetry("next", endpoint=None, record=tmp_path, strict=True) as telemetry:
        telemetry.scalars(0, {"a": 1.0})
        wait_until(lambda: telemetry.lag_seconds == 0.0)
    assert len(find_outboxes(outboxes)) == 1


def test_the_next_trainer_takes_what_is_for_its_own_logger(outboxes: Path) -> None:
    """An outbox without a named logger was made by an old version."""
    ids = [bytes([number]) * 16 for number in range(3)]
    folders = [outboxes / stream_id.hex() for stream_id in ids]
    for stream_id in ids:
        abandon(outboxes, stream_id=stream_id)
    with FakeLogger() as logger:
        write_destination(folders[0], Destination(logger.endpoint))
        write_destination(folders[1], Destination("tcp://127.0.0.1:1"))
        with Telemetry("next", endpoint=logger.endpoint, strict=True):
            wait_until(lambda: not folders[0].exists() and not folders[2].exists())
        assert folders[1].exists()
        assert ids[1] not in logger.records
