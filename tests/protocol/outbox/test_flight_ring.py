"""The flight ring as readers see it: whole entries, damaged ones, and the records of a burst."""

import math
import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.logger.fake_logger import unpack_records
from support.records.recordings import START_NS

from tensorboard_sidecar.protocol.codec import decode_message, encode_body, encode_scalars
from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.frame import pack_frame
from tensorboard_sidecar.protocol.limits import (
    FLIGHT_RING_SIZE_MAX_BYTES,
    STEP_MAX,
    TAG_MAX_CHARACTERS,
    TAGS_MAX,
)
from tensorboard_sidecar.protocol.messages import Message, Scalars, Text
from tensorboard_sidecar.protocol.names import check_tag
from tensorboard_sidecar.protocol.outbox.flight_ring import (
    ENTRIES_START,
    MARK_SIZE_BYTES,
    RING_NAME,
    Burst,
    Mark,
    choose,
    flight_tag,
    merge,
    read_burst,
    read_entries,
    ring_size_bytes,
)
from tensorboard_sidecar.protocol.record import FrameBatch, Kind, Record, check_batch, pack_record


def entry(number: int, step: int, **values: float) -> Record:
    body = encode_scalars(values or {"loss": float(step)})
    return Record(Kind.SCALARS, number, step, START_NS + number, body)


def ring(entries: Iterable[Record], *marks: Mark, size: int = 2**16) -> bytearray:
    """Return the bytes of a ring whose entries lie one behind the other."""
    made = bytearray(size)
    for number, mark in enumerate(marks or [Mark(500)]):
        frame = mark.pack()
        made[number * MARK_SIZE_BYTES : number * MARK_SIZE_BYTES + len(frame)] = frame
    frames = b"".join(pack_frame(pack_record(found)) for found in entries)
    made[ENTRIES_START : ENTRIES_START + len(frames)] = frames
    assert len(made) == size
    return made


def numbers(found: bytes | bytearray) -> list[int]:
    return [record.sequence for record in read_entries(memoryview(found))]


def messages(records: Iterable[Record]) -> list[tuple[int, Message | None]]:
    return [(record.step, decode_message(record)) for record in records]


ENTRIES = [entry(n, 10 + n, loss=n / 2, **{"grad/norm": math.inf}) for n in range(1, 9)]
WHOLE = ring(ENTRIES, Mark(500), Mark(500, 12, 2), size=2**11)
FRAME_BYTES = len(pack_frame(pack_record(ENTRIES[0])))


def test_a_ring_has_room_for_its_steps_within_bounds() -> None:
    assert [ring_size_bytes(steps) for steps in (1, 1000, 10**9)] == [2**16, 4_096_000, FLIGHT_RING_SIZE_MAX_BYTES]


def test_the_mark_of_the_last_shipped_entry_counts() -> None:
    for marks in ([Mark(5), Mark(5, 7, 3)], [Mark(5, 7, 4), Mark(5, 7, 3)], [Mark(5, -1, 3), Mark(5)]):
        assert Mark.read(memoryview(ring([], *marks))) == max(marks, key=lambda mark: (mark.shipped_step, mark.shipped))


@pytest.mark.parametrize("damaged", [0, 1])
def test_one_damaged_mark_leaves_the_other(damaged: int) -> None:
    made = ring([], marks := Mark(5, 1, 1), Mark(5, 2, 2))
    made[damaged * MARK_SIZE_BYTES + 20] ^= 1
    assert Mark.read(memoryview(made)) == (Mark(5, 2, 2) if damaged == 0 else marks)


def test_a_ring_without_a_mark_is_none() -> None:
    another_version = pack_frame(bytes([2]) + bytes(31))
    for start in (b"", bytes(ENTRIES_START), another_version, pack_frame(b"short")):
        with pytest.raises(Malformed, match="without a whole mark"):
            Mark.read(memoryview(start))


def test_entries_are_read_where_they_lie() -> None:
    assert [*read_entries(memoryview(WHOLE))] == ENTRIES


