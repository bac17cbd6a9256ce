"""The flight recorder: what is kept, when it is shipped, and what it never costs."""

import logging
import math
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from time import sleep

import numpy as np
import pytest
import torch
from support.machine.children import fork, start, wait_for
from support.machine.slow_device import SlowCopy, SlowDevice
from support.machine.waiting import wait_until
from support.records.recordings import Said
from support.running.spoken import read_recording, read_said

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.__main__ import main
from tensorboard_sidecar.protocol.codec import encode_scalars
from tensorboard_sidecar.protocol.messages import RunEnd, Scalars, Text
from tensorboard_sidecar.protocol.outbox.flight_ring import RING_NAME, Mark
from tensorboard_sidecar.protocol.outbox.orphan import find_outboxes
from tensorboard_sidecar.telemetry import flight_recorder, pipeline
from tensorboard_sidecar.telemetry.flight_recorder import (
    REASON_MAX_CHARACTERS,
    ArrivingCalls,
    FiniteWatch,
    exception_reason,
    one_line,
)
from tensorboard_sidecar.telemetry.outbox.ring_memory import RingMemory
from tensorboard_sidecar.telemetry.values.drafts import finished

META = torch.zeros((), device="meta")
Make = Callable[..., Telemetry]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return a function that makes a telemetry with a flight recorder of 5 steps."""
    return lambda **options: Telemetry(
        "run", **{"endpoint": None, "record": tmp_path, "strict": True, "flight_recorder": 5} | options
    )


def bursts(folder: Path) -> list[Said]:
    """Return what was shipped of the ring, in order; scalars as their values."""
    shown = []
    for said in read_said(folder)[1:-1]:
        match said.message:
            case Scalars(values) if all(tag.startswith("flight/") for tag in values):
                shown.append(said)
            case Text("flight/reason"):
                shown.append(said)
    return shown


def steps(folder: Path) -> list[int]:
    return [said.step for said in bursts(folder) if isinstance(said.message, Scalars)]


def reasons(folder: Path) -> list[str]:
    return [said.message.text for said in bursts(folder) if isinstance(said.message, Text)]


def fail(telemetry: Telemetry, error: BaseException) -> None:
    """End the run of a telemetry by an exception, as its ``with`` block does."""
    with pytest.raises(type(error)), telemetry:
        raise error


def wait_for_burst(telemetry: Telemetry, count: int = 1) -> None:
    flight = telemetry._pipeline.flight
    assert flight is not None
    wait_until(lambda: len(flight._told) == count, what="a burst")


def looked_at(telemetry: Telemetry) -> bool:
    flight = telemetry._pipeline.flight
    return flight is not None and not flight._unseen


def test_nothing_is_shipped_while_all_goes_well(tmp_path: Path, make: Make, outboxes: Path) -> None:
    with make() as telemetry:
        for step in range(100):
            telemetry.flight(step, {"loss": step / 2})
        [outbox] = find_outboxes(outboxes)
        assert (outbox / RING_NAME).exists()
    assert [said.message for said in read_said(tmp_path)[1:]] == [RunEnd("completed")]
    assert list(outboxes.iterdir()) == []


def test_without_a_recorder_the_calls_do_nothing(tmp_path: Path, make: Make, outboxes: Path) -> None:
    with make(flight_recorder=0) as telemetry:
        telemetry.flight(1, {"loss": math.nan, "bad": None})  # type: ignore[dict-item]
        telemetry.ship_flight("asked")
        assert not list(outboxes.rglob(RING_NAME))
    assert [said.message for said in read_said(tmp_path)[1:]] == [RunEnd("completed")]


@pytest.mark.parametrize("wrong", [-1, 2**60])
def test_a_wrong_number_of_steps_is_said_at_the_start(make: Make, wrong: int, outboxes: Path) -> None:
    with pytest.raises(ValueError, match="flight_recorder"):
        make(flight_recorder=wrong)
    with pytest.raises(TypeError, match="flight_recorder"):
        make(flight_recorder="500")
    assert list(outboxes.iterdir()) == []


def test_the_loops_word_ships_the_last_steps_of_both_kinds_of_calls(tmp_path: Path, make: Make) -> None:
    with make() as telemetry:
        for step in range(20):
            telemetry.flight(step, {"loss": float(step), "norm": np.float32(0.5)})
            if step % 10 == 8:
                telemetry.scalars(step, {"lr": 0.1})
                telemetry.writer.add_scalar("single", 3.0, step)
        telemetry.ship_flight("the validation\nloss is `high`")
        wait_for_burst(telemetry)
        telemetry.flight(20, {"loss": 20.0})
    expected = [Said(step, Scalars({"flight/loss": float(step), "flight/norm": 0.5})) for step in range(14, 20)]
    values = {"flight/loss": 18.0, "flight/norm": 0.5, "flight/lr": 0.1, "flight/single": 3.0}
    expected[4] = Said(18, Scalars(values))
    reason = Text("flight/reason", "`the validation loss is 'high'`: steps 14 to 19")
    assert bursts(tmp_path) == [Said(19, reason), *expected]


def test_what_is_shipped_has_the_time_of_its_call(tmp_path: Path, make: Make) -> None:
    with make() as telemetry:
        telemetry.keep(3, lambda _: [finished(Scalars({"loss": 1.0}))], walltime=1_722_222_222.0)
        telemetry.ship_flight("asked")
    assert [record.wall_time_ns for record in read_recording(tmp_path)[1:-1]] == [1_722_222_222 * 10**9] * 3


def test_an_exception_that_ends_the_block_ships_its_type_and_message(tmp_path: Path, make: Make) -> None:
    telemetry = make()
    for step in range(20):
        telemetry.flight(step, {"loss": float(step)})
    fail(telemetry, ValueError("batch 7 is\nempty"))
    assert steps(tmp_path) == [15, 16, 17, 18, 19]
    assert reasons(tmp_path) == ["`ValueError: batch 7 is empty`: steps 15 to 19"]
    assert read_said(tmp_path)[-1].message == RunEnd("failed")


@pytest.mark.parametrize(("error", "ships"), [(KeyboardInterrupt(), 1), (SystemExit(3), 1), (SystemExit(0), 0)])
def test_an_exit_without_an_error_ships_nothing(tmp_path: Path, make: Make, error: BaseException, ships: int) -> None:
    telemetry = make()
    telemetry.flight(1, {"loss": 1.0})
    fail(telemetry, error)
    assert len(reasons(tmp_path)) == ships


def test_a_close_in_a_finally_block_knows_the_exception(tmp_path: Path, make: Make) -> None:
    telemetry = make()
    telemetry.flight(1, {"loss": 1.0})

    def train() -> float:
        try:
            return 1 / 0
        finally:
            telemetry.close()

    with pytest.raises(ZeroDivisionError):
        train()
    assert reasons(tmp_path) == ["`ZeroDivisionError: division by zero`: steps 1 to 1"]


def test_a_run_inside_an_except_block_that_ends_well_ships_nothing(tmp_path: Path, make: Make) -> None:
    try:
        int("no GPU")
    except ValueError:
        with make() as telemetry:
            telemetry.flight(1, {"loss": 1.0})
    assert bursts(tmp_path) == []


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_ships_without_a_word(tmp_path: Path, make: Make, bad: float) -> None:
    with make() as telemetry:
        for step in range(20):
            telemetry.flight(step, {"norm": 1.0, "loss": torch.tensor(bad if step == 12 else 0.5)})
        wait_for_burst(telemetry)
    assert steps(tmp_path)[:6] == [7, 8, 9, 10, 11, 12]
    assert reasons(tmp_path)[0].startswith(f"`loss is {bad} at step 12`: steps 7 to ")


def test_a_value_that_is_not_finite_at_the_very_end_is_shipped_by_the_close(tmp_path: Path, make: Make) -> None:
    with make() as telemetry:
        telemetry.scalars(3, {"loss": math.nan})
    assert reasons(tmp_path) == ["`loss is nan at step 3`: steps 3 to 3"]


def test_losses_that_stay_nan_are_one_burst_and_ship_again_after_finite_steps(tmp_path: Path, make: Make) -> None:
    with make() as telemetry:
        for first, steps_at_once, value in (
            *((0, 3, math.nan), (10, 4, 0.5), (20, 3, math.nan)),
            *((30, 5, 0.5), (40, 1, math.nan)),
        ):
            for step in range(first, first + steps_at_once):
                telemetry.flight(step, {"loss": value})
            wait_until(lambda: looked_at(telemetry))
    assert [reason.partition("`:")[0] for reason in reasons(tmp_path)[-1].split("\n\n")] == [
        "`loss is nan at step 40",
        "`loss is nan at step 0",
    ]
    assert steps(tmp_path) == sorted(set(steps(tmp_path)))


def test_a_second_burst_goes_on_behind_the_first(tmp_path: Path, make: Make) -> None:
    telemetry = make(flight_recorder=100)
    for step in range(10):
        telemetry.flight(step, {"loss": float(step)})
    telemetry.ship_flight("first")
    wait_for_burst(telemetry)
    for step in (9, 10, 4, 11):
        telemetry.flight(step, {"more": float(step)})
    fail(telemetry, ValueError("later"))
    assert steps(tmp_path) == [*range(10), 9, 10, 11]
    assert reasons(tmp_path)[-1] == "`ValueError: later`: steps 9 to 11\n\n`first`: steps 0 to 9"


def test_an_error_after_a_burst_is_told_at_its_place_when_nothing_new_was_logged(tmp_path: Path, make: Make) -> None:
    telemetry = make()
    telemetry.flight(7, {"loss": 1.0})
    telemetry.ship_flight("first")
    wait_for_burst(telemetry)
    fail(telemetry, ValueError("later"))
    last = bursts(tmp_path)[-1]
    assert last == Said(7, Text("flight/reason", "`ValueError: later`: no further steps\n\n`first`: steps 7 to 7"))


def test_a_ring_without_values_ships_nothing(tmp_path: Path, make: Make) -> None:
    telemetry = make()
    telemetry.ship_flight("asked")
    fail(telemetry, ValueError("early"))
    assert bursts(tmp_path) == []


def test_values_on_a_device_are_kept_when_they_arrive(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = SlowDevice()
    monkeypatch.setattr(pipeline, "start_copy", device.start_copy)
    with make() as telemetry:
        telemetry.flight(1, {"loss": META, "norm": META, "lr": 0.5})
        telemetry.scalars(2, {"val": META})
        telemetry.flight(3, {"loss": 3.0})
        assert len(device.copies) == 2, "one copy a call"
        for copy in device.copies:
            copy.arrive()
        wait_until(lambda: telemetry._pipeline.sender.acked_sequence > 2, what="the values")
        telemetry.ship_flight("asked")
    assert [said for said in bursts(tmp_path) if isinstance(said.message, Scalars)] == [
        Said(1, Scalars({"flight/loss": 1.0, "flight/norm": 1.0, "flight/lr": 0.5})),
        Said(2, Scalars({"flight/val": 2.0})),
        Said(3, Scalars({"flight/loss": 3.0})),
    ]


def test_a_nan_on_a_device_is_seen_when_it_arrives(tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    device = SlowDevice(lambda tensor: np.full(tensor.shape, np.nan, np.float32))
    monkeypatch.setattr(pipeline, "start_copy", device.start_copy)
    with make() as telemetry:
        telemetry.flight(1, {"loss": META})
        telemetry.flight(2, {"loss": 1.0})
        wait_until(lambda: looked_at(telemetry))
        device.copies[0].arrive()
        wait_for_burst(telemetry)
    assert reasons(tmp_path) == ["`loss is nan at step 1`: steps 1 to 2"]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_no_call_waits_for_a_gpu_and_its_nan_is_seen(tmp_path: Path, make: Make) -> None:
    loss = torch.zeros((), device="cuda")
    with make() as telemetry:
        torch.cuda.set_sync_debug_mode("error")
        try:
            for step in range(20):
                loss += math.nan if step == 12 else 1.0
                telemetry.flight(step, {"loss": loss, "lr": 0.5})
        finally:
            torch.cuda.set_sync_debug_mode("default")
        wait_for_burst(telemetry)
    assert steps(tmp_path)[:6] == [7, 8, 9, 10, 11, 12]
    assert bursts(tmp_path)[1] == Said(7, Scalars({"flight/loss": 8.0, "flight/lr": 0.5}))
    assert reasons(tmp_path)[0].startswith("`loss is nan at step 12`: steps 7 to ")


def test_a_close_after_an_error_waits_for_the_device_a_moment(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = SlowDevice()
    monkeypatch.setattr(pipeline, "start_copy", device.start_copy)
    looks: list[float] = []

    def look_again(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 5:
            for copy in device.copies[:2]:
                copy.arrive()
        sleep(seconds)

    telemetry = make()
    for step in range(3):
        telemetry.flight(step, {"loss": META})
    monkeypatch.setattr(flight_recorder, "sleep", look_again)
    fail(telemetry, ValueError("x"))
    assert steps(tmp_path) == [0, 1], "what never arrives is not waited for"


def test_a_device_that_breaks_costs_its_own_values(caplog: pytest.LogCaptureFixture) -> None:
    kept: list[tuple[int, int, bytes]] = []
    calls = ArrivingCalls(lambda *call: kept.append(call))
    copies = [SlowCopy(np.ones(1)) for _ in range(4)]

    def build(arrays: object) -> Scalars:  # noqa: ARG001 - values that do not matter
        return Scalars({"loss": 1.0})

    for step, copy in enumerate(copies):
        calls.add(step, 10 * step, [copy], build)
    assert calls.poll()
    for copy in copies[:2]:
        copy.fail(RuntimeError("CUDA error: device-side assert triggered"))
    copies[2].arrive()
    assert calls.poll()
    copies[3].arrive()
    assert not calls.poll()
    body = encode_scalars({"loss": 1.0})
    assert kept == [(2, 20, body), (3, 30, body)]
    assert len(caplog.records) == 1


def test_bad_values_are_faults_and_the_others_are_kept(tmp_path: Path, make: Make) -> None:
    with make(strict=False) as telemetry:
        telemetry.flight(3, {"a": None, "b": 2.0, "": 3.0, "two": torch.zeros(2)})  # type: ignore[dict-item]
        telemetry.flight(-(2**60), {"a": 1.0})
        telemetry.ship_flight("asked")
        assert telemetry.faults.total == 3
    assert bursts(tmp_path)[1] == Said(3, Scalars({"flight/b": 2.0, "flight/untitled": 3.0}))


def test_calls_after_the_close_and_in_a_fork_are_faults(tmp_path: Path, make: Make) -> None:
    with make(strict=False) as telemetry:
        telemetry.flight(1, {"loss": 1.0})

        def child() -> None:
            telemetry.flight(2, {"loss": math.nan})
            telemetry.ship_flight("child")
            assert telemetry.faults.total == 2
            telemetry.close()

        assert fork(child) == 0
        telemetry.flight(3, {"loss": 3.0})
        telemetry.ship_flight("parent")
    telemetry.flight(4, {"loss": 4.0})
    telemetry.ship_flight("closed")
    assert telemetry.faults.total == 2
    assert steps(tmp_path) == [1, 3]


def test_a_recorder_that_fails_costs_no_other_record(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise OSError("bad memory")

    monkeypatch.setattr(RingMemory, "append", broken)
    telemetry = make()
    for step in range(3):
        telemetry.scalars(step, {"loss": 1.0})
        telemetry.flight(step, {"loss": 1.0})
    telemetry.ship_flight("asked")
    fail(telemetry, ValueError("x"))
    said = [said.message for said in read_said(tmp_path)[1:]]
    assert said == [*[Scalars({"loss": 1.0})] * 3, RunEnd("failed")]
    assert [record.message for record in caplog.records] == [
        "the flight recorder stopped: OSError('bad memory'); other records are not affected"
    ]


def test_a_burst_that_fails_costs_no_other_record(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise MemoryError("no copy")

    monkeypatch.setattr(RingMemory, "copy", broken)
    with make() as telemetry:
        telemetry.scalars(1, {"loss": math.nan})
        wait_until(lambda: caplog.records, what="a warning")
        telemetry.scalars(2, {"loss": 2.0})
    assert [said.step for said in read_said(tmp_path)] == [0, 1, 2, 2]
    assert "the flight recorder stopped: MemoryError" in caplog.text


def test_no_memory_for_a_ring_is_said_at_the_start(make: Make, monkeypatch: pytest.MonkeyPatch, outboxes: Path) -> None:
    allocate = os.posix_fallocate
    failing = 64 * 4096 * 4

    def full(file: int, start: int, size: int) -> None:
        if size == failing:
            raise OSError(28, "No space left on device")
        allocate(file, start, size)

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        make(flight_recorder=256)
    assert list(outboxes.iterdir()) == []


def test_a_ring_that_was_not_shipped_in_time_stays(
    make: Make, monkeypatch: pytest.MonkeyPatch, outboxes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The sender thread is in the middle of a burst; the ring goes with the rest of the outbox."""
    monkeypatch.setattr(flight_recorder, "_CLOSE_SECONDS", 0.05)
    telemetry = make()
    telemetry.flight(1, {"loss": 1.0})
    flight = telemetry._pipeline.flight
    assert flight is not None
    wait_until(lambda: flight._turn.acquire(blocking=False))
    ring = next(outboxes.rglob(RING_NAME))
    telemetry.close()
    flight._turn.release()
    assert "is not shipped in time" in caplog.text
    assert not ring.exists(), "the outbox was shipped, and is gone"


