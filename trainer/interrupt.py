"""Stop training on Ctrl-C or SIGTERM between two steps, so that no step and no file is cut in half."""

import signal
from collections.abc import Callable
from time import monotonic
from types import FrameType
from typing import Any, Final, Self

SAME_WISH_SECONDS: Final = 1.0


class Interrupted(KeyboardInterrupt):
    """A signal asked training to stop. It is a KeyboardInterrupt, which handlers of faults do not catch."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number


class StopSignals:
    """While entered, remembers SIGINT and SIGTERM; a second signal acts at once, with the handlers of before.

    A signal within a second of the first counts as the same request: a terminal's Ctrl-C reaches torchrun as well, and
    torchrun sends its processes another SIGINT and a SIGTERM in the next millisecond.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._received: int | None = None
        self._received_seconds = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_error: object) -> None:
        self._restore()

    def check(self) -> None:
        """Raise Interrupted if a signal was received."""
        if self._received is not None:
            raise Interrupted(self._received)

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        if self._received is None:
            self._received, self._received_seconds = number, self._clock()
        elif self._clock() - self._received_seconds > SAME_WISH_SECONDS:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())
