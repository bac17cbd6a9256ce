"""The sender thread: ships the backlog to a logger, a recording, or both, and spills to disk when memory is half full.

With a helper, the thread also has the recording shown as event files, and learns how far they are.

The thread polls about twenty times a second; the training thread never wakes the sender. A turn holds the interpreter
for tens of microseconds, up to 200 us with a large backlog. Waiting, sending and syncing release the interpreter.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from time import monotonic, sleep, time_ns
from typing import Final

from tensorboard_sidecar.protocol.outbox.outbox_files import forget_recording
from tensorboard_sidecar.protocol.outbox.send_session import SendState
from tensorboard_sidecar.telemetry.outbox.backlog import Backlog
from tensorboard_sidecar.telemetry.shipping.background import BackgroundRecovery
from tensorboard_sidecar.telemetry.shipping.helper_link import HelperLink
from tensorboard_sidecar.telemetry.shipping.link import LoggerLink
from tensorboard_sidecar.telemetry.shipping.recorder import Recorder

WAKE_INTERVAL_SECONDS: Final = 0.05
# How long finish() waits beyond its deadline for a turn to end: a disk can stall forever.
_STALL_MAX_SECONDS: Final = 2.0
_MARKS_MAX: Final = 1024
# While a helper is starting, the thread looks for its socket this often.
_LOOK_SECONDS: Final = 0.01
_log = logging.getLogger(__name__)


class Sender(threading.Thread):
    """Ships ``backlog`` to each sink that is not None. ``poll_device`` fills the slots whose values have arrived.

    ``background`` gets a turn when there is nothing to ship. ``helper`` shows what the recorder has written.
    """

    def __init__(
        self,
        backlog: Backlog,
        link: LoggerLink | None,
        recorder: Recorder | None,
        poll_device: Callable[[], bool],
        background: BackgroundRecovery | None = None,
        helper: HelperLink | None = None,
    ) -> None:
        super().__init__(name="telemetry-sender", daemon=True)
        self.lag_seconds = 0.0
        self._backlog, self._link, self._recorder = backlog, link, recorder
        self._poll_device, self._background = poll_device, background
        self._showing = Showing(helper)
        self._lag = LagMeter()
        self._finish_at: float | None = None
        self._unanswered_until = float("inf")

    @property
    def acked_sequence(self) -> int:
        """All records before this are durable in every sink (beside a recorder, a logger that refused is no sink)."""
        sequences = []
        if self._recorder is not None:
            sequences.append(self._recorder.durable_sequence)
        if self._link is not None and not (sequences and self._link.session.state is SendState.REFUSED):
            sequences.append(self._link.session.acked_sequence)
        return min(sequences)

    @property
    def drained(self) -> bool:
        """Whether every record is durable in every sink."""
        return self.acked_sequence >= self._backlog.next_sequence

    def stop(self, deadline_seconds: float, unanswered_seconds: float = float("inf")) -> None:
        """Tell the thread to ship the backlog for at most ``deadline_seconds`` and then to end; does not wait.

        The thread waits at most ``unanswered_seconds`` for a logger that has never answered.
        """
        self._unanswered_until = monotonic() + unanswered_seconds
        self._finish_at = monotonic() + deadline_seconds
        self.show(self._backlog.next_sequence)

    @property
    def shown(self) -> bool:
        """Whether the event files hold every record, durably. Without a helper, true."""
        return self._showing.shown_to(self._backlog.next_sequence)

    @property
    def unshowable(self) -> bool:
        """Whether there is no helper and none can be started."""
        return self._showing.hopeless

    def show(self, sequence: int) -> None:
        """Have all records before ``sequence`` recorded and shown soon; does not wait."""
        self._showing.want(sequence)

    def wait_shown(self, sequence: int, seconds: float) -> bool:
        """After :meth:`show`, wait at most ``seconds``; return whether the event files hold the records, durably."""
        until_seconds = monotonic() + seconds
        while not self._showing.shown_to(sequence):
            if self._showing.hopeless or not self.is_alive() or monotonic() >= until_seconds:
                return False
            sleep(_LOOK_SECONDS)
        return True

    def finish(self) -> bool:
        """Wait for the end of the thread, after :meth:`stop`; return whether everything was shipped.

        When a disk or a device stalls, the thread stays alive.
        """
        if self._finish_at is not None:
            left_seconds = max(self._finish_at - monotonic(), 0.0) + _STALL_MAX_SECONDS
            self.join(min(left_seconds, threading.TIMEOUT_MAX))
        return self.drained and not self.is_alive()

    def run(self) -> None:
        """Run turns until :meth:`finish`. An unexpected error is logged, and the records stay in the outbox."""
        try:
            while not self._finished(monotonic()):
                if not (self._turn(monotonic()) or self._finished(monotonic())):
                    self._wait()
        except Exception:  # noqa: BLE001 - logged; telemetry never ends training
            _log.exception("the telemetry sender stopped; records stay in %s", self._backlog.outbox.folder)
        with ExitStack() as sinks:
            for sink in (self._link, self._recorder, self._background, self._showing):
                if sink is not None:
                    sinks.callback(sink.close)
        recorded = self._recorder is not None and self._recorder.durable_sequence >= self._backlog.next_sequence
        if recorded and self._link is not None:
            forget_recording(self._backlog.outbox.folder)  # the rest of the outbox is for the logger only

    def _turn(self, now_seconds: float) -> bool:
        """Run a turn; return whether there is more to do at once."""
        pending = self._poll_device()
        finishing = (self._finish_at is not None or self._showing.wanted) and not pending
        sent = self._link is not None and self._link.step(now_seconds)
        wrote = self._recorder is not None and self._recorder.step(now_seconds, finish=finishing)
        if self._recorder is not None:
            self._showing.step(now_seconds, self._recorder.durable_sequence)
        self._backlog.release(self.acked_sequence)
        spilled = self._finish_at is None and self._backlog.step(now_seconds, busy=sent)
        self._backlog.outbox.prepare(time_ns())
        self.lag_seconds = self._lag.update(now_seconds, self._backlog.next_sequence, self.acked_sequence)
        busy = sent or wrote or spilled
        if not busy and self._finish_at is None:
            self._work_in_background(now_seconds)
        return busy

    def _work_in_background(self, now_seconds: float) -> None:
        """Run a turn of background work. An unexpected error ends the background work, not the sender."""
        if self._background is None:
            return
        listening = self._link is not None and self._link.session.state is SendState.STREAMING
        try:
            self._background.step(now_seconds, listening=listening)
        except Exception:  # noqa: BLE001 - logged; a fault of the background work is not this trainer's
            _log.exception("the background work stopped; outboxes of other trainers are left to the next one")
            self._background.close()
            self._background = None

    def _finished(self, now_seconds: float) -> bool:
        if self._finish_at is None:
            return False
        done = self.drained and (self.shown or self._showing.hopeless)
        return done or self._hopeless(now_seconds) or not now_seconds < self._finish_at

    def _hopeless(self, now_seconds: float) -> bool:
        """Tell whether only a logger is left to wait for, one that refused the stream or has never answered."""
        recorded = self._recorder is None or self._recorder.durable_sequence >= self._backlog.next_sequence
        if self._link is None or not recorded:
            return False
        session = self._link.session
        absent = not session.answered and now_seconds >= self._unanswered_until
        return absent or session.state is SendState.REFUSED

    def _wait(self) -> None:
        if self._link is None or not self._link.wait(WAKE_INTERVAL_SECONDS):
            self._showing.wait(WAKE_INTERVAL_SECONDS)


class Showing:
    """Which records shall be shown soon, and how far the event files are; without a helper, all of them are shown.

    The calls of the training thread are ``want`` and the properties; the sender thread makes the others.
    """

    def __init__(self, helper: HelperLink | None) -> None:
        self._helper = helper
        self._wanted_sequence = 0
        # A lock, not an Event: a signal handler may close a telemetry in the middle of another close.
        self._wake = threading.Lock()
        self._wake.acquire()

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for the event files."""
        return not self.shown_to(self._wanted_sequence)

    @property
    def _asked(self) -> bool:
        """Whether the helper was asked for all that is wanted."""
        return self._helper is not None and self._helper.asked_sequence >= self._wanted_sequence

    @property
    def hopeless(self) -> bool:
        """Whether there is no helper and none can be started."""
        return self._helper is not None and self._helper.hopeless

    def shown_to(self, sequence: int) -> bool:
        """Return whether all records before ``sequence`` are shown."""
        return self._helper is None or self._helper.shown_sequence >= sequence

    def want(self, sequence: int) -> None:
        """Have all records before ``sequence`` shown soon."""
        self._wanted_sequence = max(self._wanted_sequence, sequence)
        with suppress(RuntimeError):  # the thread has not taken the lock since the last call
            self._wake.release()

    def step(self, now_seconds: float, durable_sequence: int) -> None:
        """Ask the helper for what is wanted and recorded; take its answers."""
        if self._helper is not None:
            if self.wanted and durable_sequence >= self._wanted_sequence:
                self._helper.ask(self._wanted_sequence)
            self._helper.step(now_seconds)

    def wait(self, seconds: float) -> None:
        """Wait at most ``seconds``, less if somebody wants records shown.

        The helper answers what it was asked. Until then :meth:`want` wakes the thread: the next turn asks.
        """
        if self._helper is None or not (self.wanted and self._asked):
            self._wake.acquire(timeout=seconds)
        elif not self._helper.wait(seconds):
            sleep(_LOOK_SECONDS)

    def close(self) -> None:
        """Close the connection to the helper."""
        if self._helper is not None:
            self._helper.close()


