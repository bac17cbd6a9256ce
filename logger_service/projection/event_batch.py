"""The events of one stream that wait for the next write. Pure: no file, no clock.

The batch leaves out the events that the files hold already. The batch also decides where a gap is shown, since that
place depends on all records before the gap (see ``logger_service.projection.gaps``).
"""

from collections.abc import Callable, Iterable
from typing import Final

from tensorboard_sidecar.logger_service.events.identity import EventId
from tensorboard_sidecar.logger_service.projection.gaps import GapPlace
from tensorboard_sidecar.protocol.record import Kind, Record

# The largest write, except for the events of a single larger record.
WRITE_SIZE_BYTES: Final = 2**20


class EventBatch:
    """Collects the serialised events of the stream ``stream_id``.

    ``last_id`` is the last event in the files, or None. ``records_before(n)`` returns the records before the sequence
    number ``n``, gaps included.
    """

    def __init__(
        self, stream_id: bytes, last_id: EventId | None, records_before: Callable[[int], Iterable[Record]]
    ) -> None:
        self.events: list[bytes] = []
        self.size_bytes = 0
        self.wall_time_ns = 0
        self._stream_id, self._last_id = stream_id, last_id
        self._records_before = records_before
        self._gaps: GapPlace | None = None

    def __repr__(self) -> str:
        return f"<EventBatch of {len(self.events)} events, {self.size_bytes:,} bytes>"

    @property
    def first_sequence(self) -> int:
        """Where reading begins. The last record is read again: a crash may have cut off some of its events."""
        return 1 if self._last_id is None else self._last_id.sequence

    @property
    def is_full(self) -> bool:
        """Whether the batch must be written now."""
        return self.size_bytes >= WRITE_SIZE_BYTES

    def place(self, record: Record, start_ns: int) -> Record:
        """Return the next record of the stream as it is shown: a gap gets a step and a time.

        ``start_ns`` is the time at which the stream began. A stream that goes on after a restart reads its earlier
        records once, for its first gap.
        """
        if self._gaps is None and (self._last_id is None or record.kind == Kind.GAP):
            self._gaps = GapPlace(start_ns)
            if record.sequence > 1:
                for earlier in self._records_before(record.sequence):
                    self._gaps.place(earlier)
        return record if self._gaps is None else self._gaps.place(record)

    def was_begun(self, record: Record) -> bool:
        """Return whether the files hold an event of the record."""
        return self._last_id is not None and record.next_sequence - 1 <= self._last_id.sequence

    def add(self, events: list[bytes], record: Record) -> bool:
        """Add those events of a record that the files do not hold; return whether there is one."""
        count = len(self.events)
        for index, event in enumerate(events):
            identity = EventId(self._stream_id, record.next_sequence - 1, index)
            if self._last_id is not None and identity <= self._last_id:
                continue
            if not self.events:
                self.wall_time_ns = record.wall_time_ns
            self.events.append(event)
            self.size_bytes += len(event)
        return len(self.events) > count

    def clear(self) -> None:
        """Forget the events, which are written."""
        self.events, self.size_bytes = [], 0
