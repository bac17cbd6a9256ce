"""The state of an outbox: immutable, and replaced by one call of C. The callers are those of ``outbox``, rule 1.

Rule 1: a state never changes. A change computes the next state from the latest state, and then offers the next state
with :meth:`StateChain.replace`, which is one ``list.append``. No thread, handler or finalizer can run inside that
call. When another change came first, the caller computes again from the new latest state.
Rule 2: a change reserves a place, and copies no record. So the change takes a microsecond whatever the record's size,
and losing the race costs no more than that.
Rule 3: the bytes of a record are written after its place was reserved. Nobody else writes there, so that the caller,
and the sender thread after Ctrl-C, can write the same bytes twice.
Rule 4: there is no lock. With a lock, a call from a handler would have to leave its record to the call below, and a
handler that closes the telemetry and exits would lose the end of the run. And a finalizer that runs while its thread
holds the lock may wait for a lock of the user's program (``logging`` has one) whose owner waits for the outbox.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from tensorboard_sidecar.protocol.errors import TooLarge
from tensorboard_sidecar.protocol.frame import FRAME_OVERHEAD_BYTES
from tensorboard_sidecar.protocol.kinds import KINDS
from tensorboard_sidecar.protocol.messages import Gap
from tensorboard_sidecar.protocol.record import HEADER_SIZE_BYTES, pack_header
from tensorboard_sidecar.protocol.scalar_template import ScalarTemplate
from tensorboard_sidecar.telemetry.outbox.memory_segment import MemorySegment


def capacity_limits(capacity_bytes: int) -> list[float]:
    """Return, by number of the kind, the most bytes that may be in use after a record of that kind."""
    return [capacity_bytes * row.outbox_share for row in KINDS]


class Refusals(NamedTuple):
    """The account of refused records: ``total`` in all, of which ``untold`` since the last gap, by kind in ``kinds``.

    An account is immutable: refusing a record replaces the account in the outbox's state.
    """

    total: int = 0
    untold: int = 0
    kinds: Mapping[str, int] = MappingProxyType({})

    def __bool__(self) -> bool:
        return bool(self.untold)

    def add(self, kind: int) -> "Refusals":
        """Return the account with one more refused record."""
        name = KINDS[kind].name
        return Refusals(self.total + 1, self.untold + 1, {**self.kinds, name: self.kinds.get(name, 0) + 1})

    def gap(self) -> Gap:
        """Return the message that tells the untold refusals."""
        return Gap("the outbox was full", dict(self.kinds))

    def told(self) -> "Refusals":
        """Return the account after the gap was appended."""
        return Refusals(self.total)


class Slot:
    """A record and its place: a frame at ``start`` of ``segment``, for a payload of ``size_bytes``.

    The body is not known yet. ``values`` (of any type, for :class:`device_slots.PendingRecords`) complete the record.
    """

    __slots__ = ("kind", "segment", "sequence", "size_bytes", "start", "step", "values", "wall_time_ns", "written")
    segment: MemorySegment
    start: int
    span = 1

    def __init__(self, kind: int, step: int, wall_time_ns: int, size_bytes: int, values: Any) -> None:
        self.kind, self.step, self.wall_time_ns, self.size_bytes = kind, step, wall_time_ns, size_bytes
        self.values = values
        self.sequence = 0
        self.written = False

    def mark(self) -> None:
        """Write the head of the frame, so that a reader after a kill can step over the slot.

        The sender thread may have filled the slot already; the filled frame has the same head.
        """
        try:
            self.segment.write_head(self.start, self.size_bytes)
        except ValueError:  # the segment is closed
            if not self.written:
                raise

    def fill(self, body: bytes, kind: int) -> None:
        """Write the frame, with zeros after the body. Raises TooLarge, and writes nothing."""
        padding = self.size_bytes - HEADER_SIZE_BYTES - len(body)
        if padding < 0:
            raise TooLarge("body for a reserved slot", len(body), self.size_bytes - HEADER_SIZE_BYTES)
        header = pack_header(kind, 1, len(body), self.sequence, self.step, self.wall_time_ns)
        self.segment.write_frame(self.start, header, body + bytes(padding))
        self.written = True


class HostSlot(Slot):
    """A record whose body is known. Several threads may write the record at once: they write the same bytes."""

    __slots__ = ("body", "span")

    def __init__(self, kind: int, step: int, wall_time_ns: int, body: bytes, span: int = 1) -> None:
        self.kind = kind
        self.step = step
        self.wall_time_ns = wall_time_ns
        self.size_bytes = HEADER_SIZE_BYTES + len(body)
        self.sequence = 0
        self.written = False
        self.body = body
        self.span = span

    def write(self) -> None:
        """Write the frame. Raises ValueError when the segment is closed and the record was not written before."""
        body = self.body
        try:
            header = pack_header(self.kind, self.span, len(body), self.sequence, self.step, self.wall_time_ns)
            self.segment.write_frame(self.start, header, body)
        except ValueError:
            if not self.written:  # else the sender thread wrote and shipped the record, and released the segment
                raise
        self.written = True


# A struct of msgspec, as the state below: its constructor is written in C and takes half the time of an ``__init__``.
class ScalarSlot(msgspec.Struct, eq=False):
    """The record of one scalar, and its place. Several threads may write the record at once, as in HostSlot."""

    template: ScalarTemplate
    step: int
    wall_time_ns: int
    value: float
    segment: MemorySegment
    start: int
    sequence: int
    written: bool = False

    def write(self) -> None:
        """Write the frame. Raises ValueError when the segment is closed and the record was not written before."""
        try:
            self.template.write(self.segment.map, self.start, self.sequence, self.step, self.wall_time_ns, self.value)
        except TypeError:
            self.check_written()
        self.written = True

    def check_written(self) -> None:
        """Raise ValueError unless the record was written before its segment was closed, by the sender thread."""
        if not self.written:
            raise ValueError("the segment is closed")


AnySlot: TypeAlias = Slot | ScalarSlot


class FullSegment(NamedTuple):
    """A segment that takes no more records: frames up to ``end``, numbers before ``next_sequence``."""

    segment: MemorySegment
    end: int
    next_sequence: int


class Layout(NamedTuple):
    """The part of a state that few records change.

    Records go to ``last``. ``full_bytes`` is the size of the segments before. A ``sealed`` outbox takes gaps alone;
    a ``closed`` outbox takes no segment. With ``scalars_max_bytes`` in use, scalars are refused.
    """

    last: MemorySegment
    full: tuple[FullSegment, ...] = ()
    full_bytes: int = 0
    refusals: Refusals = Refusals()
    sealed: bool = False
    closed: bool = False
    scalars_max_bytes: float = math.inf

    @property
    def scalars_end(self) -> float:
        """How far frames of :meth:`StateChain.place_scalar` may reach in the last segment; 0: no frame may go there."""
        if self.sealed or self.refusals.untold or not self.last.named:
            return 0
        return min(self.last.size_bytes, self.scalars_max_bytes - self.full_bytes)


class OutboxState(msgspec.Struct, eq=False):
    """``layout``; the next record goes to ``end`` of the last segment and gets ``next_sequence``.

    ``slots`` holds, in order, every record that is not written yet, and may hold records that are written. Each append
    copies this tuple; the launches that a device queues, about a thousand, bound its length. ``scalars_end`` is that
    of the layout, or 0 when the layout was not asked since its last segment got its name.
    """

    layout: Layout
    end: int
    next_sequence: int
    slots: tuple[AnySlot, ...]
    scalars_end: float = 0
    successors: list["OutboxState"] = []

    @property
    def used_bytes(self) -> int:
        """Bytes of the segments that are held; of the last segment, the reserved bytes."""
        return self.layout.full_bytes + self.end

    @property
    def following_sequence(self) -> int:
        """The number after the last number that was given out, to a kept or to a refused record."""
        return self.next_sequence + self.layout.refusals.untold

    def with_layout(self, layout: Layout) -> "OutboxState":
        """Return this state with another layout."""
        return OutboxState(layout, self.end, self.next_sequence, self.slots, layout.scalars_end)

    def without_written(self) -> "OutboxState":
        """Return this state without the slots that are written."""
        return OutboxState(self.layout, self.end, self.next_sequence, _unwritten(self.slots), self.scalars_end)

    def with_slot(self, slot: Slot) -> "OutboxState":
        """Return the state in which ``slot`` has the next place of the last segment; set the slot's place."""
        layout = self.layout
        start = slot.start = self.end
        sequence = slot.sequence = self.next_sequence
        slot.segment = layout.last
        slots = self.slots
        only_the_record_before = len(slots) == 1 and slots[0].written
        slots = (slot,) if only_the_record_before else (*_unwritten(slots), slot)
        end = start + slot.size_bytes + FRAME_OVERHEAD_BYTES
        return OutboxState(layout, end, sequence + slot.span, slots, self.scalars_end or layout.scalars_end)

    def with_gap(self, slot: Slot) -> "OutboxState":
        """Return the state with ``slot`` for the gap that tells all refusals."""
        layout = self.layout
        return self.with_layout(layout._replace(refusals=layout.refusals.told())).with_slot(slot)

    def with_segment(self, segment: MemorySegment) -> "OutboxState":
        """Return the state in which ``segment``, begun at ``next_sequence``, follows the last segment.

        An empty last segment is replaced: both have the same name.
        """
        layout, last = self.layout, self.layout.last
        full, full_bytes = layout.full, layout.full_bytes
        if self.next_sequence > last.first_sequence:
            full, full_bytes = (*full, FullSegment(last, self.end, self.next_sequence)), full_bytes + last.size_bytes
        following = layout._replace(last=segment, full=full, full_bytes=full_bytes)
        return OutboxState(following, segment.first_frame, self.next_sequence, self.slots, following.scalars_end)

    def without_first(self) -> "OutboxState":
        """Return the state without the first full segment and the slots in that segment."""
        layout = self.layout
        first, *full = layout.full
        released = layout._replace(full=tuple(full), full_bytes=layout.full_bytes - first.segment.size_bytes)
        slots = tuple(slot for slot in self.slots if slot.segment is not first.segment)
        return OutboxState(released, self.end, self.next_sequence, slots, released.scalars_end)


