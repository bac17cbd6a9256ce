"""The outbox when something comes in between: a handler or a finalizer that logs too, Ctrl-C, a close; anywhere."""

import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest
from support.logger.fake_logger import unpack_records
from support.machine.boundaries import Boundaries
from support.records.recordings import START_NS, make_stream

from tensorboard_sidecar.protocol.codec import decode_message, encode_scalars
from tensorboard_sidecar.protocol.messages import Gap
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox
from tensorboard_sidecar.protocol.record import Kind, Record
from tensorboard_sidecar.protocol.scalar_template import ScalarTemplate
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox

CAPACITY, SEGMENT = 300_000, 8192
TOO_MANY: Final = 400
TEMPLATE: Final = ScalarTemplate("loss")


class Said:
    """An outbox and what it was told: ``kept`` is the body by number of each record whose call returned.

    ``scalars`` are the bodies of scalars that were kept in the short way, which returns no number.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outbox = Outbox(
            folder, make_stream(), capacity_bytes=CAPACITY, wall_time_ns=START_NS, segment_size_bytes=SEGMENT
        )
        self.kept: dict[int, bytes] = {}
        self.refused: set[int] = set()
        self.scalars: list[bytes] = []
        self._values = map(float, count())

    def append(self, size: int = 100, kind: Kind = Kind.SCALARS) -> None:
        before = self.outbox.refusals.total
        body = bytes([size % 251]) * size
        sequence = self.outbox.append(kind, 0, START_NS, body)
        assert sequence not in self.refused
        assert sequence not in self.kept
        if size > CAPACITY:
            self.refused.add(sequence)
            assert self.outbox.refusals.total > before
        else:
            self.kept[sequence] = body

    def append_scalar(self) -> None:
        """Append a scalar as telemetry does: in the short way, and else in the long way."""
        value = next(self._values)
        body = encode_scalars({"loss": value})
        if self.outbox.append_scalar(TEMPLATE, 0, START_NS, value):
            self.scalars.append(body)
        else:
            self.kept[self.outbox.append(Kind.SCALARS, 0, START_NS, body)] = body

    def reserve(self, size: int = 100) -> None:
        slot = self.outbox.reserve(Kind.SCALARS, 0, START_NS, size, "values")
        assert slot is not None
        assert slot.values == "values"
        self.kept[slot.sequence] = b"late"

    def fill_all(self) -> None:
        """Let all values arrive, also those of a call that was interrupted."""
        last = 0
        while (slot := self.outbox.oldest_slot) is not None:
            assert slot.sequence > last, "slots are in order"
            last = slot.sequence
            self.outbox.fill(slot, b"late")

    def check(self) -> None:
        """See that every number is told once, in order, and is what its call was given."""
        self.fill_all()
        self.outbox.prepare(START_NS)
        self.outbox.prepare(START_NS)
        records = read_all(self.outbox)
        self.judge(records)
        assert self.outbox.next_sequence == (records[-1].next_sequence if records else 1)
        assert self.outbox.refusals.untold == 0
        told = Counter[str]()
        for record in records:
            message = decode_message(record) if record.kind == Kind.GAP else None
            if isinstance(message, Gap):
                told.update(message.kinds)
        assert told.total() == self.outbox.refusals.total

    def judge_killed(self) -> None:
        """Judge what the next owner would find if the process were killed now."""
        killed = self.folder.with_name("killed")
        shutil.copytree(self.folder, killed)
        orphan = OrphanedOutbox(killed)
        self.judge(read_all(orphan), lost=True)
        orphan.close(keep=False)

    def judge(self, records: list[Record], *, lost: bool = False) -> None:
        expected = 1
        found: dict[int, bytes] = {}
        gaps: set[int] = set()
        for record in records:
            assert record.sequence == expected
            expected = record.next_sequence
            if record.kind == Kind.GAP:
                gaps |= set(range(record.sequence, record.next_sequence))
            else:
                found[record.sequence] = record.body
        for sequence, body in self.kept.items():
            assert found.get(sequence) == body or (lost and body == b"late" and sequence in gaps), sequence
        assert self.refused <= gaps
        bodies = Counter(found.values())
        assert {bodies[body] for body in self.scalars} <= {1}


def read_all(outbox: Outbox | OrphanedOutbox) -> list[Record]:
    records: list[Record] = []
    at = outbox.first_sequence
    while (run := outbox.read(at, 2**18)) is not None:
        records += unpack_records(run.frames)
        at = run.next_sequence
    return records


def nearly_full(said: Said) -> None:
    """Leave less room in the segment than the next record takes."""
    while said.outbox.used_bytes < SEGMENT - 150:
        said.append(20)


def with_a_spare(said: Said) -> None:
    nearly_full(said)
    said.outbox.prepare(START_NS)


def with_refusals(said: Said) -> None:
    said.append()
    said.append(CAPACITY + 1)


def with_refusals_and_no_room(said: Said) -> None:
    nearly_full(said)
    said.append(CAPACITY + 1)


def with_slots(said: Said) -> None:
    said.reserve()
    said.append()
    said.reserve()


def nothing(_said: Said) -> None:
    """Begin with an empty outbox."""


def with_a_slot_behind(said: Said) -> None:
    nearly_full(said)
    said.reserve()


def read(said: Said) -> None:
    run = said.outbox.read(1, 2**18)
    assert run is not None
    assert 50 < run.next_sequence <= said.outbox.next_sequence


def append_several(said: Said) -> None:
    for size in (9000, 5000, 5000):
        said.append(size)


def reserve_and_fill(said: Said) -> None:
    said.reserve()
    said.fill_all()


Step = Callable[[Said], Any]
WORK: Final[dict[str, tuple[Step, Step]]] = {
    "append": (Said.append, Said.append),
    "append to a new segment": (nearly_full, lambda said: said.append(500)),
    "append to the spare segment": (with_a_spare, lambda said: said.append(500)),
    "append what no spare holds": (with_a_spare, lambda said: said.append(20_000)),
    "append what an empty segment does not hold": (nothing, lambda said: said.append(20_000)),
    "append behind refusals": (with_refusals, Said.append),
    "append behind refusals, to a new segment": (with_refusals_and_no_room, Said.append),
    "be refused": (Said.append, lambda said: said.append(CAPACITY + 1)),
    "append a scalar": (Said.append, Said.append_scalar),
    "append a scalar to a new segment": (with_a_spare, lambda said: [said.append_scalar() for _ in range(3)]),
    "append a scalar behind refusals": (with_refusals, Said.append_scalar),
    "reserve": (Said.append, Said.reserve),
    "reserve in a new segment": (nearly_full, lambda said: said.reserve(500)),
}
SENDERS: Final[dict[str, tuple[Step, Step]]] = {
    "prepare": (with_refusals_and_no_room, lambda said: said.outbox.prepare(START_NS)),
    "fill": (with_slots, Said.fill_all),
    "read": (with_a_slot_behind, read),
}
BETWEEN: Final[dict[str, Step]] = {
    "a record": Said.append,
    "a scalar": Said.append_scalar,
    "a small record": lambda said: said.append(10),
    "records of several segments": append_several,
    "a refusal": lambda said: said.append(CAPACITY + 1),
    "a slot": Said.reserve,
}
SENDERS_BETWEEN: Final[dict[str, Step]] = {
    "a slot and its values": reserve_and_fill,
    "a spare, and a gap that is due": lambda said: said.outbox.prepare(START_NS),
}


def combine(work: dict[str, Any], between: dict[str, Any]) -> list[Any]:
    return [pytest.param(*work[one], between[two], id=f"{one}-{two}") for one in work for two in between]


@pytest.mark.parametrize(
    ("before", "work", "between"), combine(WORK, BETWEEN | SENDERS_BETWEEN) + combine(SENDERS, BETWEEN)
)
def test_what_is_logged_in_the_middle_of_a_call_is_kept_and_so_is_the_call(
    memory: Path, before: Step, work: Step, between: Step
) -> None:
    """By a signal handler, a finalizer or another thread: it returns, and what it returned from survives a kill."""

    def act() -> None:
        between(said)
        said.judge_killed()

    for number in range(1, TOO_MANY):
        said = Said(memory / "outbox")
        before(said)
        boundaries = Boundaries(number, act)
        boundaries.run(lambda: work(said))  # noqa: B023 - run here
        if said.refused:
            said.judge_killed()
        said.append()
        said.check()
        said.outbox.close(keep=False)
        if not boundaries.reached:
            assert number > 5
            return
    raise AssertionError("the work has no end")


@pytest.mark.parametrize(("before", "work"), WORK.values(), ids=WORK)
def test_ctrl_c_anywhere_leaves_all_or_nothing(memory: Path, before: Step, work: Step) -> None:
    def act() -> None:
        raise KeyboardInterrupt

    for number in range(1, TOO_MANY):
        said = Said(memory / "outbox")
        before(said)
        boundaries = Boundaries(number, act)
        with suppress(KeyboardInterrupt):
            boundaries.run(lambda: work(said))  # noqa: B023 - run here
        said.append()
        said.check()
        said.outbox.close(keep=False)
        if not boundaries.reached:
            return
    raise AssertionError("the work has no end")


@pytest.mark.parametrize(("before", "work"), WORK.values(), ids=WORK)
def test_nothing_is_taken_from_the_moment_of_a_seal_on(memory: Path, before: Step, work: Step) -> None:
    """What is taken later would be waited for by nobody; a call in the middle of which it comes is told so."""
    for number in range(1, TOO_MANY):
        said = Said(memory / "outbox")
        before(said)
        sealed_at: list[int] = []

        def act() -> None:
            said.outbox.seal()  # noqa: B023 - run here
            sealed_at.append(said.outbox.next_sequence)  # noqa: B023 - run here

        boundaries = Boundaries(number, act)
        with suppress(RuntimeError):
            boundaries.run(lambda: work(said))  # noqa: B023 - run here
        if boundaries.reached:
            assert sealed_at == [said.outbox.next_sequence]
        said.check()
        said.outbox.close(keep=False)
        if not boundaries.reached:
            return
    raise AssertionError("the work has no end")


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize(("before", "work"), WORK.values(), ids=WORK)
def test_a_close_in_the_middle_of_a_call_ends_it_with_an_error(
    memory: Path, before: Step, work: Step, keep: bool
) -> None:
    """A handler that closes does not wait for the call below it; what that says comes too late, and is told so."""
    folder = memory / "outbox"
    for number in range(1, TOO_MANY):
        said = Said(folder)
        before(said)
        boundaries = Boundaries(number, lambda: said.outbox.close(keep=keep))  # noqa: B023 - run here
        with suppress(RuntimeError, ValueError):
            boundaries.run(lambda: work(said))  # noqa: B023 - run here
        if not boundaries.reached:
            said.outbox.close(keep=False)
            return
        assert not list(folder.glob("*.spare"))
        if keep:
            said.judge_killed()
            shutil.rmtree(folder)
        assert not folder.exists()
    raise AssertionError("the work has no end")
