"""Which orphans a worker claims, and when; the outboxes are real, the sink is a stub, the clock is the test's."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from support.recordings import START_NS, make_stream
from support.stub_sink import StubSink, make_orphan

from tensorboard_sidecar.protocol.outbox.destination import Destination
from tensorboard_sidecar.protocol.outbox.orphan import find_outboxes
from tensorboard_sidecar.protocol.outbox.orphan_delivery import NotDelivered, Unclaimed, claim
from tensorboard_sidecar.protocol.outbox.orphan_worker import NEVER, RETRY_SECONDS, OrphanWorker
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox

LOOK_SECONDS = 2.0
OURS = Destination("tcp://127.0.0.1:5555")


def make_worker(
    memory: Path, sink: StubSink, grace_seconds: Callable[[Destination], float] = lambda _: 0.0
) -> OrphanWorker:
    return OrphanWorker(lambda: find_outboxes(memory), sink.sink(), grace_seconds, look_interval_seconds=LOOK_SECONDS)


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
    make_orphan(memory / "a", OURS)
    worker = make_worker(memory, sink, lambda destination: NEVER if destination == OURS else 0.0)
    for now_seconds in range(0, 10_000, 100):
        turn(worker, now_seconds)
    assert (sink.opened, worker.failed) == ([], 0)
    assert not caplog.records


def test_a_reason_against_an_orphan_is_logged_once(memory: Path, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(_: Destination) -> float:
        raise NotDelivered("it is for the logger at box", retry=False)

    folder = make_orphan(memory / "a")
    worker = make_worker(memory, StubSink(), refuse)
    for now_seconds in range(0, 1000, 10):
        turn(worker, now_seconds)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        f"{folder} is not adopted: it is for the logger at box (logged once; to deliver it by hand: "
        f"tensorboard-sidecar drain {folder} [--endpoint ADDRESS])"
    )
    assert worker.failed == 1


def test_a_delivery_that_may_succeed_later_is_tried_again_and_does_not_stop_the_others(
    memory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink = StubSink(error=NotDelivered("busy", retry=True))
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
        patch.setattr("tensorboard_sidecar.protocol.outbox.orphan_worker._has_owner", lambda _: False)
        turn(worker, 0.0)
    orphan.close(keep=True)
    assert not caplog.records
    turn(worker, LOOK_SECONDS)
    assert worker.delivered == 1


def test_a_search_that_fails_is_logged_and_repeated(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> list[Path]:
        raise PermissionError("not yours")

    worker = OrphanWorker(fail, StubSink().sink(), lambda _: 0.0, look_interval_seconds=LOOK_SECONDS)
    for now_seconds in (0.0, 1.0, 2.0):
        assert not worker.step(now_seconds)
    assert caplog.text.count("cannot look for orphaned outboxes: not yours") == 2
