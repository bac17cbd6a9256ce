"""Where a gap is shown. A record that stands for lost ones may know neither its step nor its time: 0 says so.

TensorBoard's fast loader drops the points of a tag from a step on when a later one has that step or an earlier one. So
gaps of a stream go up: a gap is shown at the highest step before it, or one further when the last gap is there already,
and at the time of what came before. That follows from the records alone, live, replayed and gone on with.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.limits import STEP_MAX
from tensorboard_sidecar.protocol.messages import Gap
from tensorboard_sidecar.protocol.record import Kind, Record

_MISSING: Final = encode_body(Gap("missing from the recording"))


class GapPlace:
    """Follows the records of a stream that began at ``start_ns``, from its first on."""

    def __init__(self, start_ns: int) -> None:
        self._step, self._wall_time_ns = 0, start_ns

    def place(self, record: Record) -> Record:
        """Return the record that comes next as it is shown: a gap at its place, any other as it is."""
        if record.kind == Kind.GAP:
            step = min(max(record.step, self._step), STEP_MAX)
            record = record._replace(step=step, wall_time_ns=record.wall_time_ns or self._wall_time_ns)
            self._step = step + 1
        elif record.step <= STEP_MAX:
            self._step = max(self._step, record.step)
        self._wall_time_ns = record.wall_time_ns or self._wall_time_ns
        return record


def with_gaps(records: Iterable[Record], next_sequence: int) -> Iterator[Record]:
    """Yield records, the first to have ``next_sequence``, and gaps over the numbers that are missing between them."""
    for record in records:
        if record.sequence > next_sequence:
            yield missing(next_sequence, record)
        yield record
        next_sequence = record.next_sequence


def missing(first_sequence: int, record: Record) -> Record:
    """Return the gap over the sequence numbers from ``first_sequence`` to the record's."""
    step = min(max(record.step, 0), STEP_MAX)
    return Record(Kind.GAP, first_sequence, step, record.wall_time_ns, _MISSING, record.sequence - first_sequence)
