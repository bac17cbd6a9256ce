"""Measures the lag of the logger: the age of the oldest record without an acknowledgement."""

from collections import deque
from typing import Final

_MARKS_MAX: Final = 1024


class LagMeter:
    """Stores marks (time, next sequence number); times are monotonic, in seconds.

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
