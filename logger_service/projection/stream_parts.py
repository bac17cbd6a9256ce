"""The pure parts of a stream's projection: no file, and every call receives the time.

A power loss can tear a hole into the last segment of a journal. The logger never acknowledged the records of the hole,
and a trainer that still runs sends them again. The projection therefore waits before it shows the hole as a gap.

The record of a gap may know neither its step nor its time: both are then 0. TensorBoard's fast loader drops the points
of a tag from a step on when a later point has the same or an earlier step. The steps of the gaps in a stream therefore
only grow: a gap is shown at the highest step before it, or a step later when the previous gap has that step, and at the
time of the record before. Step and time depend on the records alone, so that they are the same live, replayed and after
a restart.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from tensorboard_sidecar.logger_service.events.identity import EventId
from tensorboard_sidecar.logger_service.events.to_events import BesideEvent
from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.limits import STEP_MAX
from tensorboard_sidecar.protocol.messages import Gap
from tensorboard_sidecar.protocol.record import Kind, Record

# A trainer connects to a restarted logger and sends again within some seconds.
HOLE_SECONDS: Final = 30.0
# The interval at which a waiting projection reads the recording again.
_LOOK_SECONDS: Final = 2.0
# The largest write, except for the events of a single larger record.
WRITE_SIZE_BYTES: Final = 2**20
_MISSING: Final = encode_body(Gap("missing from the recording"))


@dataclass(slots=True)
class HoleWait:
    """Decides how long to wait for the hole that begins at a sequence number; for one hole at a time."""

    _sequence: int = 0
    _until_seconds: float = 0.0
    _look_at_seconds: float = 0.0

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


class GapPlace:
    """Places gaps: follows all records of a stream that began at ``start_ns``, from the first record on."""

    def __init__(self, start_ns: int) -> None:
        self._step, self._wall_time_ns = 0, start_ns

    def place(self, record: Record) -> Record:
        """Return the next record as shown: a gap with its step and time, any other record unchanged."""
        if record.kind == Kind.GAP:
            step = min(max(record.step, self._step), STEP_MAX)
            record = record._replace(step=step, wall_time_ns=record.wall_time_ns or self._wall_time_ns)
            self._step = step + 1
        elif record.step <= STEP_MAX:
            self._step = max(self._step, record.step)
        self._wall_time_ns = record.wall_time_ns or self._wall_time_ns
        return record


def with_gaps(records: Iterable[Record], next_sequence: int) -> Iterator[Record]:
    """Yield the records, and a gap over the missing sequence numbers from ``next_sequence`` on and between records."""
    for record in records:
        if record.sequence > next_sequence:
            yield missing(next_sequence, record)
        yield record
        next_sequence = record.next_sequence


def missing(first_sequence: int, record: Record) -> Record:
    """Return the gap over the sequence numbers ``[first_sequence, record.sequence)``."""
    step = min(max(record.step, 0), STEP_MAX)
    return Record(Kind.GAP, first_sequence, step, record.wall_time_ns, _MISSING, record.sequence - first_sequence)


@dataclass(slots=True)
class EventBatch:
    """Collects the serialised events of the stream ``stream_id`` that wait for the next write.

    ``events`` are those of the run's folder; ``beside`` holds, by folder, those of folders in the run's folder.
    ``last_id`` is the last event in the files, or None: the batch leaves out the events that the files hold already.
    ``records_before(n)`` returns the records before the sequence number ``n``, gaps included, on all of which the place
    of a gap depends.
    """

    stream_id: bytes
    last_id: EventId | None
    records_before: Callable[[int], Iterable[Record]]
    events: list[bytes] = field(default_factory=list, repr=False)
    beside: dict[str, list[BesideEvent]] = field(default_factory=dict, repr=False)
    size_bytes: int = 0
    wall_time_ns: int = 0
    _gaps: GapPlace | None = None

    @property
    def first_sequence(self) -> int:
        """Where reading begins. The last record is read again: a crash may have cut off some of its events."""
        return 1 if self.last_id is None else self.last_id.sequence

    @property
    def is_full(self) -> bool:
        """Whether the batch must be written now."""
        return self.size_bytes >= WRITE_SIZE_BYTES

    def place(self, record: Record, start_ns: int) -> Record:
        """Return the next record of the stream as it is shown: a gap gets a step and a time.

        ``start_ns`` is the time at which the stream began. A stream that goes on after a restart reads its earlier
        records once, for its first gap.
        """
        if self._gaps is None and (self.last_id is None or record.kind == Kind.GAP):
            self._gaps = GapPlace(start_ns)
            if record.sequence > 1:
                for earlier in self.records_before(record.sequence):
                    self._gaps.place(earlier)
        return record if self._gaps is None else self._gaps.place(record)

    def was_begun(self, record: Record) -> bool:
        """Return whether the files hold an event of the record."""
        return self.last_id is not None and record.next_sequence - 1 <= self.last_id.sequence

    def add(self, events: list[bytes], record: Record) -> bool:
        """Add those events of a record that the files do not hold; return whether there is one."""
        count = len(self.events)
        for index, event in enumerate(events):
            identity = EventId(self.stream_id, record.next_sequence - 1, index)
            if self.last_id is not None and identity <= self.last_id:
                continue
            if not self.events:
                self.wall_time_ns = record.wall_time_ns
            self.events.append(event)
            self.size_bytes += len(event)
        return len(self.events) > count

    def add_beside(self, events: Iterable[BesideEvent]) -> None:
        """Add the events of a record for other folders; :meth:`add` must follow with the event of the run's folder."""
        for event in events:
            self.beside.setdefault(event.folder, []).append(event)
            self.size_bytes += len(event.event)

    def clear(self) -> None:
        """Forget the events, which are written."""
        self.events, self.beside, self.size_bytes = [], {}, 0
