"""Records that wait for a device, and the order of the stream."""

import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.logger.fake_logger import unpack_records
from support.machine.slow_device import SlowCopy
from support.records.recordings import START_NS, make_stream

from tensorboard_sidecar.protocol.codec import decode_message
from tensorboard_sidecar.protocol.limits import TAG_MAX_CHARACTERS
from tensorboard_sidecar.protocol.messages import Gap, Message, Scalars
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.telemetry.outbox.device_slots import BODY_SIZE_MIN_BYTES, Build, PendingRecords
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox


@pytest.fixture
def outbox(memory: Path) -> Iterator[Outbox]:
    made = Outbox(memory / "outbox", make_stream(), capacity_bytes=2**20, wall_time_ns=START_NS)
    yield made
    made.close(keep=False)


@pytest.fixture
def pending(outbox: Outbox) -> PendingRecords:
    return PendingRecords(outbox)


def build(arrays: Sequence[npt.NDArray[Any]]) -> Message:
    return Scalars({"loss": float(sum(array.sum() for array in arrays))})


def reserve(
    outbox: Outbox,
    copies: Sequence[SlowCopy],
    build: Build,
    *,
    kind: Kind = Kind.SCALARS,
    size: int = BODY_SIZE_MIN_BYTES,
) -> None:
    assert outbox.reserve(kind, 7, START_NS, size, (copies, build)) is not None


def wait_for_device(outbox: Outbox, *values: float) -> list[SlowCopy]:
    """Let a record wait for copies of these values."""
    copies = [SlowCopy(np.array([value])) for value in values]
    reserve(outbox, copies, build)
    return copies


def said(outbox: Outbox) -> list[Message | None]:
    messages, at = [], 1
    while (run := outbox.read(at, 2**20)) is not None:
        messages += [decode_message(record) for record in unpack_records(run.frames)]
        at = run.next_sequence
    return messages


def test_nothing_waiting_is_nothing_to_do(pending: PendingRecords) -> None:
    assert not pending.poll()


def test_a_record_waits_for_all_of_its_copies(outbox: Outbox, pending: PendingRecords) -> None:
    first, second = wait_for_device(outbox, 1.0, 2.0)
    assert pending.poll()
    first.arrive()
    assert pending.poll()
    assert said(outbox) == []
    second.arrive()
    assert not pending.poll()
    assert said(outbox) == [Scalars({"loss": 3.0})]


def test_order_is_kept_whatever_arrives_first(outbox: Outbox, pending: PendingRecords) -> None:
    """A record behind a copy that is under way waits in order, be it from the host or from the device."""
    [first] = wait_for_device(outbox, 1.0)
    outbox.append(Kind.RUN_END, 7, START_NS, b"\x81\xa6status\xa9completed")
    [second] = wait_for_device(outbox, 2.0)
    second.arrive()
    assert pending.poll()
    assert said(outbox) == []
    first.arrive()
    assert not pending.poll()
    assert [type(message).__name__ for message in said(outbox)] == ["Scalars", "RunEnd", "Scalars"]


@pytest.mark.parametrize("when", ["asked", "fetched", "built"])
def test_what_cannot_be_fetched_is_a_gap_and_the_stream_goes_on(
    outbox: Outbox, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A device that breaks answers every later question with its error."""
    pending = PendingRecords(outbox)

    class Broken(SlowCopy):
        def array(self) -> npt.NDArray[Any]:
            raise RuntimeError("device-side assert")

    def explode(_arrays: object) -> Message:
        raise RuntimeError("no memory")

    for _ in range(3):
        copy = (Broken if when == "fetched" else SlowCopy)(np.zeros(1))
        copy.arrive()
        if when == "asked":
            copy.fail(RuntimeError("device-side assert"))
        reserve(outbox, [copy], explode if when == "built" else build, kind=Kind.MATRIX)
    [good] = wait_for_device(outbox, 5.0)
    good.arrive()
    assert not pending.poll()
    gap = Gap("not fetched from the device: RuntimeError", {"matrix": 1})
    assert said(outbox) == [gap, gap, gap, Scalars({"loss": 5.0})]
    assert len(caplog.records) == 1, "a broken device would be said for every record"


def test_a_message_that_no_reader_takes_is_a_gap(outbox: Outbox, pending: PendingRecords) -> None:
    reserve(outbox, [], lambda _: Scalars({"x" * (TAG_MAX_CHARACTERS + 1): 1.0}), size=10_000)
    assert not pending.poll()
    assert said(outbox) == [Gap("not fetched from the device: TooLarge", {"scalars": 1})]


def test_a_message_larger_than_its_slot_is_a_gap(outbox: Outbox, pending: PendingRecords) -> None:
    reserve(outbox, [], lambda _: Scalars({f"tag/{number}": 1.0 for number in range(100)}))
    assert not pending.poll()
    assert said(outbox) == [Gap("not fetched from the device: TooLarge", {"scalars": 1})]


@pytest.mark.parametrize(("name", "told"), [("E" * 300, "E" * 80), ("\u8aa4" * 300, "?" * 80)])
def test_the_longest_gap_fits_the_smallest_slot(outbox: Outbox, pending: PendingRecords, name: str, told: str) -> None:
    """In bytes too: a name may be in any script."""
    error = type(name, (Exception,), {})

    def explode(_arrays: object) -> Message:
        raise error

    reserve(outbox, [], explode, kind=Kind.TENSOR_SUMMARIES)
    assert not pending.poll()
    assert said(outbox) == [Gap("not fetched from the device: " + told, {"tensor_summaries": 1})]


def test_values_that_were_released_are_waited_for_no_more(memory: Path) -> None:
    """Whoever has the record, as a logger's word once had it, needs no values; their place is no longer there."""
    outbox = Outbox(
        memory / "small", make_stream(), capacity_bytes=2**20, wall_time_ns=START_NS, segment_size_bytes=8192
    )
    pending = PendingRecords(outbox)
    [copy] = wait_for_device(outbox, 1.0)
    while outbox.first_sequence == 1:
        outbox.append(Kind.TEXT, 7, START_NS, bytes(1000))
        outbox.release(outbox.next_sequence)
    copy.arrive()
    assert not pending.poll()
    outbox.close(keep=False)


def test_the_memory_of_copies_is_given_back_by_the_thread_that_took_it(outbox: Outbox, pending: PendingRecords) -> None:
    """Torch marks where a device still uses it: a call to the device, which is not the sender's to make."""
    copies = wait_for_device(outbox, 1.0)
    copies[0].arrive()
    memory = weakref.ref(copies[0])
    del copies
    assert not pending.poll()
    assert memory() is not None
    pending.let_go()
    assert memory() is None
