"""Who has much to say, and who are many, leave each other their share of the logger.

What is counted is what the logger took of others, and not how long that lasted, so that no machine is too slow for it.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

import pytest
from faults.harness.diary import Returned
from faults.harness.disk_shim import Plan
from faults.harness.effort import rounds
from faults.harness.oracle import check
from faults.harness.trainers import Trainer, Trainers
from support.logger.peer import Peer, make_record
from support.machine.waiting import wait_until
from support.running.programs import LoggerProcess

from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.messages import Text
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import Ack, Data, Welcome

PEERS = 100
# Records of 16 KiB; a peer has so many, and keeps so many on their way.
BODY, RECORDS, WINDOW = encode_body(Text("text", "x" * 2**14)), rounds(quick=80, full=800), 8
# By so many records one peer may be ahead of another: with fair turns it is what they have on their way, and a little
# more with time. Who is starved lags by nearly all.
LEAD_MAX = max(3 * WINDOW, RECORDS // 8)
# Matrices of 128 KiB.
BACKLOG_STEPS, MATRIX_SIDE = rounds(quick=2000, full=6000), 256
MATRIX_BYTES = 2 * MATRIX_SIDE**2
# What is taken of the backlog, on average, between a live record and its acknowledgement: some commits of 8 MiB.
AHEAD_MAX_BYTES = 64 * 2**20


@pytest.fixture
def receiver(logger: LoggerProcess) -> LoggerProcess:
    """Return a logger that makes no event files: they are not what is looked at, and take the processor."""
    logger.program = Plan(str(logger.recordings), project=False).command()
    return logger


class BusyPeer:
    """Has much to send, and as much on its way as it may: who is served how often is the logger's choice."""

    def __init__(self, logger: LoggerProcess, number: int) -> None:
        self._next_sequence = 1
        self.peer = Peer(logger.endpoint, Stream(f"busy/{number}"))
        assert isinstance(self.peer.hello(), Welcome)

    @property
    def acked(self) -> int:
        """How many records are on disk."""
        return self.peer.acked_sequence - 1

    def turn(self) -> None:
        """Hear what is there, and send what may be sent."""
        while not self.peer.silent():
            assert isinstance(self.peer.receive(), Ack)
        while self._next_sequence <= min(RECORDS, self.acked + WINDOW):
            self.peer.send(Data(memoryview(make_record(self._next_sequence, kind=Kind.TEXT, body=BODY))))
            self._next_sequence += 1


def test_a_hundred_peers_with_much_to_send_get_on_alike(receiver: LoggerProcess) -> None:
    receiver.start()
    with ExitStack() as stack:
        peers = [BusyPeer(receiver, number) for number in range(PEERS)]
        for one in peers:
            stack.callback(one.peer.close)
        leads = list(progress(peers))
    print(f"of {RECORDS} records the first was ahead of the last by {leads}, as they got on")
    assert max(leads) <= LEAD_MAX
    assert receiver.stop() == 0
    print(check([Returned.up_to(one.peer.stream.id, RECORDS) for one in peers], receiver.recordings, None))


def progress(peers: list[BusyPeer]) -> Iterator[int]:
    """Have all sent; yield at each quarter of the first one's way by how many records it is ahead of the last."""
    quarter, deadline = 1, monotonic() + 120
    while min(one.acked for one in peers) < RECORDS:
        for one in peers:
            one.turn()
        first = max(one.acked for one in peers)
        if quarter <= 4 and first >= quarter * RECORDS / 4:
            yield first - min(one.acked for one in peers)
            quarter += 1
        assert monotonic() < deadline


def test_a_live_run_is_not_kept_waiting_by_the_backlog_of_another(
    receiver: LoggerProcess, trainers: Trainers, tmp_path: Path
) -> None:
    """A trainer whose logger was away for long ships as fast as it goes; beside it one record after the other lives."""
    backlog = gather_backlog(trainers, receiver, tmp_path / "spill")
    receiver.start()
    began, live = monotonic(), 0
    with Peer(receiver.endpoint, Stream("live")) as peer:
        peer.deliver(2)
        wait_until(lambda: recorded_bytes(receiver, "backlog") > 0, seconds=60, what="the backlog's trainer")
        while recorded_bytes(receiver, "backlog") < BACKLOG_STEPS * MATRIX_BYTES:
            live += 1
            peer.deliver(peer.acked_sequence + 1)
            assert monotonic() - began < 120
        seconds = monotonic() - began
        peer.bye()
    print(f"{live} live records beside {BACKLOG_STEPS * MATRIX_BYTES:,} bytes of backlog, which took {seconds:.1f} s")
    assert live > BACKLOG_STEPS * MATRIX_BYTES / AHEAD_MAX_BYTES
    assert backlog.finish() == 0
    assert receiver.stop() == 0
    returned = [backlog.returned, Returned.up_to(peer.stream.id, peer.acked_sequence - 1)]
    print(check(returned, receiver.recordings, None))


def gather_backlog(trainers: Trainers, logger: LoggerProcess, spill: Path) -> Trainer:
    """Have a trainer make its calls while there is no logger; return it when they came back."""
    options = {"outbox_bytes": 2 * BACKLOG_STEPS * MATRIX_BYTES, "spill_dir": str(spill)}
    plan = {"steps": BACKLOG_STEPS, "matrix_every": 1, "matrix_side": MATRIX_SIDE, "interval_seconds": 0.001}
    trainer = trainers.start("backlog", logger.endpoint, ending="wait", options=options, **plan)
    trainer.wait_for_call(BACKLOG_STEPS + 1)
    return trainer


def recorded_bytes(logger: LoggerProcess, run: str) -> int:
    return sum(path.stat().st_size for path in (logger.recordings / run).rglob("*.segment"))
