"""The delivery of one orphan to its sinks: the order, what a failure costs, and when the outbox is deleted."""

import errno
from pathlib import Path

import pytest
from support.recordings import START_NS, make_stream
from support.stub_sink import StubSink, make_orphan

from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.outbox import orphan as orphan_module
from tensorboard_sidecar.protocol.outbox.destination import NO_LOGGER, Destination, read_destination
from tensorboard_sidecar.protocol.outbox.orphan_delivery import (
    NotDelivered,
    OrphanDelivery,
    Outcome,
    Sink,
    Unclaimed,
    claim,
)
from tensorboard_sidecar.protocol.outbox.owner_lock import OWNER_LOCK
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox

BOTH = Destination("tcp://127.0.0.1:5555", Path("/recordings"))


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
    assert [outcome.text for outcome in delivery.outcomes] == ["recorded", "shipped"]
    assert all(outcome.delivered for outcome in delivery.outcomes)
    assert recorder.closed == logger.closed == ["a"]
    assert delivery.settled
    assert not folder.exists()


def test_a_sink_that_fails_does_not_stop_the_next_sink(memory: Path) -> None:
    recorder = StubSink(error=OSError(errno.ENOSPC, "No space left on device"))
    folder = make_orphan(memory / "a", BOTH)
    delivery = deliver(folder, recorder.sink(recording=True), StubSink("shipped").sink())
    assert delivery.outcomes == [
        Outcome(f"[Errno {errno.ENOSPC}] No space left on device"),
        Outcome("shipped", delivered=True),
    ]
    assert recorder.closed == ["a"]
    assert not delivery.settled
    assert read_destination(folder) == Destination(NO_LOGGER, BOTH.record)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (NotDelivered("busy", retry=True), Outcome("busy", retry=True)),
        (NotDelivered("not yours", retry=False), Outcome("not yours")),
        (Malformed("torn"), Outcome("torn")),
        (ArithmeticError("a bug"), Outcome("ArithmeticError('a bug')")),
    ],
)
def test_a_failure_keeps_the_outbox(memory: Path, error: Exception, outcome: Outcome) -> None:
    folder = make_orphan(memory / "a")
    assert deliver(folder, StubSink(error=error).sink()).outcomes == [outcome]
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
    monkeypatch.setattr(orphan_module, "write_destination", refuse)
    assert deliver(folder, StubSink().sink()).outcomes == [
        Outcome(f"[Errno {errno.EROFS}] Read-only file system", retry=True)
    ]
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
