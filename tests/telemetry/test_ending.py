"""The end of telemetries: once each, together at the end of the process, with the status that the program had."""

import sys
from collections.abc import Iterator

import pytest

from tensorboard_sidecar.telemetry import ending as ending_module
from tensorboard_sidecar.telemetry.calls import Faults
from tensorboard_sidecar.telemetry.ending import Ending, Status


class Closing:
    """Notes the halves of its close in ``calls``; ``error`` is raised by the first half."""

    def __init__(self, name: str, calls: list[str], error: BaseException | None = None) -> None:
        self.faults = Faults(strict=False)
        self._name, self._calls, self._error = name, calls, error
        self.ending = Ending(self.faults, self._begin, self._finish)

    def _begin(self, status: Status, deadline_seconds: float | None) -> None:
        self._calls.append(f"begin {self._name} {status} {deadline_seconds}")
        if self._error is not None:
            raise self._error

    def _finish(self) -> None:
        self._calls.append(f"finish {self._name}")


@pytest.fixture(autouse=True)
def none_open(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(ending_module, "_OPEN", {})
    monkeypatch.delattr(sys, "last_value", raising=False)
    return


def test_a_close_begins_and_finishes_once() -> None:
    calls: list[str] = []
    closing = Closing("a", calls)
    closing.ending.close("failed", 3.0)
    closing.ending.close("completed", None)
    assert calls == ["begin a failed 3.0", "finish a", "finish a"]
    ending_module._close_all()
    assert len(calls) == 3, "what is closed is not closed again at the end of the process"


def test_the_end_of_the_process_begins_every_close_before_it_waits_for_one() -> None:
    calls: list[str] = []
    held = [Closing(name, calls) for name in "abc"]
    ending_module._close_all()
    assert calls[:3] == [f"begin {name} exited None" for name in "abc"]
    assert sorted(calls[3:]) == [f"finish {name}" for name in "abc"]
    assert sum(closing.faults.total for closing in held) == 0
    assert all(closing.ending.for_good for closing in held)


def test_an_uncaught_exception_is_the_status_at_the_end_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    held = Closing("a", calls)
    monkeypatch.setattr(sys, "last_value", ValueError(), raising=False)
    ending_module._close_all()
    assert calls[0] == "begin a failed None"
    assert not held.faults.total


def test_one_that_cannot_close_costs_no_other() -> None:
    calls: list[str] = []
    held = [Closing("a", calls, OSError("no disk")), Closing("b", calls)]
    ending_module._close_all()
    assert len(calls) == 4
    assert [closing.faults.total for closing in held] == [1, 0]


def test_an_interrupt_still_waits_for_those_that_began() -> None:
    calls: list[str] = []
    held = [Closing("a", calls), Closing("b", calls, KeyboardInterrupt()), Closing("c", calls)]
    with pytest.raises(KeyboardInterrupt):
        ending_module._close_all()
    assert calls[2:] == ["finish b", "finish a"]
    assert held[2].faults.total == 0
