"""The delivery of orphans: their order, retries, and when an outbox is deleted; sinks are stubs."""

import errno
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.logger.stub_sink import StubSink, make_orphan
from support.records.recordings import START_NS, make_stream

from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.outbox import orphan as orphan_module
from tensorboard_sidecar.protocol.outbox.orphan import find_outboxes
from tensorboard_sidecar.protocol.outbox.orphan_delivery import (
    NEVER,
    RETRY_SECONDS,
    OrphanDelivery,
    OrphanWorker,
    Refused,
    SessionDelivery,
    Sink,
    TryLater,
    Unclaimed,
    claim,
    reason,
)
from tensorboard_sidecar.protocol.outbox.outbox_files import NO_LOGGER, Destination, read_destination
from tensorboard_sidecar.protocol.outbox.owner_lock import OWNER_LOCK
from tensorboard_sidecar.protocol.outbox.send_session import SendState
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox

BOTH = Destination("tcp://127.0.0.1:5555", Path("/recordings"))


ENDPOINT = "tcp://127.0.0.1:5555"
LOOK_SECONDS = 2.0


class StubLink:
    """A link whose session the test moves; nothing is ever sent."""

    def __init__(self) -> None:
        self.endpoint = ENDPOINT
        self.session: Any = SimpleNamespace(acked_sequence=1, state=SendState.STREAMING, reason="")
        self.closed = False

    def step(self, _now_seconds: float) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


def deliver(folder: Path, *sinks: Sink) -> OrphanDelivery:
    delivery = OrphanDelivery(claim(folder), sinks)
    while not delivery.ended:
        delivery.step(0.0)
    delivery.close()
    return delivery


def test_the_recording_comes_before_the_logger_and_then_the_outbox_is_deleted(memory: Path) -> None:
    recorder, logger = StubSink("recorded"), StubSink("shipped")
    folder = make_orphan(memory / "a", BOTH)
    delivery = deliver(folder, logger.sink(), recorder.sink(recording=True))
    assert delivery.outcomes == ["recorded", "shipped"]
    assert recorder.closed == logger.closed == ["a"]
    assert delivery.settled
    assert not folder.exists()


def test_a_sink_that_fails_does_not_stop_the_next_sink(memory: Path) -> None:
    recorder = StubSink(error=OSError(errno.ENOSPC, "No space left on device"))
    folder = make_orphan(memory / "a", BOTH)
    delivery = deliver(folder, recorder.sink(recording=True), StubSink("shipped").sink())
    assert delivery.outcomes == [recorder.error, "shipped"]
    assert recorder.closed == ["a"]
    assert not delivery.settled
    assert read_destination(folder) == Destination(NO_LOGGER, BOTH.record)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TryLater("busy"), "busy"),
        (Refused("not yours"), "not yours"),
        (Malformed("torn"), "torn"),
        (ArithmeticError("a bug"), "ArithmeticError('a bug')"),
    ],
)
def test_a_failure_keeps_the_outbox(memory: Path, error: Exception, said: str) -> None:
    folder = make_orphan(memory / "a")
    assert deliver(folder, StubSink(error=error).sink()).outcomes == [error]
    assert reason(error) == said
    claim(folder).close(keep=True)


def test_an_orphan_without_that_sink_is_kept(memory: Path) -> None:
    folder = make_orphan(memory / "a")
    delivery = deliver(folder, Sink(lambda _orphan, _now_seconds: None))
    assert (delivery.outcomes, delivery.settled) == ([], False)
    assert folder.exists()


