"""Whether a run that goes on has become silent: nothing has come for ten times as long as its steps take.

Pure: the times of records go in, by the trainer's clock, and the time since the last record, by the logger's; a verdict
comes out. A verdict that depends on the logger's clock is never part of the event files.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

# A run is silent after this many times its usual step time, and after this many seconds at least.
STEPS_MAX: Final = 10
SILENT_MIN_SECONDS: Final = 300.0
# A run that has been silent for a day is gone.
GONE_SECONDS: Final = 86_400.0
# The step times that count, and the share of them that are not longer than the usual one.
_WINDOW: Final = 64
_SHARE: Final = 0.95


class Silence:
    """Knows how long the steps of one stream take.

    >>> silence = Silence()
    >>> silence.add((step, 60_000_000_000 * step) for step in range(20))
    >>> silence.limit_seconds
    600.0
    """

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=_WINDOW)
        self._last: tuple[int, int] | None = None

    def add(self, records: Iterable[tuple[int, int]]) -> None:
        """Take the steps and wall times, in nanoseconds, of records in their order.

        A time between two records of one step is no time of a step, and neither is one that a clock set back.
        """
        for step, time_ns in records:
            last = self._last
            if last is not None and step <= last[0]:
                self._last = last[0], max(last[1], time_ns)
                continue
            if last is not None and time_ns > last[1]:
                self._seconds.append((time_ns - last[1]) / 1e9)
            self._last = step, time_ns

    @property
    def limit_seconds(self) -> float:
        """The time without a record after which the run is silent."""
        if not self._seconds:
            return SILENT_MIN_SECONDS
        ordered = sorted(self._seconds)
        return max(SILENT_MIN_SECONDS, STEPS_MAX * ordered[int(_SHARE * (len(ordered) - 1))])

    def is_silent(self, seconds: float) -> bool:
        """Tell whether the run is silent, nothing having come for so many seconds."""
        return SILENT_MIN_SECONDS <= seconds < GONE_SECONDS and seconds >= self.limit_seconds
