"""How long a call keeps its caller: by the clock, but for the time in which others had the processor."""

import os
from collections.abc import Callable
from time import perf_counter
from typing import Final

# Below that nobody asks whose fault it was.
_LONG_SECONDS: Final = 0.05


class Stopwatch:
    """Times calls of the thread that made it, and of no other."""

    def __init__(self) -> None:
        try:
            self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # a kernel that does not tell
            self._file = -1

    def time(self, call: Callable[[], object]) -> float:
        """Make a call; return how many seconds it took."""
        waited, began = self._waited_seconds(), perf_counter()
        call()
        seconds = perf_counter() - began
        return seconds - (self._waited_seconds() - waited) if seconds > _LONG_SECONDS else seconds

    def _waited_seconds(self) -> float:
        """Return how long the thread was ready to run, and others ran: a busy machine's fault, and no telemetry's."""
        return int(os.pread(self._file, 64, 0).split()[1]) / 1e9 if self._file >= 0 else 0.0