@pytest.mark.parametrize("marks", [1, 2, 30, 60])
def test_a_kill_in_the_middle_of_a_burst_ships_the_rest_and_one_record_twice(
    tmp_path: Path, make: Make, outboxes: Path, marks: int
) -> None:
    """Between a record and its mark: the only place where a kill shows."""

    def train() -> None:
        telemetry = make(flight_recorder=60)
        for step in range(100):
            telemetry.flight(step, {"loss": float(step)})
        write_mark, written = RingMemory.write_mark, []

        def killed(ring: RingMemory, mark: Mark) -> None:
            if len(written) == marks:
                os.kill(os.getpid(), signal.SIGKILL)
            written.append(mark)
            write_mark(ring, mark)

        RingMemory.write_mark = killed  # type: ignore[method-assign]
        telemetry.ship_flight("asked")
        telemetry.close()

    assert wait_for(start(train)) == -signal.SIGKILL
    assert main(["drain", str(outboxes)]) == 0
    shown = [said.step for said in read_said(tmp_path)[1:] if isinstance(said.message, Scalars)]
    assert shown == sorted([*range(39, 100), 39 + marks])
    texts = [said.message.text for said in read_said(tmp_path) if isinstance(said.message, Text)]
    assert texts[0] == "`asked`: steps 39 to 99"
    assert [text.startswith("`the process ended without") for text in texts] == [False, True]


