"""States of an outbox: immutable, and each replaced once."""

import threading
from itertools import pairwise
from pathlib import Path

from support.machine.boundaries import Boundaries
from support.records.recordings import START_NS, make_stream

from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.frame import FRAME_OVERHEAD_BYTES
from tensorboard_sidecar.protocol.messages import Gap
from tensorboard_sidecar.protocol.record import HEADER_SIZE_BYTES, Kind
from tensorboard_sidecar.protocol.scalar_template import ScalarTemplate
from tensorboard_sidecar.telemetry.outbox.memory_segment import MemorySegment
from tensorboard_sidecar.telemetry.outbox.state import (
    HostSlot,
    Layout,
    OutboxState,
    Refusals,
    ScalarSlot,
    Slot,
    StateChain,
    capacity_limits,
)

TOO_MANY = 200


def make_chain(folder: Path) -> StateChain:
    segment = MemorySegment(folder, 2**16)
    segment.begin(make_stream(), 1, START_NS)
    segment.take_name()
    return StateChain(OutboxState(Layout(segment), segment.first_frame, 1, ()))


def place(chain: StateChain) -> Slot:
    slot = HostSlot(Kind.SCALARS, 0, START_NS, b"body")
    while not chain.replace(state := chain.latest(), state.with_slot(slot)):
        pass
    return slot


def test_a_state_is_replaced_once(memory: Path) -> None:
    chain = make_chain(memory)
    first = chain.latest()
    successors = [first.with_layout(first.layout._replace(sealed=True)) for _ in range(2)]
    assert [chain.replace(first, successor) for successor in successors] == [True, False]
    assert chain.latest() is successors[0]
    assert not first.layout.sealed, "a state does not change"


def test_the_latest_state_is_found_from_an_older_one(memory: Path) -> None:
    """A thread that was suspended in the middle of replacing a state sets the chain back when it goes on."""
    chain = make_chain(memory)
    first = chain.latest()
    for _ in range(5):
        place(chain)
    latest = chain.latest()
    chain._state = first
    assert chain.latest() is latest
    assert latest.next_sequence == 6


def test_places_of_records_are_disjoint_whatever_interrupts_placing(memory: Path) -> None:
    """At each place where a handler or a finalizer can come, another record is placed in the middle."""
    chain = make_chain(memory)
    slots: list[Slot] = []
    for number in range(1, TOO_MANY):
        boundaries = Boundaries(number, lambda: slots.append(place(chain)))
        boundaries.run(lambda: slots.append(place(chain)))
        if not boundaries.reached:
            break
    assert number > 5
    assert sorted(slot.sequence for slot in slots) == list(range(1, chain.latest().next_sequence))
    in_order = sorted(slots, key=lambda slot: slot.sequence)
    size = in_order[1].start - in_order[0].start
    assert [slot.start for slot in in_order] == [in_order[0].start + size * n for n in range(len(slots))]


