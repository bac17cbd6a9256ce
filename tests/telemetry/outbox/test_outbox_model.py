"""The outbox against a model of what was said: nothing lost, doubled, reordered or unaccounted for, kills included."""

import shutil
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule
from support.logger.fake_logger import unpack_records
from support.machine.boundaries import Boundaries
from support.records.recordings import START_NS, make_stream

from tensorboard_sidecar.protocol.codec import decode_message, encode_scalars
from tensorboard_sidecar.protocol.errors import TooLarge
from tensorboard_sidecar.protocol.kinds import find_kind
from tensorboard_sidecar.protocol.messages import Gap
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox
from tensorboard_sidecar.protocol.record import HEADER_SIZE_BYTES, FrameBatch, Kind, Record, check_batch
from tensorboard_sidecar.protocol.scalar_template import ScalarTemplate
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox
from tensorboard_sidecar.telemetry.outbox.state import Slot

SEGMENT_BYTES = 8192
TEMPLATE = ScalarTemplate("loss")
KINDS = st.sampled_from([Kind.SCALARS, Kind.MATRIX, Kind.EMBEDDING, Kind.RUN_END])
SIZES = st.one_of(st.integers(0, 400), st.integers(0, 12_000))


class Said(NamedTuple):
    """What one call was given: ``body`` is None while it is on a device, and when it was refused."""

    kind: int
    step: int
    body: bytes | None
    refused: bool = False