def test_a_reason_may_be_any_value_and_waits_for_no_device(tmp_path: Path, make: Make) -> None:
    with make() as telemetry:
        telemetry.flight(1, {"loss": 1.0})
        telemetry.ship_flight({"loss": META})
    assert reasons(tmp_path) == ["`{'loss': tensor on meta of shape ()}`: steps 1 to 1"]


def test_a_burst_is_told_in_the_log(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), make() as telemetry:
        telemetry.flight(1, {"loss": math.nan})
        wait_for_burst(telemetry)
    assert "the flight recorder of run run ships: loss is nan at step 1" in caplog.text


class Unspeakable(Exception):
    """An exception that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no message")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("a\n b\tc\x1b[2J"), r"ValueError: a b c\x1b[2J"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (Unspeakable(), "Unspeakable"),
        (ValueError("\ud800"), r"ValueError: \ud800"),
        (ValueError("x" * 10**6), "ValueError: " + "x" * (REASON_MAX_CHARACTERS - 12)),
    ],
    ids=lambda case: type(case).__name__,
)
def test_the_reason_is_the_type_and_the_message_in_one_short_line(error: BaseException, reason: str) -> None:
    assert exception_reason(error) == reason
    assert len(one_line("\x00" * 10**6)) == REASON_MAX_CHARACTERS


@pytest.fixture
def entry(memory: Path) -> Iterator[Callable[[dict[str, float]], bytes]]:
    """Return a function that returns the bytes of an entry in a ring."""
    ring = RingMemory(memory, 10)

    def place(values: dict[str, float]) -> bytes:
        placed = ring.append(7, 1, encode_scalars(values))
        assert placed is not None
        return ring.read(placed)

    yield place
    ring.close()


def test_bytes_that_only_look_like_a_nan_are_none(entry: Callable[[dict[str, float]], bytes]) -> None:
    """The mantissa of a number may have any bytes, and a tag many."""
    lookalike = np.frombuffer(bytes.fromhex("3fcb7ff800000000"), ">f8")[0]
    data = entry({"loss": float(lookalike), "ok": 1.0})
    assert b"\xcb\x7f\xf8" in data
    assert FiniteWatch(3).look(data, 7) == ""
    assert FiniteWatch(3).look(entry({"ok": 1.0, "loss": math.nan}), 7) == "loss is nan at step 7"


def test_an_entry_that_was_overwritten_is_not_judged(entry: Callable[[dict[str, float]], bytes]) -> None:
    data = entry({"loss": math.nan})
    assert FiniteWatch(3).look(data[:-1] + b"x", 7) == ""


def test_the_watch_waits_for_as_many_finite_steps_as_are_kept(entry: Callable[[dict[str, float]], bytes]) -> None:
    good, bad = entry({"loss": 1.0}), entry({"loss": math.inf})
    watch = FiniteWatch(3)
    looks = [(1, bad), (2, bad), (3, good), (4, good), (4, good), (5, bad), (6, good), (7, good), (8, good), (9, bad)]
    shipped = [step for step, data in looks if watch.look(data, step)]
    assert shipped == [1, 9]