def test_a_destination_that_cannot_be_written_is_tried_again(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    folder = make_orphan(memory / "a", BOTH)
    monkeypatch.setattr(orphan_module.outbox_files, "write_destination", refuse)
    [error] = deliver(folder, StubSink().sink()).outcomes
    assert isinstance(error, TryLater)
    assert str(error) == f"[Errno {errno.EROFS}] Read-only file system"
    assert read_destination(folder) == BOTH


def test_closing_in_the_middle_keeps_the_outbox(memory: Path) -> None:
    folder, logger = make_orphan(memory / "a"), StubSink(steps=10)
    delivery = OrphanDelivery(claim(folder), [logger.sink()])
    for _ in range(5):
        assert delivery.step(0.0)
    delivery.close()
    assert logger.closed == ["a"]
    claim(folder).close(keep=True)


def test_an_outbox_with_an_owner_is_not_claimed(memory: Path) -> None:
    live = Outbox(memory / "a", make_stream(), capacity_bytes=2**20, wall_time_ns=START_NS)
    with pytest.raises(Unclaimed, match=r"^its trainer runs and ships it itself$"):
        claim(live.folder)
    live.close(keep=False)
    with pytest.raises(Unclaimed, match=r"^shipped meanwhile, by a logger or a trainer$"):
        claim(live.folder)


def test_an_outbox_that_cannot_be_read_says_why(memory: Path) -> None:
    folder = make_orphan(memory / "a")
    min(folder.glob("*.segment")).write_bytes(b"rubbish")
    with pytest.raises(Malformed):
        claim(folder)
    assert (folder / OWNER_LOCK).exists()


def test_a_folder_that_others_can_write_is_claimed_only_where_that_does_not_matter(memory: Path) -> None:
    folder = make_orphan(memory / "a")
    folder.chmod(0o777)
    with pytest.raises(PermissionError, match="not a private folder"):
        claim(folder, private=True)
    claim(folder).close(keep=False)
    assert not folder.exists()


def test_progress_extends_the_deadline(memory: Path) -> None:
    orphan, link = claim(make_orphan(memory / "a")), StubLink()
    delivery = SessionDelivery(orphan, link, 0.0)
    for acked_sequence in range(2, 11):
        link.session.acked_sequence = acked_sequence
        delivery.step(20.0 * acked_sequence)
    delivery.step(230.0)
    with pytest.raises(TryLater, match=f"^no logger answered at {ENDPOINT} within 30 seconds$"):
        delivery.step(230.1)
    link.session.acked_sequence = 11
    delivery.step(1000.0)
    assert (delivery.result, delivery.records) == ("shipped", 10 - 1)
    delivery.close()
    assert link.closed


def test_progress_does_not_extend_a_total_deadline(memory: Path) -> None:
    orphan, link = claim(make_orphan(memory / "a")), StubLink()
    delivery = SessionDelivery(orphan, link, 0.0, 30.0)
    for acked_sequence in range(2, 11):
        link.session.acked_sequence = acked_sequence
        delivery.step(3.0 * acked_sequence)
    link.session.reason = "busy"
    with pytest.raises(TryLater, match=r"^busy$"):
        delivery.step(30.1)


def test_a_refusal_is_final(memory: Path) -> None:
    orphan, link = claim(make_orphan(memory / "a")), StubLink()
    link.session.state, link.session.reason = SendState.REFUSED, "not yours"
    with pytest.raises(Refused, match=r"^not yours$"):
        SessionDelivery(orphan, link, 0.0).step(0.0)


def make_worker(
    memory: Path, sink: StubSink, grace_seconds: Callable[[Destination], float] = lambda _: 0.0
) -> OrphanWorker:
    return OrphanWorker(lambda: find_outboxes(memory), sink.sink(grace_seconds=grace_seconds), LOOK_SECONDS)


def turn(worker: OrphanWorker, now_seconds: float) -> None:
    while worker.step(now_seconds):
        pass


def test_all_orphans_are_delivered_one_after_another(memory: Path) -> None:
    sink = StubSink(steps=3)
    for name in "abc":
        make_orphan(memory / name, records=10)
    worker = make_worker(memory, sink)
    turn(worker, 0.0)
    assert sink.opened == sink.closed == ["a", "b", "c"]
    assert (worker.delivered, worker.records, worker.failed) == (3, 30, 0)
    assert find_outboxes(memory) == []


def test_a_step_claims_one_orphan_and_the_lock_is_held_until_the_end(memory: Path) -> None:
    sink = StubSink(steps=3)
    folder = make_orphan(memory / "a")
    worker = make_worker(memory, sink)
    assert worker.step(0.0)
    with pytest.raises(Unclaimed):
        claim(folder)
    worker.close()
    claim(folder).close(keep=True)


def test_the_grace_period_begins_when_the_owner_is_gone(memory: Path) -> None:
    sink = StubSink()
    outbox = Outbox(memory / "a", make_stream(), capacity_bytes=2**20, wall_time_ns=START_NS)
    worker = make_worker(memory, sink, lambda _: 5.0)
    turn(worker, 0.0)
    turn(worker, 100.0)
    outbox.close(keep=True)
    turn(worker, 102.0)
    turn(worker, 106.0)
    assert not sink.opened
    turn(worker, 108.0)
    assert sink.closed == ["a"]


def test_an_orphan_for_another_sink_is_never_claimed_and_not_mentioned(
    memory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink = StubSink()
    make_orphan(memory / "a", Destination(ENDPOINT))
    worker = make_worker(memory, sink, lambda destination: NEVER if destination == Destination(ENDPOINT) else 0.0)
    for now_seconds in range(0, 10_000, 100):
        turn(worker, now_seconds)
    assert (sink.opened, worker.failed) == ([], 0)
    assert not caplog.records


def test_a_reason_against_an_orphan_is_logged_once(memory: Path, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(_: Destination) -> float:
        raise Refused("it is for the logger at box")

    folder = make_orphan(memory / "a")
    worker = make_worker(memory, StubSink(), refuse)
    for now_seconds in range(0, 1000, 10):
        turn(worker, now_seconds)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        f"{folder} is not adopted: it is for the logger at box (logged once; by hand: "
        f"tensorboard-sidecar drain {folder} [--endpoint ADDRESS])"
    )
    assert worker.failed == 1


def test_a_delivery_that_may_succeed_later_is_tried_again_and_does_not_stop_the_others(
    memory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink = StubSink(error=TryLater("busy"))
    for name in "ab":
        make_orphan(memory / name)
    worker = make_worker(memory, sink)
    turn(worker, 0.0)
    turn(worker, RETRY_SECONDS - 1.0)
    assert sink.opened == ["a", "b"]
    turn(worker, RETRY_SECONDS + LOOK_SECONDS)
    assert sink.opened == ["a", "b", "a", "b"]
    assert caplog.text.count("busy (logged once, tried again every 30 s; ") == 2
    assert worker.failed == 2
    sink.error = None
    turn(worker, 3 * RETRY_SECONDS)
    assert (worker.delivered, worker.failed) == (2, 0)


def test_a_delivery_that_fails_for_good_is_not_tried_again(memory: Path) -> None:
    sink = StubSink(error=ArithmeticError("a bug"))
    make_orphan(memory / "a")
    worker = make_worker(memory, sink)
    for now_seconds in range(0, 1000, 10):
        turn(worker, now_seconds)
    assert sink.opened == ["a"]
    assert worker.failed == 1


def test_an_orphan_that_another_process_claims_first_is_looked_at_again(
    memory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sink = StubSink()
    folder = make_orphan(memory / "a")
    worker = make_worker(memory, sink)
    orphan = claim(folder)
    with monkeypatch.context() as patch:
        patch.setattr("tensorboard_sidecar.protocol.outbox.orphan_delivery._has_owner", lambda _: False)
        turn(worker, 0.0)
    orphan.close(keep=True)
    assert not caplog.records
    turn(worker, LOOK_SECONDS)
    assert worker.delivered == 1


def test_a_search_that_fails_is_logged_and_repeated(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> list[Path]:
        raise PermissionError("not yours")

    worker = OrphanWorker(fail, StubSink().sink(), LOOK_SECONDS)
    for now_seconds in (0.0, 1.0, 2.0):
        assert not worker.step(now_seconds)
    assert caplog.text.count("cannot look for orphaned outboxes: not yours") == 2