def test_threads_that_place_at_once_get_a_place_each(memory: Path) -> None:
    chain = make_chain(memory)
    placed: list[Slot] = []
    threads = [threading.Thread(target=lambda: placed.extend([place(chain) for _ in range(200)])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(slot.sequence for slot in placed) == list(range(1, 801))
    assert len({slot.start for slot in placed}) == 800


TEMPLATE = ScalarTemplate("loss")


def place_scalar(chain: StateChain) -> ScalarSlot | None:
    return chain.place_scalar(TEMPLATE, 5, START_NS, 0.5)


def test_a_scalar_gets_the_place_that_any_record_would_get(memory: Path) -> None:
    chain = make_chain(memory)
    before = place(chain)
    slot = place_scalar(chain)
    after = place(chain)
    assert slot is not None
    assert (slot.sequence, slot.start) == (2, before.start + HEADER_SIZE_BYTES + len(b"body") + FRAME_OVERHEAD_BYTES)
    assert (after.sequence, after.start) == (3, slot.start + TEMPLATE.frame_size_bytes)
    assert chain.latest().slots == (before, slot, after)
    before.written = slot.written = after.written = True
    last = place_scalar(chain)
    assert chain.latest().slots == (last,)


def test_places_of_scalars_are_disjoint_whatever_interrupts_and_races(memory: Path) -> None:
    chain = make_chain(memory)
    place(chain)
    slots: list[Slot | ScalarSlot] = []

    def scalar() -> None:
        slots.append(place_scalar(chain) or place(chain))

    for number in range(1, TOO_MANY):
        boundaries = Boundaries(number, scalar)
        boundaries.run(scalar)
        if not boundaries.reached:
            break
    assert number > 5
    threads = [threading.Thread(target=lambda: [scalar() for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(slot.sequence for slot in slots) == list(range(2, chain.latest().next_sequence))
    in_order = sorted(slots, key=lambda slot: slot.sequence)
    assert all(one.start < two.start for one, two in pairwise(in_order))


def test_a_scalar_that_needs_more_than_a_place_gets_none(memory: Path) -> None:
    chain = make_chain(memory)
    place(chain)
    state = chain.latest()
    layout = state.layout
    for changed in (
        layout._replace(sealed=True),
        layout._replace(refusals=Refusals().add(Kind.TEXT)),
        layout._replace(scalars_max_bytes=state.end),
        layout._replace(full_bytes=2**20, scalars_max_bytes=2**20),
    ):
        refusing = StateChain(state.with_layout(changed))
        assert place_scalar(refusing) is None
        assert refusing.latest().successors == []
    spare = MemorySegment(memory, 2**16)
    spare.begin(make_stream(), state.next_sequence, START_NS)
    chain = StateChain(state.with_segment(spare))
    assert place_scalar(chain) is None, "the segment has no name yet"
    spare.take_name()
    place(chain)
    assert place_scalar(chain) is not None


def test_scalars_fill_a_segment_up_to_its_last_byte(memory: Path) -> None:
    chain = make_chain(memory)
    place(chain)
    room = (2**16 - chain.latest().end) // TEMPLATE.frame_size_bytes
    slots = [place_scalar(chain) for _ in range(room + 1)]
    assert None not in slots[:-1]
    assert slots[-1] is None
    assert chain.latest().end <= 2**16


def test_forgetting_and_releasing_keep_the_short_way_open(memory: Path) -> None:
    """Else the sender thread would send the next scalar to the long way at each of its turns."""
    chain = make_chain(memory)
    place(chain).written = True
    state = chain.latest()
    assert state.without_written().scalars_end == state.scalars_end == 2**16
    following = MemorySegment(memory, 2**16)
    following.begin(make_stream(), state.next_sequence, START_NS)
    following.take_name()
    limited = state.with_layout(state.layout._replace(scalars_max_bytes=2**17 - 5)).with_segment(following)
    assert limited.scalars_end == 2**16 - 5
    assert limited.without_first().scalars_end == 2**16


def test_slots_are_forgotten_when_they_are_written(memory: Path) -> None:
    chain = make_chain(memory)
    first, second, third = (place(chain) for _ in range(3))
    assert chain.latest().slots == (first, second, third)
    first.written = third.written = True
    assert chain.latest().without_written().slots == (second, third)
    second.written = True
    fourth = place(chain)
    assert chain.latest().slots == (fourth,)


def test_a_segment_that_is_released_takes_its_slots_with_it(memory: Path) -> None:
    chain = make_chain(memory)
    place(chain)
    state = chain.latest()
    following = MemorySegment(memory, 2**16)
    following.begin(make_stream(), state.next_sequence, START_NS)
    assert chain.replace(state, state.with_segment(following))
    kept = place(chain)
    state = chain.latest().without_first()
    assert state.slots == (kept,)
    assert (state.layout.full, state.layout.full_bytes, state.layout.last) == ((), 0, following)


def test_what_is_large_and_can_be_missed_is_refused_first() -> None:
    limits = capacity_limits(1000)
    assert limits[Kind.MATRIX] == limits[Kind.IMAGES] == limits[Kind.AUDIO] == 700
    assert limits[Kind.EMBEDDING] == limits[Kind.TENSOR_SUMMARIES] == limits[Kind.TEXT] == 800
    assert limits[Kind.SCALARS] == 950
    assert limits[Kind.RUN_START] == limits[Kind.RUN_END] == limits[Kind.GAP] == 1000
    assert len(limits) == len(Kind)


def test_refusals_are_untold_until_a_gap_tells_them() -> None:
    refusals = Refusals()
    assert not refusals
    for kind in (Kind.MATRIX, Kind.TEXT, Kind.MATRIX):
        refusals = refusals.add(kind)
    assert refusals
    assert refusals.untold == 3
    assert refusals.gap() == refusals.gap() == Gap("the outbox was full", {"matrix": 2, "text": 1})
    refusals = refusals.told()
    assert not refusals
    assert (refusals.total, refusals.untold) == (3, 0)
    assert refusals.add(Kind.TEXT).gap().kinds == {"text": 1}
    assert refusals.add(Kind.TEXT).total == 4


def test_an_account_never_changes() -> None:
    """An interrupt finds the old one or the new one, and nothing in between."""
    refusals = Refusals().add(Kind.TEXT)
    refusals.add(Kind.TEXT)
    refusals.told()
    assert refusals == Refusals(1, 1, {"text": 1})


def test_the_largest_gap_fits_where_room_is_kept_for_it() -> None:
    refusals = Refusals(0, 0, {kind.name.lower(): 2**63 for kind in Kind})
    assert len(encode_body(refusals.gap())) < 1024