class OutboxModel(RuleBasedStateMachine):
    """``said`` is the model, by sequence number; ``boundaries`` are the numbers at which a record begins."""

    slots = Bundle("slots")

    @initialize(capacity=st.sampled_from([12_000, 40_000, 100_000]))
    def begin(self, capacity: int) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="test-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.capacity = capacity
        self.outbox = Outbox(
            self.root / "live",
            make_stream(),
            capacity_bytes=capacity,
            wall_time_ns=START_NS,
            segment_size_bytes=SEGMENT_BYTES,
        )
        self.said: dict[int, Said] = {}
        self.open: dict[int, Slot] = {}
        self.boundaries = [1]

    def teardown(self) -> None:
        if hasattr(self, "outbox"):
            self.outbox.close(keep=False)
            assert not self.outbox.folder.exists()
            shutil.rmtree(self.root)

    @rule(kind=KINDS, size=SIZES, step=st.integers(0, 1000))
    def append(self, kind: Kind, size: int, step: int) -> None:
        body = bytes([len(self.said) % 256]) * size
        used, refused = self.outbox.used_bytes, self.outbox.refusals.total
        sequence = self.outbox.append(kind, step, START_NS + step, body)
        was_refused = self.outbox.refusals.total > refused
        assert was_refused == (used + HEADER_SIZE_BYTES + size > self.capacity * find_kind(kind).outbox_share)
        self.note(sequence, Said(kind, step, None if was_refused else body, was_refused))

    @rule(values=st.lists(st.floats(), min_size=1, max_size=40), step=st.integers(0, 1000))
    def append_scalars_in_the_short_way(self, values: list[float], step: int) -> None:
        """Until the short way ends: then nothing has changed, and the long way keeps or refuses the same record."""
        for value in values:
            body = encode_scalars({"loss": value})
            before = self.outbox.next_sequence, self.outbox.used_bytes, self.outbox.refusals
            if self.outbox.append_scalar(TEMPLATE, step, START_NS + step, value):
                assert self.outbox.used_bytes == before[1] + TEMPLATE.frame_size_bytes
                assert before[1] + HEADER_SIZE_BYTES + len(body) <= self.capacity * find_kind(Kind.SCALARS).outbox_share
                assert not before[2]
                self.note(before[0], Said(Kind.SCALARS, step, body))
                continue
            assert (self.outbox.next_sequence, self.outbox.used_bytes, self.outbox.refusals) == before
            sequence = self.outbox.append(Kind.SCALARS, step, START_NS + step, body)
            was_refused = self.outbox.refusals.total > before[2].total
            self.note(sequence, Said(Kind.SCALARS, step, None if was_refused else body, was_refused))

    @rule(outer=st.tuples(KINDS, SIZES), inner=st.tuples(KINDS, SIZES), number=st.integers(1, 80), slot=st.booleans())
    def append_in_the_middle_of_an_append(
        self, outer: tuple[Kind, int], inner: tuple[Kind, int], number: int, slot: bool
    ) -> None:
        """As a signal handler does it, or another thread; the number is that of a place where it can come."""
        said: dict[int, Said] = {}
        refusals: list[int] = []

        def act() -> None:
            refusals.append(self.outbox.refusals.total)
            (self.reserve_now if slot else self.append_now)(*inner, said)
            refusals.append(self.outbox.refusals.total)

        before = self.outbox.refusals.total
        Boundaries(number, act).run(lambda: self.append_now(*outer, said))
        [refused_before, refused_behind] = refusals or [0, 0]
        refused = self.outbox.refusals.total - before - (refused_behind - refused_before)
        last = list(said)[-1]  # the outer one, which returned last
        said[last] = Said(outer[0], 7, None if refused else bytes([outer[1] % 256]) * outer[1], bool(refused))
        for sequence in sorted(said):
            self.note(sequence, said[sequence])

    @rule(kind=KINDS, size=SIZES, number=st.integers(1, 80))
    def append_and_be_interrupted(self, kind: Kind, size: int, number: int) -> None:
        """By Ctrl-C: the record is there, or its number is the next one's."""
        said: dict[int, Said] = {}

        def act() -> None:
            raise KeyboardInterrupt

        refused = self.outbox.refusals.total
        with suppress(KeyboardInterrupt):
            Boundaries(number, act).run(lambda: self.append_now(kind, size, said))
        if self.outbox.next_sequence > len(self.said) + 1:
            was_refused = self.outbox.refusals.total > refused
            body = None if was_refused else bytes([size % 256]) * size
            self.note(self.outbox.next_sequence - 1, Said(kind, 7, body, was_refused))

    @rule(target=slots, kind=KINDS, size=SIZES)
    def reserve(self, kind: Kind, size: int) -> object:
        slot = self.outbox.reserve(kind, 5, START_NS, size)
        self.note(self.outbox.next_sequence - 1, Said(kind, 5, None, slot is None))
        if slot is None:
            return multiple()
        assert slot.sequence == self.outbox.next_sequence - 1
        self.open[slot.sequence] = slot
        return slot

    @rule(slot=slots, share=st.floats(0, 1), as_gap=st.booleans())
    def fill(self, slot: Slot, share: float, as_gap: bool) -> None:
        if self.open.pop(slot.sequence, None) is None:
            return
        room = slot.size_bytes - HEADER_SIZE_BYTES
        with pytest.raises(TooLarge):
            self.outbox.fill(slot, bytes(room + 1))
        body = b"f" * int(room * share)
        self.outbox.fill(slot, body, kind=Kind.GAP if as_gap else None)
        kind = Kind.GAP if as_gap else slot.kind
        self.said[slot.sequence] = self.said[slot.sequence]._replace(kind=kind, body=body)

    @rule(data=st.data(), size_max=st.one_of(st.integers(-10, 300), st.integers(0, 50_000)))
    def read(self, data: st.DataObject, size_max: int) -> None:
        """From any boundary, be it older than the last read: one record at least, and no more than were asked for."""
        sequence = data.draw(st.sampled_from(self.boundaries))
        run = self.outbox.read(sequence, size_max)
        if run is None:
            assert sequence == self.boundaries[-1]
            return
        records = self.check(run, sequence)
        assert len(records) == 1 or len(run.frames) <= size_max

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(self.boundaries))
        self.outbox.release(sequence)
        assert self.outbox.first_sequence <= sequence
        if self.outbox.first_sequence > 1:
            with pytest.raises(LookupError, match="was released"):
                self.outbox.read(self.outbox.first_sequence - 1, 100)

    @rule()
    def prepare(self) -> None:
        self.outbox.prepare(START_NS)

    @rule()
    def kill(self) -> None:
        """Adopt the folder as it is now: all that returned is in it, and what is not there is told as lost."""
        copy = self.root / "killed"
        shutil.copytree(self.outbox.folder, copy)
        orphan = OrphanedOutbox(copy)
        assert orphan.stream == self.outbox.stream
        assert orphan.next_sequence == self.outbox.next_sequence
        assert orphan.first_sequence == self.outbox.first_sequence
        sequence = orphan.first_sequence
        while (run := orphan.read(sequence, 3000)) is not None:
            self.check(run, sequence, killed=True)
            sequence = run.next_sequence
        assert sequence == orphan.next_sequence
        orphan.close(keep=False)
        assert not copy.exists()

    @invariant()
    def what_can_be_read_is_what_was_said(self) -> None:
        if not hasattr(self, "outbox"):
            return
        assert self.outbox.next_sequence == len(self.said) + 1
        assert self.outbox.used_bytes <= self.capacity + SEGMENT_BYTES + max(SEGMENT_BYTES, 12_000 + 5000)
        sequence = self.outbox.first_sequence
        self.boundaries = [sequence]
        while (run := self.outbox.read(sequence, 10_000)) is not None:
            self.boundaries += [record.next_sequence for record in self.check(run, sequence)]
            sequence = run.next_sequence
        first_open = min(self.open, default=self.outbox.next_sequence)
        untold = {number for number in range(sequence, first_open) if not self.said[number].refused}
        assert not untold, "nothing is held back but what waits for a device, and refusals not yet told"

    def append_now(self, kind: Kind, size: int, said: dict[int, Said]) -> None:
        """Append without the model, which is told in ``said``."""
        refused = self.outbox.refusals.total
        body = bytes([size % 256]) * size
        sequence = self.outbox.append(kind, 7, START_NS, body)
        was_refused = self.outbox.refusals.total > refused
        said[sequence] = Said(kind, 7, None if was_refused else body, was_refused)

    def reserve_now(self, kind: Kind, size: int, said: dict[int, Said]) -> None:
        slot = self.outbox.reserve(kind, 5, START_NS, size)
        said[self.outbox.next_sequence - 1] = Said(kind, 5, None, slot is None)
        if slot is not None:
            self.open[slot.sequence] = slot

    def note(self, sequence: int, said: Said) -> None:
        assert sequence == len(self.said) + 1, "numbers are given out one by one"
        self.said[sequence] = said

    def check(self, run: FrameBatch, sequence: int, *, killed: bool = False) -> list[Record]:
        """Check that a run says what was said from ``sequence`` on, as a logger would check it."""
        taken = check_batch(run.frames, sequence)
        assert isinstance(taken, FrameBatch)
        assert (taken.first_sequence, taken.next_sequence) == (run.first_sequence, run.next_sequence)
        records = unpack_records(run.frames)
        for record in records:
            covered = [self.said[number] for number in range(record.sequence, record.next_sequence)]
            [first, *others] = covered
            if first.body is not None:
                assert not others
                assert (record.kind, record.step, record.body) == (first.kind, first.step, first.body)
                continue
            assert record.kind == Kind.GAP
            assert all(said.body is None for said in covered)
            message = decode_message(record)
            assert isinstance(message, Gap)
            if message.kinds or not killed:
                assert message.kinds == Counter(Kind(said.kind).name.lower() for said in covered)
                assert all(said.refused for said in covered)
        return records


TestOutboxModel = OutboxModel.TestCase
TestOutboxModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
