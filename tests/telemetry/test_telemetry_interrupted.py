"""Calls made where nobody expects them: in a signal handler, in a finalizer, in the middle of another call."""

import concurrent.futures.thread
import gc
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any, Final

import pytest
import torch
from support.machine.boundaries import Boundaries
from support.machine.slow_device import SlowDevice
from support.running.spoken import read_said
from torch import Tensor

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.protocol.messages import RunEnd, RunStart, Scalars, TensorSummaries, Text
from tensorboard_sidecar.telemetry import pipeline
from tensorboard_sidecar.telemetry.telemetry import DRAIN_SECONDS

META: Final = torch.zeros((), device="meta")
SIGNALS: Final = 100
TOO_MANY: Final = 1000


@pytest.fixture
def ticking() -> Iterator[list[Any]]:
    """Return a list of calls that a signal handler makes repeatedly."""
    calls: list[Any] = []

    def handle(_number: int, _frame: FrameType | None) -> None:
        for call in calls:
            call()

    previous = signal.signal(signal.SIGVTALRM, handle)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.0005, 0.0005)
    yield calls
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, previous)


def test_a_signal_handler_can_log(tmp_path: Path, ticking: list[Any]) -> None:
    """As many do on SIGUSR1, to say that a checkpoint was asked for."""
    handled = 0

    def say() -> None:
        nonlocal handled
        if handled < SIGNALS:
            handled += 1
            telemetry.text(handled, "signal", "a checkpoint was asked for")

    with Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry:
        ticking.append(say)
        deadline, steps = monotonic() + 60, 0
        while handled < SIGNALS and monotonic() < deadline:
            telemetry.scalars(steps, {"a": 1.0})
            steps += 1
        ticking.clear()
    said = read_said(tmp_path)
    assert handled == SIGNALS
    assert sorted(one.step for one in said if isinstance(one.message, Text)) == list(range(1, SIGNALS + 1))
    assert [one.step for one in said if isinstance(one.message, Scalars)] == list(range(steps))


def scalars(telemetry: Telemetry) -> None:
    telemetry.scalars(1, {"a": 1.0})


def add_scalar(telemetry: Telemetry) -> None:
    telemetry.writer.add_scalar("a", 1.0, 1)


@pytest.mark.parametrize(("call", "boundaries_min"), [(scalars, 30), (add_scalar, 15)])
def test_a_handler_that_closes_and_exits_ends_the_run(
    tmp_path: Path, call: Callable[[Telemetry], None], boundaries_min: int
) -> None:
    """As on SIGTERM at any point: the handler does not wait for the interrupted call, and the run ends with RunEnd."""

    def act() -> None:
        telemetry.close(status="interrupted")
        sys.exit()

    for number in range(1, TOO_MANY, 3):
        record = tmp_path / str(number)
        telemetry = Telemetry("run", endpoint=None, record=record)
        for _ in range(2):  # the tag is known: ``add_scalar`` takes the short path
            call(telemetry)
        boundaries = Boundaries(number, act)
        before = monotonic()
        try:
            boundaries.run(lambda: call(telemetry))  # noqa: B023 - run here
        except SystemExit:
            assert monotonic() - before < DRAIN_SECONDS
        else:
            assert not boundaries.reached, "the exit goes on through the call"
        said = [one.message for one in read_said(record)] if boundaries.reached else []
        telemetry.close()
        if not boundaries.reached:
            assert number > boundaries_min
            return
        assert said[0] == RunStart(0, {})
        assert said[-1] == RunEnd("interrupted")
        assert len(said) in (4, 5)
    raise AssertionError("the call has no end")


def test_a_handler_can_log_and_close_in_the_middle_of_summaries(tmp_path: Path) -> None:
    """The threads that count have locks, the standard library's, which a handler must not wait for."""
    tensors = {f"weights/{number}": torch.ones(9000) for number in range(3)}

    def act() -> None:
        telemetry.summaries(2, tensors)
        telemetry.close(status="interrupted")

    for number in range(1, TOO_MANY, 3):
        record = tmp_path / str(number)
        telemetry = Telemetry("run", endpoint=None, record=record)
        boundaries = Boundaries(number, act, within=(concurrent.futures.thread.__file__, threading.__file__))
        boundaries.run(lambda: telemetry.summaries(1, tensors))  # noqa: B023 - run here
        telemetry.close()
        if not boundaries.reached:
            assert number > 30
            return
        assert [type(one.message) for one in read_said(record)] == [RunStart, TensorSummaries, RunEnd]
        assert telemetry.faults.total == 1, "the call below came too late"
    raise AssertionError("the call has no end")


@pytest.mark.parametrize("call", [scalars, add_scalar])
def test_a_finalizer_can_log_wherever_the_collector_comes(tmp_path: Path, call: Callable[[Telemetry], None]) -> None:
    class Dropped:
        def __init__(self) -> None:
            self.myself = self

        def __del__(self) -> None:
            telemetry.text(1, "dropped", "by the collector")

    calls = 0
    gc.disable()
    gc.freeze()  # a collection looks at the objects of this test only, not at the millions of torch and of pytest
    try:
        with Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry:
            call(telemetry)
            for number in range(1, TOO_MANY, 3):
                calls += 1
                Dropped()
                boundaries = Boundaries(number, gc.collect)
                boundaries.run(lambda: call(telemetry))
                if not boundaries.reached:
                    break
            gc.collect()
    finally:
        gc.unfreeze()
        gc.enable()
    assert calls > 10
    kinds = [type(one.message) for one in read_said(tmp_path)]
    assert kinds.count(Text) == kinds.count(Scalars) - 1 == calls


def test_ctrl_c_anywhere_in_a_call_with_device_values_holds_nothing_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unfilled slot would block all later records forever, and notebooks go on after Ctrl-C."""
    device = SlowDevice()

    def start_copy(tensor: Tensor) -> object:
        copy = device.start_copy(tensor)
        device.copies[-1].arrive()
        return copy

    def act() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "start_copy", start_copy)
    telemetry = Telemetry("run", endpoint=None, record=tmp_path, strict=True)
    for number in range(1, TOO_MANY):
        boundaries = Boundaries(number, act)
        try:
            boundaries.run(lambda: telemetry.scalars(1, {"a": META}))
        except KeyboardInterrupt:
            continue
        break
    assert number > 100
    telemetry.scalars(2, {"a": 5.0})
    telemetry.close(60.0)
    said = [one.message for one in read_said(tmp_path)]
    assert said[-2:] == [Scalars({"a": 5.0}), RunEnd("completed")]
