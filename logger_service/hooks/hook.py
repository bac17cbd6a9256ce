"""A hook: a thread that delivers findings one at a time, apart from the logger's own work."""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import Final, TypeAlias

from tensorboard_sidecar.logger_service.hooks.queue import HookCounts, HookLimits, Letter, LetterQueue, Waiting
from tensorboard_sidecar.protocol.printable import printable

# A hook that drops findings says so this often.
_LOG_INTERVAL_SECONDS: Final = 60.0
_log = logging.getLogger(__name__)


class HookError(Exception):
    """A call failed, for a reason without secrets; ``retry``: a later call may succeed."""

    def __init__(self, reason: str, *, retry: bool = False) -> None:
        super().__init__(reason)
        self.retry = retry


Deliver: TypeAlias = Callable[[bytes, threading.Event], None]
"""Delivers a body, within a time limit; gives up soon after the event is set. Raises HookError."""


class Hook(threading.Thread):
    """Delivers letters by ``deliver`` on this thread, within ``bounds``. ``title`` names the hook in the log."""

    def __init__(self, title: str, deliver: Deliver, bounds: HookLimits) -> None:
        super().__init__(name=f"hook {title}", daemon=True)
        self.title = title
        self._deliver = deliver
        self._queue = LetterQueue(bounds)
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._logged_at_seconds = float("-inf")

    def __repr__(self) -> str:
        return f"<Hook {self.title}: {len(self._queue)} findings wait>"

    @property
    def counts(self) -> HookCounts:
        """The counters, copied."""
        with self._changed:
            return replace(self._queue.counts)

    def add(self, letter: Letter) -> None:
        """Have a letter delivered; does not wait."""
        with self._changed:
            dropped = self._queue.add(letter)
            self._changed.notify()
        if dropped is not None:
            self._complain(dropped, "too many findings wait")

    def begin_close(self) -> None:
        """Deliver what waits, each once and without pauses, and then end; does not wait."""
        with self._changed:
            self._queue.closing = True
            self._changed.notify()

    def close(self, seconds: float) -> None:
        """After :meth:`begin_close`, wait at most ``seconds`` for the end; then cut off the call that runs."""
        self.join(seconds)
        self._stopped.set()
        self.join(seconds)

    def run(self) -> None:
        """Deliver letters until the close."""
        while (waiting := self._next()) is not None:
            error: Exception | None = None
            try:
                self._deliver(waiting.letter.body, self._stopped)
            except Exception as failed:  # noqa: BLE001 - a fault of this program costs one finding, not the hook
                error = failed
            self._note(waiting, error)

    def _next(self) -> Waiting | None:
        """Wait for a letter that is due; return None at the end."""
        with self._changed:
            while not self._stopped.is_set():
                now_seconds = monotonic()
                if (waiting := self._queue.take(now_seconds)) is not None:
                    return waiting
                if self._queue.closing:
                    return None
                self._changed.wait(min(self._queue.due_in_seconds(now_seconds), threading.TIMEOUT_MAX))
            return None

    def _note(self, waiting: Waiting, error: Exception | None) -> None:
        with self._changed:
            if error is None:
                self._queue.counts.delivered += 1
                return
            retry = isinstance(error, HookError) and error.retry
            again = self._queue.failed(waiting, monotonic(), retry=retry)
        if not again:
            self._complain(waiting.letter, str(error) or repr(error))

    def _complain(self, letter: Letter, reason: str) -> None:
        """Log that a hook was not told a finding, at most once a minute; the counters have the rest."""
        now_seconds = monotonic()
        if now_seconds - self._logged_at_seconds >= _LOG_INTERVAL_SECONDS:
            self._logged_at_seconds = now_seconds
            counts = self.counts
            _log.warning(
                "%s was not told %.300s: %.1200s (%d delivered, %d calls failed, %d dropped so far)",
                self.title,
                printable(letter.text),
                printable(reason),
                counts.delivered,
                counts.failed,
                counts.dropped,
            )
