"""Memory and disk against a model of what was said: each number is recovered once, in order, kills included."""

import errno
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.logger.fake_logger import unpack_records
from support.machine.sick_disk import SickDisk
from support.records.recordings import START_NS, make_stream

from tensorboard_sidecar.protocol.codec import decode_message
from tensorboard_sidecar.protocol.messages import Gap
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox, find_outboxes
from tensorboard_sidecar.protocol.outbox.outbox_files import SPILL_POINTER, write_spill_pointer
from tensorboard_sidecar.protocol.record import FrameBatch, Kind, check_batch
from tensorboard_sidecar.telemetry.outbox.backlog import Backlog, Spill
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox

SEGMENT_BYTES = 8192
KINDS = st.sampled_from([Kind.SCALARS, Kind.MATRIX, Kind.RUN_END])
SIZES = st.one_of(st.integers(0, 400), st.integers(2000, 12_000))
CALLS = ("write", "fdatasync", "fsync", "replace", "unlink", "mkdir")


class SpillModel(RuleBasedStateMachine):
    """``said`` holds the body of each number, None when it was refused or is on a device."""

    @initialize(capacity=st.sampled_from([30_000, 60_000]), spill_bytes=st.sampled_from([30_000, 10**9]))
    def begin(self, capacity: int, spill_bytes: int) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="test-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        for name in ("outboxes", "disk", "killed", "killed_disk"):
            (self.root / name).mkdir()
        folder = self.root / "outboxes" / "live"
        outbox = Outbox(
            folder, make_stream(), capacity_bytes=capacity, wall_time_ns=START_NS, segment_size_bytes=SEGMENT_BYTES
        )
        self.spill = Spill(folder, self.root / "disk" / "live", spill_bytes)
        self.backlog = Backlog(outbox, self.spill)
        self.said: dict[int, bytes | None] = {}
        self.refused: set[int] = set()
        self.slots: list[Any] = []
        self.acked, self.now = 1, 0.0
        self.patch = pytest.MonkeyPatch()
        self.disks = {call: SickDisk(self.patch, call) for call in CALLS}

    def teardown(self) -> None:
        if hasattr(self, "backlog"):
            self.patch.undo()
            self.backlog.close(keep=False)
            assert find_outboxes(self.root / "outboxes", self.root / "disk") == []
            assert list(self.root.rglob("*.segment")) == []
            shutil.rmtree(self.root)

    @rule(kind=KINDS, size=SIZES, count=st.integers(1, 8))
    def append(self, kind: Kind, size: int, count: int) -> None:
        for _ in range(count):
            body = bytes([len(self.said) % 256]) * size
            before = self.backlog.outbox.refusals.total
            sequence = self.backlog.outbox.append(kind, 0, START_NS, body)
            refused = self.backlog.outbox.refusals.total > before
            self.said[sequence] = None if refused else body
            self.refused |= {sequence} if refused else set()

    @rule(size=SIZES)
    def reserve(self, size: int) -> None:
        slot = self.backlog.outbox.reserve(Kind.SCALARS, 0, START_NS, size)
        sequence = self.backlog.outbox.next_sequence - 1
        self.said[sequence] = None
        if slot is None:
            self.refused.add(sequence)
        else:
            self.slots.append(slot)

    @rule(data=st.data())
    def fill(self, data: st.DataObject) -> None:
        if self.slots:
            slot = self.slots.pop(data.draw(st.integers(0, len(self.slots) - 1)))
            self.said[slot.sequence] = b"filled"[: slot.size_bytes - 40]
            self.backlog.outbox.fill(slot, self.said[slot.sequence] or b"")

    @rule(turns=st.integers(1, 10))
    def turn(self, turns: int) -> None:
        for _ in range(turns):
            self.now += 100.0
            self.backlog.step(self.now)
            self.backlog.outbox.prepare(START_NS)

    @rule(call=st.sampled_from(CALLS), error=st.sampled_from([errno.EIO, errno.ENOSPC]), turns=st.integers(1, 3))
    def turn_on_a_sick_disk(self, call: str, error: int, turns: int) -> None:
        self.disks[call].error = error
        self.turn(turns)
        self.backlog.release(self.acked)
        self.disks[call].error = 0

    @rule(runs=st.integers(1, 30))
    def acknowledge(self, runs: int) -> None:
        for _ in range(runs):
            run = self.backlog.read(self.acked, 3000)
            if run is None:
                break
            self.acked = self.check(run, self.acked)
        self.backlog.release(self.acked)

    @rule()
    def kill(self) -> None:
        """Adopt what lies in memory and on disk as it is now, elsewhere: a copy's files name each other."""
        killed, on_disk = self.root / "killed" / "live", self.root / "killed_disk" / "live"
        shutil.copytree(self.backlog.outbox.folder, killed)
        if (killed / SPILL_POINTER).exists():
            shutil.copytree(self.spill.folder, on_disk)
            write_spill_pointer(killed, on_disk)
        assert find_outboxes(self.root / "killed", self.root / "killed_disk") == [killed]
        orphan = OrphanedOutbox(killed)
        assert orphan.first_sequence <= self.acked
        assert orphan.next_sequence == self.backlog.next_sequence
        sequence = max(orphan.first_sequence, self.acked)
        while (run := orphan.read(sequence, 5000)) is not None:
            sequence = self.check(run, sequence, killed=True)
        assert sequence == orphan.next_sequence
        orphan.close(keep=False)
        assert not killed.exists()
        shutil.rmtree(on_disk, ignore_errors=True)

    @invariant()
    def what_can_be_read_is_what_was_said(self) -> None:
        if not hasattr(self, "backlog"):
            return
        assert self.backlog.first_sequence <= self.acked
        assert self.spill.used_bytes <= self.spill.capacity_bytes
        sequence = self.acked
        while (run := self.backlog.read(sequence, 20_000)) is not None:
            sequence = self.check(run, sequence)
        first_open = min((slot.sequence for slot in self.slots), default=self.backlog.next_sequence)
        assert not {number for number in range(sequence, first_open) if number not in self.refused}

    def check(self, run: FrameBatch, sequence: int, *, killed: bool = False) -> int:
        """Check that a run says what was said from ``sequence`` on; return the number behind it."""
        taken = check_batch(run.frames, sequence)
        assert isinstance(taken, FrameBatch)
        for record in unpack_records(run.frames):
            if record.kind == Kind.GAP:
                numbers = range(record.sequence, record.next_sequence)
                assert all(self.said[number] is None for number in numbers)
                message = decode_message(record)
                assert isinstance(message, Gap)
                assert killed or sum(message.kinds.values()) == record.span
            else:
                assert record.body == self.said[record.sequence]
        return taken.next_sequence


TestSpillModel = SpillModel.TestCase
TestSpillModel.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