def test_an_overwritten_ring_gives_the_new_entries_and_what_is_left_of_the_old() -> None:
    """The new entries are longer than the old: the last one ends in the middle of an old one."""
    made = ring(ENTRIES, size=2**11)
    new = b"".join(pack_frame(pack_record(entry(n, n, longer_tag=1.0))) for n in (9, 10))
    made[ENTRIES_START : ENTRIES_START + len(new)] = new
    overwritten = -(-len(new) // FRAME_BYTES)
    assert numbers(made) == [9, 10, *range(overwritten + 1, 9)]


def test_an_entry_behind_one_that_was_never_completed_is_read() -> None:
    """A thread took the place of an older, longer entry, and was killed before it wrote; the next one wrote."""
    made = ring([entry(1, 1, **{"t" * 200: 1.0})], size=2**11)
    frame = pack_frame(pack_record(entry(3, 3)))
    at = ENTRIES_START + 60
    made[at : at + len(frame)] = frame
    assert numbers(made) == [3]


def test_records_that_are_no_entries_are_skipped() -> None:
    others = [
        Record(Kind.TEXT, 1, 1, 0, encode_body(Text("a", "b"))),
        Record(Kind.SCALARS, 2, STEP_MAX + 1, 0, b""),
        Record(77, 3, 1, 0, b""),
    ]
    assert numbers(ring([*others, entry(4, 4)])) == [4]
    assert numbers(ring([]) + pack_frame(b"no record")) == []


@given(st.integers(0, len(WHOLE)))
def test_a_ring_that_is_cut_gives_the_entries_before_the_cut(size: int) -> None:
    found = [*read_entries(memoryview(WHOLE[:size]))]
    assert found == ENTRIES[: max(0, size - ENTRIES_START) // FRAME_BYTES]


@given(st.integers(ENTRIES_START, len(WHOLE) - 1), st.integers(1, 255))
def test_a_flipped_byte_costs_one_entry(at: int, flip: int) -> None:
    made = bytearray(WHOLE)
    made[at] ^= flip
    hit = (at - ENTRIES_START) // FRAME_BYTES
    assert [*read_entries(memoryview(made))] == [found for n, found in enumerate(ENTRIES) if n != hit]


@given(st.binary(max_size=600), st.lists(st.tuples(st.integers(0, len(WHOLE)), st.binary(max_size=40)), max_size=8))
def test_rubbish_gives_whole_entries_or_none(front: bytes, overwritten: list[tuple[int, bytes]]) -> None:
    [*read_entries(memoryview(front))]
    made = bytearray(WHOLE)
    for at, rubbish in overwritten:
        made[at : at + len(rubbish)] = rubbish
    found = [*read_entries(memoryview(made))]
    assert [record for record in ENTRIES if record in found] == found


def test_false_heads_cost_bounded_time() -> None:
    """Each head claims the rest of the ring, whose checksum is wrong: without a bound, minutes."""
    head = pack_frame(bytes(2**20))[:12]
    assert numbers(ring([]) + head * 2**17 + bytes(2**20)) == []


def test_a_burst_has_the_last_steps_in_order() -> None:
    """Values of a device arrive late: their entries have a later number and an earlier step."""
    entries = [entry(number, step) for number, step in ((1, 1), (2, 2), (3, 4), (4, 3), (5, 3), (6, 5))]
    assert [record.step for record in choose(entries, Mark(3))] == [3, 3, 4, 5]
    assert [record.step for record in choose(reversed(entries), Mark(500))] == [1, 2, 3, 3, 4, 5]
    assert choose(entries, Mark(0)) == []


def test_steps_since_the_error_do_not_count() -> None:
    entries = [entry(number, number) for number in range(1, 20)]
    assert [record.step for record in choose(entries, Mark(3), 10)] == [7, 8, 9, *range(10, 20)]


def test_a_burst_ships_nothing_again_and_goes_nowhere_back() -> None:
    entries = [entry(number, step) for number, step in ((1, 1), (2, 2), (3, 2), (4, 1), (5, 3))]
    mark = Mark(500).behind(entries[1])
    assert [(record.step, record.sequence) for record in choose(entries, mark)] == [(2, 3), (3, 5)]
    assert choose(entries, mark.behind(entries[4])) == []


@given(st.lists(st.integers(-3, 20), max_size=30), st.lists(st.integers(-3, 20), max_size=30), st.integers(1, 10))
def test_two_bursts_together_are_in_order_and_have_each_entry_once(
    first: list[int], second: list[int], steps: int
) -> None:
    entries = [entry(number, step) for number, step in enumerate(first, 1)]
    burst = choose(entries, Mark(steps))
    mark = Mark(steps).behind(burst[-1]) if burst else Mark(steps)
    entries += [entry(number, step) for number, step in enumerate(second, len(first) + 1)]
    both = [*burst, *choose(entries, mark)]
    order = [(record.step, record.sequence) for record in both]
    assert order == sorted(set(order))


def test_the_values_of_a_step_are_one_record() -> None:
    entries = [entry(1, 3, loss=1.0, lr=0.1), entry(2, 3, loss=2.0, norm=5.0), entry(3, 4, loss=math.nan)]
    first, second = merge(entries)
    assert decode_message(first) == Scalars({"flight/loss": 2.0, "flight/lr": 0.1, "flight/norm": 5.0})
    assert (first.step, first.sequence, first.wall_time_ns) == (3, 2, START_NS + 2)
    assert str(decode_message(second)) == "Scalars(values={'flight/loss': nan})"


def test_an_entry_that_no_reader_would_take_is_left_out() -> None:
    bad = [Record(Kind.SCALARS, n, 3, 0, body) for n, body in enumerate((b"", b"\xc1", encode_scalars({"": 1.0})), 1)]
    assert messages(merge([*bad, entry(4, 3)])) == [(3, Scalars({"flight/loss": 3.0}))]
    assert messages(merge(bad)) == []


BODIES = st.binary(max_size=60) | st.dictionaries(st.text(max_size=4), st.floats(), max_size=3).map(encode_scalars)


@given(st.lists(st.tuples(st.integers(-STEP_MAX, STEP_MAX), BODIES), max_size=6))
def test_any_bodies_with_right_checksums_become_records_that_readers_take(found: list[tuple[int, bytes]]) -> None:
    records = [Record(Kind.SCALARS, number, step, 0, body) for number, (step, body) in enumerate(found, 1)]
    burst = Burst(choose(read_entries(memoryview(ring(records))), Mark(500)), 1)
    batch = burst.read(1, 2**20)
    for record in unpack_records(batch.frames) if batch is not None else []:
        decode_message(record)


def test_a_step_with_too_many_tags_is_several_records() -> None:
    entries = [entry(n, 3, **{f"{n}/{tag}": 0.0 for tag in range(TAGS_MAX - 1)}) for n in (1, 2)]
    sizes = [len(message.values) for _, message in messages(merge(entries)) if isinstance(message, Scalars)]
    assert sizes == [TAGS_MAX, TAGS_MAX - 2]


def test_a_long_tag_stays_different_from_others() -> None:
    long = [end.rjust(TAG_MAX_CHARACTERS, "x") for end in "ab"]
    shown = [flight_tag(tag) for tag in long]
    assert [check_tag(tag) for tag in shown] == shown
    assert len(set(shown)) == 2
    assert flight_tag("x" * (TAG_MAX_CHARACTERS - 7)) == "flight/" + "x" * (TAG_MAX_CHARACTERS - 7)


@pytest.mark.parametrize("size_max", [1, 150, 2**20])
def test_the_burst_of_a_killed_trainer_continues_its_stream(size_max: int) -> None:
    burst = Burst(ENTRIES, 41)
    assert (burst.first_sequence, burst.next_sequence) == (41, 50)
    records, at = [], 41
    while (batch := burst.read(at, size_max)) is not None:
        assert isinstance(check_batch(batch.frames, at), FrameBatch)
        records += unpack_records(batch.frames)
        at = batch.next_sequence
    assert at == 50
    *scalars, reason = messages(records)
    assert scalars == [(10 + n, Scalars({"flight/loss": n / 2, "flight/grad/norm": math.inf})) for n in range(1, 9)]
    text = "`the process ended without closing its telemetry: it was killed, or it crashed`: steps 11 to 18"
    assert reason == (18, Text("flight/reason", text))
    later = burst.read(45, 1)
    assert later is not None
    assert unpack_records(later.frames)[0].sequence == 45


def test_a_burst_without_entries_has_no_record() -> None:
    burst = Burst([], 41)
    assert burst.next_sequence == 41
    assert burst.read(41, 1000) is None


def test_a_folder_without_a_ring_or_with_rubbish_has_no_burst(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_burst(tmp_path, 7).next_sequence == 7
    assert not caplog.records
    (tmp_path / RING_NAME).write_bytes(os.urandom(5000))
    assert read_burst(tmp_path, 7).next_sequence == 7
    (tmp_path / RING_NAME).unlink()
    (tmp_path / RING_NAME).symlink_to(tmp_path / "elsewhere")
    assert read_burst(tmp_path, 7).next_sequence == 7
    (tmp_path / RING_NAME).unlink()
    os.mkfifo(tmp_path / RING_NAME)
    assert read_burst(tmp_path, 7).next_sequence == 7
    assert ["is not shipped" in record.message for record in caplog.records] == [True] * 3


def test_a_ring_in_a_folder_is_a_burst(tmp_path: Path) -> None:
    (tmp_path / RING_NAME).write_bytes(WHOLE)
    burst = read_burst(tmp_path, 7)
    assert burst.next_sequence == 7 + 6 + 1, "two of eight entries were shipped, and a text follows"
