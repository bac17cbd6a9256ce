"""The sender thread: shipping, waiting, and an end in every case."""

import logging
import math
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from queue import Queue
from time import monotonic
from typing import TYPE_CHECKING, cast

import pytest
from support.logger.fake_logger import FakeLogger
from support.machine.waiting import wait_until
from support.records.recordings import START_NS, STREAM_ID, make_stream
from support.running.programs import free_port

from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.protocol.storage.recording_reader import RecordingReader
from tensorboard_sidecar.protocol.wire import Data, Hello, Reject
from tensorboard_sidecar.telemetry.outbox.backlog import Backlog
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox
from tensorboard_sidecar.telemetry.shipping import recorder as recorder_module
from tensorboard_sidecar.telemetry.shipping import sender as sender_module
from tensorboard_sidecar.telemetry.shipping.link import LoggerLink
from tensorboard_sidecar.telemetry.shipping.recorder import Recorder
from tensorboard_sidecar.telemetry.shipping.sender import Sender

if TYPE_CHECKING:
    from tensorboard_sidecar.telemetry.shipping.helper_link import HelperLink

Start = Callable[..., Sender]


@pytest.fixture
def outbox(memory: Path) -> Iterator[Outbox]:
    made = Outbox(
        memory / "outbox", make_stream(), capacity_bytes=2**20, wall_time_ns=START_NS, segment_size_bytes=2**16
    )
    yield made
    made.close(keep=False)


@pytest.fixture
def start(outbox: Outbox, tmp_path: Path) -> Iterator[Start]:
    """Start a sender to a logger, to a recording, or both."""
    senders: list[Sender] = []

    def start_sender(
        endpoint: str = "", *, record: bool = False, poll_device: Callable[[], bool] = lambda: False
    ) -> Sender:
        link = LoggerLink(outbox, endpoint) if endpoint else None
        recorder = Recorder(outbox, tmp_path / "record", wall_time_ns=START_NS) if record else None
        senders.append(Sender(Backlog(outbox), link, recorder, poll_device))
        senders[-1].start()
        return senders[-1]

    yield start_sender
    for sender in senders:
        finish(sender, 0.0)
        sender.join()


def say(outbox: Outbox, count: int = 100, size: int = 100) -> int:
    for number in range(count):
        outbox.append(Kind.SCALARS, number, START_NS, bytes(size))
    return outbox.next_sequence


def finish(sender: Sender, deadline_seconds: float, unanswered_seconds: float = math.inf) -> bool:
    sender.stop(deadline_seconds, unanswered_seconds)
    return sender.finish()


def recorded(outbox: Outbox, tmp_path: Path) -> list[int]:
    reader = RecordingReader(tmp_path / "record" / "demo" / outbox.stream.folder_name)
    sequences = [record.sequence for records in iter(reader.read, []) for record in records]
    reader.close()
    return sequences


def test_records_are_shipped_while_the_loop_goes_on_and_memory_is_given_back(outbox: Outbox, start: Start) -> None:
    with FakeLogger() as logger:
        sender = start(logger.endpoint)
        for _ in range(10):
            end = say(outbox, 100, 1000)
            logger.wait_for(STREAM_ID, end)
        wait_until(lambda: outbox.first_sequence > 800)
        assert finish(sender, 10.0)
    assert not outbox.refusals.total
    assert [record.sequence for record in logger.records[STREAM_ID]] == list(range(1, end))


def test_a_spare_segment_is_made_before_it_is_needed(outbox: Outbox, start: Start) -> None:
    start(f"tcp://127.0.0.1:{free_port()}")
    wait_until(lambda: list(outbox.folder.glob("*.spare")))
    say(outbox, 700)
    wait_until(lambda: len(list(outbox.folder.glob("*.segment"))) == 2 and list(outbox.folder.glob("*.spare")))


def test_lag_is_that_of_the_slowest_sink(outbox: Outbox, start: Start) -> None:
    sender = start(f"tcp://127.0.0.1:{free_port()}", record=True)
    say(outbox)
    wait_until(lambda: sender.lag_seconds > 0.05)
    assert sender.acked_sequence == 1
    assert not sender.drained


def test_lag_ends_with_the_last_acknowledgement(outbox: Outbox, start: Start) -> None:
    with FakeLogger() as logger:
        sender = start(logger.endpoint)
        say(outbox)
        wait_until(lambda: sender.drained and sender.lag_seconds == 0.0)
        assert finish(sender, 1.0)