def _unwritten(slots: tuple[AnySlot, ...]) -> tuple[AnySlot, ...]:
    """Return the slots from the first slot that is not written. Most slots are written in order."""
    for number, slot in enumerate(slots):
        if not slot.written:
            return slots[number:]
    return ()


class StateChain:
    """Holds the latest state; any thread, handler or finalizer may call at any time.

    The first successor of a state is the state that replaced it. A thread that was suspended in :meth:`replace` may
    set ``_state`` back to an older state; the successors lead from there to the latest state.
    """

    def __init__(self, state: OutboxState) -> None:
        self._state: OutboxState = state

    def latest(self) -> OutboxState:
        """Return the latest state."""
        state = self._state
        while state.successors:
            state = state.successors[0]
        return state

    def place_scalar(self, template: ScalarTemplate, step: int, wall_time_ns: int, value: float) -> ScalarSlot | None:
        """Give the record of one scalar the next place; return None, and change nothing, when that is not enough.

        None: the last segment or the outbox is full, the outbox is sealed or has refusals to tell, or another caller
        took the place. :meth:`latest`, :meth:`OutboxState.with_slot` and :meth:`replace` stand here once more: each
        call of a method would take a twentieth of the whole time of ``add_scalar``.
        """
        state = self._state
        while state.successors:
            state = state.successors[0]
        layout, start, sequence, slots, scalars_end = (
            state.layout,
            state.end,
            state.next_sequence,
            state.slots,
            state.scalars_end,
        )
        end = start + template.frame_size_bytes
        if end > scalars_end:
            return None
        slot = ScalarSlot(template, step, wall_time_ns, value, layout.last, start, sequence)
        slots = (slot,) if len(slots) == 1 and slots[0].written else (*_unwritten(slots), slot)
        successor = OutboxState(layout, end, sequence + 1, slots, scalars_end)
        successors: Final = state.successors
        successors.append(successor)
        if successors[0] is not successor:
            return None
        self._state = successor
        return slot

    def replace(self, state: OutboxState, successor: OutboxState) -> bool:
        """Let ``successor`` replace ``state``; return False, and change nothing, when another state did so before."""
        successors: Final = state.successors
        successors.append(successor)
        if successors[0] is not successor:
            return False
        self._state = successor
        return True
