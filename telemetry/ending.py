"""The end of telemetries: of one alone, or of all that are open when the process ends, within one deadline."""

import atexit
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import cache
from typing import Final, Literal, TypeAlias

from tensorboard_sidecar.telemetry.calls import Faults

Status: TypeAlias = Literal["completed", "failed", "interrupted", "exited"]
"""How a run ended; the last record of the run says it."""


def status_after(error: BaseException | None) -> Status:
    """Return the status of a run that ``error`` ended: None and ``sys.exit(0)`` mean completed, Ctrl-C interrupted."""
    match error:
        case None | SystemExit(code=None | 0):
            return "completed"
        case Exception() | SystemExit():
            return "failed"
        case _:
            return "interrupted"


class Ending:
    """Closes one telemetry, once: by :meth:`close`, or when the process ends.

    The close has two halves, so that several telemetries can drain at the same time. ``begin(status,
    deadline_seconds)`` keeps the run's end and lets the backlog drain without waiting; ``finish()`` waits. Errors of
    both are ``faults``. ``error`` is the exception that ended the run, known from before ``begin`` on; None for none.
    """

    def __init__(
        self, faults: Faults, begin: Callable[[Status, float | None], None], finish: Callable[[], object]
    ) -> None:
        self._faults, self._begin, self._finish = faults, begin, finish
        self._once = threading.Lock()  # the first ``begin`` takes this lock and never releases it
        self.error: BaseException | None = None
        self.for_good = False
        """Whether the telemetry does not go on after this end."""
        self._handled = sys.exception()  # a run may start in an ``except`` block: this exception does not end it
        _register()
        _OPEN[id(self)] = self

    def close(self, status: Status | None, deadline_seconds: float | None) -> None:
        """Close the telemetry. Without ``status``, an exception that passes through a ``finally`` block is the end."""
        error = sys.exception()
        error = None if error is self._handled else error
        _close_together([self], status or status_after(error), deadline_seconds, error)

    def begin(self, status: Status, deadline_seconds: float | None, error: BaseException | None) -> None:
        """Begin the close; does nothing after the first call."""
        if self._once.acquire(blocking=False):
            self.error = None if status == "completed" else error
            _OPEN.pop(id(self), None)
            self._guarded(self._begin, status, deadline_seconds)

    def finish(self) -> None:
        """Wait for the end of the close."""
        self._guarded(self._finish)

    def _guarded(self, call: Callable[..., object], *arguments: object) -> None:
        try:
            call(*arguments)
        except Exception as error:  # noqa: BLE001 - code after the loop goes on
            self._faults.note("telemetry.close", error)


_OPEN: Final[dict[int, Ending]] = {}


def _close_together(
    endings: Iterable[Ending], status: Status, deadline_seconds: float | None, error: BaseException | None
) -> None:
    """Begin all closes, then wait for each. Ctrl-C ends the wait for one of them."""
    with ExitStack() as waits:
        for ending in endings:
            waits.callback(ending.finish)
            ending.begin(status, deadline_seconds, error)


@cache
def _register() -> None:
    # At the first telemetry, not at the import: exit handlers run in reverse order, before those of imported libraries.
    atexit.register(_close_all)


def _close_all() -> None:
    # Python tells exit handlers of an uncaught exception, but not of ``sys.exit(3)``: without an exception nothing says
    # whether the loop was complete.
    uncaught = getattr(sys, "last_value", None)
    status: Status = "exited" if uncaught is None else status_after(uncaught)
    endings = list(_OPEN.values())
    for ending in endings:
        ending.for_good = True
    _close_together(endings, status, None, uncaught)
