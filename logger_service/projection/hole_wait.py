"""How long the projection waits for missing records. Pure: every call receives the time.

A power loss can tear a hole into the last segment of a journal. The logger never acknowledged the records of the hole,
and a trainer that still runs sends them again. The projection therefore waits before it shows the hole as a gap.
"""

from typing import Final

# A trainer connects to a restarted logger and sends again within some seconds.
HOLE_SECONDS: Final = 30.0
# The interval at which a waiting projection reads the recording again.
_LOOK_SECONDS: Final = 2.0


class HoleWait:
    """Waits for the hole that begins at a sequence number; for one hole at a time."""

    def __init__(self) -> None:
        self._sequence = 0
        self._until_seconds = 0.0
        self._look_at_seconds = 0.0

    def __repr__(self) -> str:
        return f"<HoleWait at {self._sequence} until {self._until_seconds:.1f}>"

    def may_be_filled(self, sequence: int, now_seconds: float) -> bool:
        """Return whether records from ``sequence`` on may still arrive.

        The first call for a hole starts its HOLE_SECONDS. After a true result, :meth:`is_due` is false for
        _LOOK_SECONDS.
        """
        if sequence != self._sequence:
            self._sequence, self._until_seconds = sequence, now_seconds + HOLE_SECONDS
        if now_seconds >= self._until_seconds:
            return False
        self._look_at_seconds = now_seconds + _LOOK_SECONDS
        return True

    def is_due(self, now_seconds: float) -> bool:
        """Return whether the recording must be read again."""
        return now_seconds >= self._look_at_seconds
