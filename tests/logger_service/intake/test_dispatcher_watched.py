"""What a reception tells of itself, how it minds its disk, and how a peer of its own process is served."""

import errno
import logging
from pathlib import Path

import pytest
from support.noted_logger import ACK_SECONDS, INTERVAL_SECONDS, NotedLogger
from support.sick_disk import SickDisk

from tensorboard_sidecar.logger_service.folders.disk_space import DiskSpace
from tensorboard_sidecar.logger_service.folders.low_water import LOOK_SECONDS
from tensorboard_sidecar.logger_service.intake.receive_session import HOLD_MIN_SECONDS, SILENCE_SECONDS
from tensorboard_sidecar.protocol.limits import CREDIT_BYTES
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import Ack, Bye, Welcome, WireMessage


@pytest.fixture
def logger(tmp_path: Path) -> NotedLogger:
    return NotedLogger(tmp_path)


def test_a_disk_that_is_nearly_full_gives_no_credit_but_takes_what_is_on_its_way(
    logger: NotedLogger, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    stream = Stream("demo")
    logger.hello(b"a", stream)
    logger.wait(LOOK_SECONDS)
    logger.network.take(b"a")
    logger.space = DiskSpace(1000, 2**41)
    logger.wait(LOOK_SECONDS)
    assert logger.network.take(b"a") == [Ack(1, 0)], "told at once, as it may be about to send"
    logger.data(b"a", 1, 6)
    logger.wait()
    assert logger.network.take(b"a") == [Ack(6, 0)]
    assert logger.hello(b"b", Stream("other")) == [Welcome(1, 0)]
    assert logger.reception.credit_held_back_bytes == 2 * CREDIT_BYTES
    assert logger.reception.trouble(logger.now) == "", "nothing failed"
    logger.space = DiskSpace(2**40, 2**41)
    logger.wait(LOOK_SECONDS)
    assert logger.network.take(b"a") == [Ack(6, CREDIT_BYTES)]
    assert logger.network.take(b"b") == [Ack(1, CREDIT_BYTES)]
    assert logger.reception.credit_held_back_bytes == 0
    assert caplog.text.count("asked to keep what they have") == caplog.text.count("there is room again") == 1


def test_a_trouble_is_told_until_a_commit_succeeds_or_nobody_is_there(
    logger: NotedLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger.hello(b"a", Stream("demo"))
    disk = SickDisk(monkeypatch, "fdatasync")
    disk.error = errno.EIO
    logger.data(b"a", 1, 4)
    logger.wait()
    assert "the journal cannot be written: " in logger.reception.trouble(logger.now)
    disk.error = 0
    logger.wait(HOLD_MIN_SECONDS)
    assert logger.reception.trouble(logger.now), "not tried yet"
    logger.data(b"a", 1, 4)
    logger.wait()
    assert logger.reception.trouble(logger.now) == ""
    disk.error = errno.EIO
    logger.data(b"a", 4, 6)
    logger.wait()
    assert logger.reception.trouble(logger.now)
    logger.wait(SILENCE_SECONDS)
    assert logger.reception.trouble(logger.now) == ""


def test_how_long_data_wait_for_their_acknowledgement_is_counted(
    logger: NotedLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger.hello(b"a", Stream("demo"))
    logger.data(b"a", 1, 4)
    logger.data(b"a", 4, 6)
    logger.wait()
    counts = logger.reception.ack_durations.counts()
    assert sum(counts.buckets) == 2
    assert counts.sum_seconds == pytest.approx(2 * (INTERVAL_SECONDS + ACK_SECONDS))
    assert sum(logger.journal.sync_durations.counts().buckets) == 1
    disk = SickDisk(monkeypatch, "fdatasync")
    disk.error = errno.EIO
    logger.data(b"a", 6, 7)
    logger.wait()
    assert sum(logger.reception.ack_durations.counts().buckets) == 2, "there was none"
    assert sum(logger.journal.sync_durations.counts().buckets) == 2


def test_what_was_committed_is_told_by_run(logger: NotedLogger) -> None:
    stream = Stream("team/demo")
    logger.hello(b"a", stream)
    logger.data(b"a", 1, 4)
    assert logger.reception.progress == {}
    logger.wait()
    assert logger.reception.progress == {stream.id: ("team/demo", 4)}


def test_a_peer_of_this_process_is_answered_there(logger: NotedLogger) -> None:
    answers: list[WireMessage] = []
    logger.reception.join(b"local", lambda message: answers.append(message) is None)
    assert logger.hello(b"local", Stream("demo")) == []
    assert answers == [Welcome(1, CREDIT_BYTES)]
    logger.reception.leave(b"local")
    assert logger.say(b"local", Bye()) == []
    assert logger.reception.streams == 0
