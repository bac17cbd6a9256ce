"""How far the logger is behind: the age of the oldest record it has not acknowledged."""

from collections import deque
from typing import Final

_MARKS_MAX: Final = 1024


class LagMeter:
    """Remembers when sequence numbers were given out; times are in seconds.

    With more than 1,024 marks, neighbours are made one: the lag is then too large by 1/512 of the time they span.
    """

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()
        self._interval_seconds = 0.0

    def update(self, now: float, next_sequence: int, acked_sequence: int) -> float:
        """Return the lag in seconds, given the next number to give out and the next to be acknowledged."""
        marks = self._marks
        if not marks or marks[-1][1] < next_sequence:
            new = not marks or now - marks[-1][0] >= self._interval_seconds
            marks.append((now if new else marks.pop()[0], next_sequence))
        while marks and marks[0][1] <= acked_sequence:
            marks.popleft()
        if len(marks) > _MARKS_MAX:
            self._merge(now)
        elif not marks:
            self._interval_seconds = 0.0
        return now - self._marks[0][0] if self._marks else 0.0

    def _merge(self, now: float) -> None:
        """Give each pair of marks the earlier time and the later number."""
        marks = [*self._marks]
        last = [marks.pop()] if len(marks) % 2 else []
        self._marks = deque(
            [(time, number) for (time, _), (_, number) in zip(marks[::2], marks[1::2], strict=True)] + last
        )
        self._interval_seconds = 2 * (now - marks[0][0]) / _MARKS_MAX
