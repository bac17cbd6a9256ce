"""The sender thread: empties the backlog into a logger, a recording, or both, and moves the rest to disk when need be.

It wakes by itself, some twenty times a second, and takes what has gathered: the training thread wakes nobody. Each of
its turns holds the interpreter for tens of microseconds, a fifth of a millisecond where very much has gathered;
waiting, sending and syncing happen outside of it.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from time import monotonic, sleep, time_ns
from typing import Final

from tensorboard_sidecar.protocol.outbox.destination import forget_recording
from tensorboard_sidecar.telemetry.outbox.backlog import Backlog
from tensorboard_sidecar.telemetry.recovery.reshipping import Reshipping
from tensorboard_sidecar.telemetry.shipping.lag import LagMeter
from tensorboard_sidecar.telemetry.shipping.link import LoggerLink
from tensorboard_sidecar.telemetry.shipping.recorder import Recorder
from tensorboard_sidecar.telemetry.shipping.send_session import State

WAKE_INTERVAL_SECONDS: Final = 0.05
# What a last turn may take beyond the deadline before nobody waits for it any more: a disk can stall for ever.
_STALL_MAX_SECONDS: Final = 2.0
_logger = logging.getLogger(__name__)


class Sender(threading.Thread):
    """Ships ``backlog`` to each sink that is not None; ``poll_device`` completes slots whose values have arrived.

    ``adoption`` takes a turn when there is nothing of the backlog to ship.
    """

    def __init__(
        self,
        backlog: Backlog,
        link: LoggerLink | None,
        recorder: Recorder | None,
        poll_device: Callable[[], bool],
        adoption: Reshipping | None = None,
    ) -> None:
        super().__init__(name="telemetry-sender", daemon=True)
        self.lag_seconds = 0.0
        self._backlog, self._link, self._recorder = backlog, link, recorder
        self._poll_device, self._adoption = poll_device, adoption
        self._lag = LagMeter()
        self._finish_at: float | None = None

    @property
    def acked_sequence(self) -> int:
        """Everything before it is on every sink's disk; a logger that refused the run is none when there is another."""
        sequences = []
        if self._recorder is not None:
            sequences.append(self._recorder.durable_sequence)
        if self._link is not None and not (sequences and self._link.session.state is State.REFUSED):
            sequences.append(self._link.session.acked_sequence)
        return min(sequences)

    @property
    def drained(self) -> bool:
        """Tell whether nothing is left to ship."""
        return self.acked_sequence >= self._backlog.next_sequence

    def finish(self, deadline_seconds: float) -> bool:
        """Ship what is left, for at most ``deadline_seconds``, and stop; tell whether everything was shipped.

        When a disk or a device stalls, the thread is left behind alive.
        """
        self._finish_at = monotonic() + deadline_seconds
        self.join(min(max(deadline_seconds, 0.0) + _STALL_MAX_SECONDS, threading.TIMEOUT_MAX))
        return self.drained and not self.is_alive()

    def run(self) -> None:
        """Turn until told to finish. A fault of this program is said, and what it held stays in the outbox."""
        try:
            while not self._finished(monotonic()):
                if not self._turn(monotonic()):
                    self._wait()
        except Exception:
            _logger.exception("the telemetry sender stopped; records stay in %s", self._backlog.outbox.folder)
        with ExitStack() as sinks:
            for sink in (self._link, self._recorder, self._adoption):
                if sink is not None:
                    sinks.callback(sink.close)
        recorded = self._recorder is not None and self._recorder.durable_sequence >= self._backlog.next_sequence
        if recorded and self._link is not None:
            forget_recording(self._backlog.outbox.folder)  # what is left is for the logger alone

    def _turn(self, now: float) -> bool:
        """Do what can be done now; tell whether there is more to do at once."""
        pending = self._poll_device()
        finishing = self._finish_at is not None and not pending
        sent = self._link is not None and self._link.step(now)
        wrote = self._recorder is not None and self._recorder.step(now, finish=finishing)
        self._backlog.release(self.acked_sequence)
        spilled = self._finish_at is None and self._backlog.step(now, busy=sent)
        self._backlog.outbox.prepare(time_ns())
        self.lag_seconds = self._lag.update(now, self._backlog.next_sequence, self.acked_sequence)
        busy = sent or wrote or spilled
        if not busy and self._finish_at is None:
            self._adopt(now)
        return busy

    def _adopt(self, now: float) -> None:
        """Have a turn of adoption. Its faults are not this trainer's."""
        if self._adoption is None:
            return
        listening = self._link is not None and self._link.session.state is State.STREAMING
        try:
            self._adoption.step(now, listening=listening)
        except Exception:
            _logger.exception("what other trainers left behind is left to the next one")
            self._adoption.close()
            self._adoption = None

    def _finished(self, now: float) -> bool:
        if self._finish_at is None:
            return False
        hopeless = self._recorder is None and self._link is not None and self._link.session.state is State.REFUSED
        return self.drained or hopeless or not now < self._finish_at

    def _wait(self) -> None:
        if self._link is None or not self._link.wait(WAKE_INTERVAL_SECONDS):
            sleep(WAKE_INTERVAL_SECONDS)