class LagMeter:
    """Measures the age of the oldest record without an acknowledgement, by marks (monotonic seconds, next sequence).

    Above 1,024 marks, neighbours are merged: the lag is then too large by 1/512 of the time span of all marks.
    """

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()
        self._interval_seconds = 0.0

    def update(self, now_seconds: float, next_sequence: int, acked_sequence: int) -> float:
        """Return the lag in seconds. The records in ``[acked_sequence, next_sequence)`` are not acknowledged."""
        marks = self._marks
        if not marks or marks[-1][1] < next_sequence:
            new = not marks or now_seconds - marks[-1][0] >= self._interval_seconds
            marks.append((now_seconds if new else marks.pop()[0], next_sequence))
        while marks and marks[0][1] <= acked_sequence:
            marks.popleft()
        if len(marks) > _MARKS_MAX:
            self._merge(now_seconds)
        elif not marks:
            self._interval_seconds = 0.0
        return now_seconds - self._marks[0][0] if self._marks else 0.0

    def _merge(self, now_seconds: float) -> None:
        """Merge each pair of marks into the earlier time and the higher sequence number."""
        marks = [*self._marks]
        last = [marks.pop()] if len(marks) % 2 else []
        self._marks = deque(
            [(time, number) for (time, _), (_, number) in zip(marks[::2], marks[1::2], strict=True)] + last
        )
        self._interval_seconds = 2 * (now_seconds - marks[0][0]) / _MARKS_MAX
