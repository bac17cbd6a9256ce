"""The same records come again, from another peer or from the same: each is there once."""

import shutil
from collections.abc import Callable
from pathlib import Path

from faults.harness.acknowledged import check_acknowledged
from faults.harness.effort import rounds
from faults.harness.oracle import Verdict
from faults.harness.trainers import Trainers
from support.logger.delivering import delivering
from support.logger.peer import Peer
from support.machine.waiting import wait_until
from support.running.programs import LoggerProcess

from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import Reject, Welcome

RECORDS = rounds(quick=2000, full=50_000)
CALLS = 1000


def segment_bytes(logger: LoggerProcess) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in logger.recordings.rglob("*.segment")}


def test_the_whole_capture_sent_again_adds_nothing(logger: LoggerProcess) -> None:
    logger.start()
    stream = Stream("resent")
    with Peer(logger.endpoint, stream) as peer:
        peer.deliver(RECORDS + 1)
        peer.bye()
    before = segment_bytes(logger)
    with Peer(logger.endpoint, stream) as peer:
        answer = peer.hello()
        assert isinstance(answer, Welcome)
        assert answer.next_sequence == RECORDS + 1
        for first in range(1, RECORDS, 100):
            peer.send_records(first, first + 100)
        peer.send_records(RECORDS + 1, RECORDS + 2)  # acknowledged when all before it was looked at
        peer.wait_acked(RECORDS + 2)
        peer.bye()
    assert logger.stop() == 0
    after = segment_bytes(logger)
    assert all(after[name].startswith(held) for name, held in before.items()), "what was there is there as it was"
    check_acknowledged({stream: RECORDS + 2}, logger.recordings, logger.logdir)


def test_an_outbox_and_its_copy_are_shipped_one_after_the_other(
    logger: LoggerProcess, trainers: Trainers, judge: Callable[..., Verdict], tmp_path: Path
) -> None:
    trainer = trainers.start("copied", logger.endpoint)
    trainer.wait_returned(CALLS)
    trainer.kill()
    copy = tmp_path / "copy"
    shutil.copytree(trainers.memory, copy)
    logger.start()
    trainers.drain(logger.endpoint)
    before = segment_bytes(logger)
    trainers.drain(logger.endpoint, copy)
    assert segment_bytes(logger) == before
    assert logger.stop() == 0
    judge()


def test_the_same_stream_from_two_peers(logger: LoggerProcess) -> None:
    """The second is refused as long as the first is there, and the first is none the worse."""
    logger.start()
    stream = Stream("twice")
    with Peer(logger.endpoint, stream) as first, Peer(logger.endpoint, stream) as second:
        with delivering(first):
            wait_until(lambda: first.acked_sequence > RECORDS / 4)
            answer = second.hello()
            assert isinstance(answer, Reject)
            assert answer.retry
            assert "another peer sends this stream" in answer.reason
            second.send_records(1, 101)
            acked = first.acked_sequence
            wait_until(lambda: first.acked_sequence > acked + RECORDS / 4)
        first.bye()
    assert logger.stop() == 0
    check_acknowledged({stream: first.acked_sequence}, logger.recordings, logger.logdir)
