"""How far the logger is behind: the age of the oldest record it has not acknowledged."""

from collections import deque
from itertools import islice
from typing import Final

_MARKS_MAX: Final = 1024


class LagMeter:
    """Remembers when sequence numbers were given out, coarser the more there are; times are in seconds."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()

    def update(self, now: float, next_sequence: int, acked_sequence: int) -> float:
        """Return the lag in seconds, given the next number to give out and the next to be acknowledged."""
        marks = self._marks
        if not marks or marks[-1][1] < next_sequence:
            marks.append((now, next_sequence))
        while marks and marks[0][1] <= acked_sequence:
            marks.popleft()
        if len(marks) > _MARKS_MAX:
            self._marks = deque(islice(marks, 0, None, 2))
        return now - marks[0][0] if marks else 0.0
