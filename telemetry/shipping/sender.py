"""The sender thread: ships the backlog to a logger, a recording, or both, and spills to disk when memory is half full.

The thread polls about twenty times a second; the training thread never wakes the sender. A turn holds the interpreter
for tens of microseconds, up to 200 us with a large backlog. Waiting, sending and syncing release the interpreter.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from time import monotonic, time_ns
from typing import Final

from tensorboard_sidecar.protocol.outbox.outbox_files import forget_recording
from tensorboard_sidecar.protocol.outbox.send_session import SendState
from tensorboard_sidecar.telemetry.outbox.backlog import Backlog
from tensorboard_sidecar.telemetry.shipping.background import BackgroundRecovery
from tensorboard_sidecar.telemetry.shipping.link import LoggerLink
from tensorboard_sidecar.telemetry.shipping.recorder import Recorder

WAKE_INTERVAL_SECONDS: Final = 0.05
# How long finish() waits beyond its deadline for a turn to end: a disk can stall forever.
_STALL_MAX_SECONDS: Final = 2.0
_MARKS_MAX: Final = 1024
_log = logging.getLogger(__name__)


class Sender(threading.Thread):
    """Ships ``backlog`` to each sink that is not None. ``poll_device`` fills the slots whose values have arrived.

    ``background`` gets a turn when there is nothing to ship.
    """

    def __init__(
        self,
        backlog: Backlog,
        link: LoggerLink | None,
        recorder: Recorder | None,
        poll_device: Callable[[], bool],
        background: BackgroundRecovery | None = None,
    ) -> None:
        super().__init__(name="telemetry-sender", daemon=True)
        self.lag_seconds = 0.0
        self._backlog, self._link, self._recorder = backlog, link, recorder
        self._poll_device, self._background = poll_device, background
        self._lag = LagMeter()
        self._finish_at: float | None = None
        self._unanswered_until = float("inf")
        # Held, but for a moment after stop(). A lock and no Event: stop() may interrupt itself, in a signal handler.
        self._wake = threading.Lock()
        self._wake.acquire()

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
        with suppress(RuntimeError):  # the thread has not taken the lock since the last stop()
            self._wake.release()

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
                if not self._turn(monotonic()):
                    self._wait()
        except Exception:  # noqa: BLE001 - logged; telemetry never ends training
            _log.exception("the telemetry sender stopped; records stay in %s", self._backlog.outbox.folder)
        with ExitStack() as sinks:
            for sink in (self._link, self._recorder, self._background):
                if sink is not None:
                    sinks.callback(sink.close)
        recorded = self._recorder is not None and self._recorder.durable_sequence >= self._backlog.next_sequence
        if recorded and self._link is not None:
            forget_recording(self._backlog.outbox.folder)  # the rest of the outbox is for the logger only

    def _turn(self, now_seconds: float) -> bool:
        """Run a turn; return whether there is more to do at once."""
        pending = self._poll_device()
        finishing = self._finish_at is not None and not pending
        sent = self._link is not None and self._link.step(now_seconds)
        wrote = self._recorder is not None and self._recorder.step(now_seconds, finish=finishing)
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
        return self.drained or self._hopeless(now_seconds) or not now_seconds < self._finish_at

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
            self._wake.acquire(timeout=WAKE_INTERVAL_SECONDS)


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