def test_both_sinks_get_everything(outbox: Outbox, start: Start, tmp_path: Path) -> None:
    with FakeLogger() as logger:
        sender = start(logger.endpoint, record=True)
        end = say(outbox, 2000)
        assert finish(sender, 20.0)
    assert recorded(outbox, tmp_path) == list(range(1, end))
    assert [record.sequence for record in logger.records[STREAM_ID]] == list(range(1, end))


def test_a_finish_does_not_wait_for_the_next_look(
    outbox: Outbox, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the thread is told twice, as by a signal handler."""
    monkeypatch.setattr(sender_module, "WAKE_INTERVAL_SECONDS", 60.0)
    sender = start(record=True)
    wait_until(lambda: list(outbox.folder.glob("*.spare")), what="a first turn")
    end = say(outbox)
    before = monotonic()
    sender.stop(50.0)
    assert finish(sender, 50.0)
    assert monotonic() - before < 20.0
    assert recorded(outbox, tmp_path) == list(range(1, end))


def test_a_finish_without_a_logger_ends_at_its_deadline(outbox: Outbox, start: Start) -> None:
    sender = start(f"tcp://127.0.0.1:{free_port()}")
    say(outbox)
    before = monotonic()
    assert not finish(sender, 0.3)
    assert 0.3 <= monotonic() - before < 20.0
    assert not sender.is_alive()


def test_a_logger_that_never_answered_is_not_waited_for_until_the_deadline(outbox: Outbox, start: Start) -> None:
    sender = start(f"tcp://127.0.0.1:{free_port()}")
    say(outbox)
    before = monotonic()
    assert not finish(sender, 60.0, 0.2)
    assert 0.2 <= monotonic() - before < 20.0


def test_a_logger_that_never_answered_does_not_cut_the_recording_short(
    outbox: Outbox, start: Start, tmp_path: Path
) -> None:
    sender = start(f"tcp://127.0.0.1:{free_port()}", record=True)
    end = say(outbox, 2000)
    before = monotonic()
    assert not finish(sender, 60.0, 0.0)
    assert monotonic() - before < 20.0
    assert recorded(outbox, tmp_path) == list(range(1, end))


def test_a_logger_that_answered_once_is_waited_for_until_the_deadline(outbox: Outbox, start: Start) -> None:
    with FakeLogger() as logger:
        sender = start(logger.endpoint)
        wait_until(lambda: sender.drained and logger.count(Hello))
        wait_until(lambda: sender._link is not None and sender._link.session.answered)
    say(outbox)
    before = monotonic()
    assert not finish(sender, 1.0, 0.0)
    assert monotonic() - before >= 1.0


def test_a_finish_waits_for_the_device_until_its_deadline(outbox: Outbox, start: Start) -> None:
    slot = outbox.reserve(Kind.SCALARS, 0, START_NS, 100)
    assert slot is not None
    arrived = threading.Event()

    def poll() -> bool:
        if arrived.is_set() and outbox.oldest_slot:
            outbox.fill(slot, b"late")
        return bool(outbox.oldest_slot)

    with FakeLogger() as logger:
        sender = start(logger.endpoint, poll_device=poll)
        waiting = threading.Thread(target=lambda: outcome.append(finish(sender, 20.0)))
        outcome: list[bool] = []
        waiting.start()
        wait_until(lambda: logger.count(Hello))
        assert not outcome
        arrived.set()
        waiting.join()
        assert outcome == [True]
    assert [record.body for record in logger.records[STREAM_ID]] == [b"late"]


def test_refusals_are_told_to_the_logger_when_it_has_made_room(outbox: Outbox, start: Start) -> None:
    say(outbox, 300, 10_000)
    refused = outbox.refusals.total
    assert refused > 100
    with FakeLogger() as logger:
        sender = start(logger.endpoint)
        records = logger.wait_for(STREAM_ID, 301)
        assert (records[-1].kind, records[-1].span) == (Kind.GAP, refused)
        assert finish(sender, 10.0)


def test_a_logger_that_refuses_for_good_is_not_waited_for(outbox: Outbox, start: Start) -> None:
    say(outbox)
    with FakeLogger(lambda _: [Reject("no", retry=False)]) as logger:
        sender = start(logger.endpoint)
        before = monotonic()
        assert not finish(sender, 60.0)
        assert monotonic() - before < 20.0


def test_a_logger_that_refuses_for_good_does_not_fill_the_outbox_of_a_recording(
    outbox: Outbox, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "_SYNC_INTERVAL_SECONDS", 0.0)
    with FakeLogger(lambda _: [Reject("no", retry=False)]) as logger:
        sender = start(logger.endpoint, record=True)
        wait_until(lambda: sender.acked_sequence == 1 and logger.count(Hello))
        for _ in range(30):
            end = say(outbox, 100, 1000)
            wait_until(lambda: sender.acked_sequence == end, what="the recording")  # noqa: B023 - waited for here
        assert not outbox.refusals.total
        assert finish(sender, 10.0)
        assert logger.count(Data) == 0
    assert recorded(outbox, tmp_path) == list(range(1, end))


def test_a_disk_that_stalls_for_ever_does_not_keep_anybody_from_leaving(
    outbox: Outbox, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    stalled, healed = threading.Event(), threading.Event()

    def stall(_recorder: Recorder, _now: float, *, finish: bool) -> bool:
        stalled.set()
        healed.wait()
        return finish

    monkeypatch.setattr(Recorder, "step", stall)
    monkeypatch.setattr(sender_module, "_STALL_MAX_SECONDS", 0.1)
    sender = start(record=True)
    say(outbox)
    assert stalled.wait(10)
    before = monotonic()
    assert not finish(sender, 0.1)
    assert monotonic() - before < 20.0
    assert sender.is_alive()
    healed.set()
    sender.join()


def test_a_fault_of_this_program_is_said_and_what_it_held_stays(
    outbox: Outbox, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    def explode() -> bool:
        raise ArithmeticError("a bug")

    say(outbox)
    sender = start(f"tcp://127.0.0.1:{free_port()}", poll_device=explode)
    sender.join()
    assert not finish(sender, 60.0), "there is nobody left to wait for"
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert str(outbox.folder) in record.getMessage()
    assert outbox.read(1, 100) is not None


def test_a_deadline_in_the_past_is_over(outbox: Outbox, start: Start) -> None:
    sender = start(f"tcp://127.0.0.1:{free_port()}")
    say(outbox)
    assert not finish(sender, -5.0)


class PromptHelper:
    """A helper that shows everything as soon as it is asked; ``before_step`` runs in the middle of a turn."""

    def __init__(self, before_step: Callable[[], object] = lambda: None) -> None:
        self.asked_sequence = self.shown_sequence = 0
        self.hopeless = False
        self._before_step = before_step
        self._answers = threading.Event()

    def ask(self, sequence: int) -> None:
        self.asked_sequence = sequence
        self._answers.set()

    def step(self, _now_seconds: float) -> None:
        self._before_step()
        if self._answers.is_set():
            self.shown_sequence = self.asked_sequence

    def wait(self, seconds: float) -> bool:
        self._answers.wait(seconds)
        return True

    def close(self) -> None: ...


def start_with_helper(outbox: Outbox, record: Path, helper: PromptHelper) -> Sender:
    recorder = Recorder(outbox, record, wall_time_ns=START_NS)
    sender = Sender(Backlog(outbox), None, recorder, lambda: False, helper=cast("HelperLink", helper))
    sender.start()
    return sender


def test_the_end_waits_for_nothing_once_the_helper_has_answered(
    outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand writers one after the other would each wait for the next turn."""
    monkeypatch.setattr(sender_module, "WAKE_INTERVAL_SECONDS", 600.0)
    sender = start_with_helper(outbox, tmp_path, PromptHelper())
    say(outbox)
    assert finish(sender, 30.0)
    assert sender.shown


def test_a_wish_in_the_middle_of_a_turn_is_asked_for_at_once(
    outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A helper does not answer what it was not asked: to wait for its answer is to wait in vain."""
    monkeypatch.setattr(sender_module, "WAKE_INTERVAL_SECONDS", 600.0)
    end = say(outbox)
    senders: Queue[Sender] = Queue()
    turns = count(1)

    def wish() -> None:
        if next(turns) == 2:  # the first turn records; the thread waits after the second
            senders.get().show(end)

    sender = start_with_helper(outbox, tmp_path, PromptHelper(wish))
    senders.put(sender)
    assert sender.wait_shown(end, 30.0)
    assert finish(sender, 30.0)
