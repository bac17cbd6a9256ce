"""How far event files are behind the journal, by run: from what was committed when, and what was projected.

The clock is the logger's own: a record's age is that of its commit. Streams are few and marks a stream too, so that
neither many runs nor a long lag cost memory; a long lag is told a little larger than it is.
"""

from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Final, NamedTuple

# Streams remembered; the one that was committed least recently is forgotten first.
STREAMS_MAX: Final = 1024
_MARKS_MAX: Final = 64


class RunLag(NamedTuple):
    """What is committed and not projected: how many records, and how long the first of them has waited."""

    records: int
    seconds: float


class _Marks(NamedTuple):
    run: str
    marks: deque[tuple[int, float]]  # before this number all was committed, the newest of it after this time


class RunLags:
    """Remembers commits; ``now`` is a steady time in seconds everywhere."""

    def __init__(self) -> None:
        self._streams: OrderedDict[bytes, _Marks] = OrderedDict()

    def __repr__(self) -> str:
        return f"<RunLags of {len(self._streams)} streams>"

    def committed(self, stream: bytes, run: str, sequence: int, now: float) -> None:
        """Account for a commit of everything before ``sequence``."""
        marks = self._streams.setdefault(stream, _Marks(run, deque())).marks
        self._streams.move_to_end(stream)
        if len(self._streams) > STREAMS_MAX:
            self._streams.popitem(last=False)
        marks.append((sequence, now))
        if len(marks) >= _MARKS_MAX:
            pairs = [(marks[at + 1][0], marks[at][1]) for at in range(0, len(marks), 2)]
            marks.clear()
            marks.extend(pairs)

    def lags(self, positions: Mapping[bytes, int], now: float) -> dict[str, RunLag]:
        """Return the lag of each run, given the number behind the last that was projected of each stream."""
        lags: dict[str, RunLag] = {}
        for stream, (run, marks) in self._streams.items():
            projected = positions.get(stream, 1)
            while marks and marks[0][0] <= projected:
                marks.popleft()
            records, seconds = (marks[-1][0] - projected, now - marks[0][1]) if marks else (0, 0.0)
            known = lags.get(run, RunLag(0, 0.0))
            lags[run] = RunLag(known.records + records, max(known.seconds, seconds))
        return lags
