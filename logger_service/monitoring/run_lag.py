"""How far the event files of each run are behind the journal.

The lag compares the commits of the journal with the positions of the projection. All times are of the logger's
monotonic clock: the age of a record is the time since its commit. The number of streams is bounded, and each stream
keeps a bounded number of marks. For a long lag, marks are merged, so the reported age is an upper bound.
"""

from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Final, NamedTuple

# LRU: at this many streams, forget the stream that has been without a commit longest.
STREAMS_MAX: Final = 1024
_MARKS_MAX: Final = 64


class RunLag(NamedTuple):
    """The committed and unprojected records of a run: their number, and the age of the oldest in seconds."""

    records: int
    seconds: float


class _Marks(NamedTuple):
    run: str
    marks: deque[tuple[int, float]]
    """(sequence, seconds): all records before the sequence are committed, since the last mark not before this time."""


class RunLags:
    """Remembers the commits of each stream."""

    def __init__(self) -> None:
        self._streams: OrderedDict[bytes, _Marks] = OrderedDict()

    def __repr__(self) -> str:
        return f"<RunLags of {len(self._streams)} streams>"

    def committed(self, stream: bytes, run: str, sequence: int, now_seconds: float) -> None:
        """Note a commit of all records before ``sequence``."""
        marks = self._streams.setdefault(stream, _Marks(run, deque())).marks
        self._streams.move_to_end(stream)
        if len(self._streams) > STREAMS_MAX:
            self._streams.popitem(last=False)
        marks.append((sequence, now_seconds))
        if len(marks) >= _MARKS_MAX:
            pairs = [(marks[at + 1][0], marks[at][1]) for at in range(0, len(marks), 2)]
            marks.clear()
            marks.extend(pairs)

    def lags(self, positions: Mapping[bytes, int], now_seconds: float) -> dict[str, RunLag]:
        """Return the lag of each run. ``positions`` holds the sequence number that each stream projects next."""
        lags: dict[str, RunLag] = {}
        for stream, (run, marks) in self._streams.items():
            projected = positions.get(stream, 1)
            while marks and marks[0][0] <= projected:
                marks.popleft()
            records, seconds = (marks[-1][0] - projected, now_seconds - marks[0][1]) if marks else (0, 0.0)
            known = lags.get(run, RunLag(0, 0.0))
            lags[run] = RunLag(known.records + records, max(known.seconds, seconds))
        return lags
