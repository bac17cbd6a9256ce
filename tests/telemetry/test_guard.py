from typing import Any

import numpy as np
import pytest
import torch

from tensorboard_sidecar.telemetry.faults import Faults
from tensorboard_sidecar.telemetry.guard import telemetry_call
from tensorboard_sidecar.telemetry.step_cost import StepCost


class Facade:
    def __init__(self, *, strict: bool = False) -> None:
        self.faults, self.cost = Faults(strict=strict), StepCost()
        self.heard: list[Any] = []
        self.closed = False

    def check_open(self) -> None:
        if self.closed:
            raise RuntimeError("closed")

    @telemetry_call
    def say(self, step: int, word: str, *, loud: bool = False) -> None:
        """Say it."""
        if not word:
            raise ValueError("no word")
        self.heard.append((step, word, loud))


def test_a_call_is_passed_on_as_it_is() -> None:
    facade = Facade()
    facade.say(1, "a")
    facade.say(2, word="b", loud=True)
    facade.say(step=3, word="c")
    assert facade.heard == [(1, "a", False), (2, "b", True), (3, "c", False)]
    assert (Facade.say.__name__, Facade.say.__doc__) == ("say", "Say it.")


def test_a_step_is_an_int_for_whom_it_is_passed_to() -> None:
    """A tensor may be counted up in place by its owner, while others still hold it."""
    facade, step = Facade(), torch.tensor(3)
    facade.say(step, "a")  # type: ignore[arg-type]
    step += 1
    facade.say(step=np.int64(5), word="b")  # type: ignore[arg-type]
    assert [(heard[0], type(heard[0])) for heard in facade.heard] == [(3, int), (5, int)]


@pytest.mark.parametrize("step", [torch.zeros((), dtype=torch.int64, device="meta"), 0.5, None, "1", {"a": 1.0}])
def test_a_step_that_is_none_or_would_be_waited_for_is_named(step: Any, caplog: pytest.LogCaptureFixture) -> None:
    facade = Facade()
    facade.say(step, "a")
    facade.say(step=step, word="a")
    assert facade.faults.total == 2
    assert not facade.heard
    assert "telemetry.say: TypeError: step " in caplog.text


def test_a_call_is_counted_for_its_step() -> None:
    facade = Facade()
    for step in (1, 1, 2):
        facade.say(step, "a")
    facade.say(step=3, word="c")
    assert facade.cost.step == 3
    assert facade.cost.percentile_us(0) > 0


@pytest.mark.parametrize(("args", "kwargs"), [((1, ""), {}), ((), {}), ((1,), {}), ((1, "a", "b"), {}), ((), {"x": 1})])
def test_a_call_that_fails_is_a_fault_and_no_step(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    facade = Facade()
    facade.say(*args, **kwargs)
    assert facade.faults.total == 1
    assert facade.cost.step == -1


def test_a_call_that_comes_too_late_computes_nothing() -> None:
    facade = Facade()
    facade.closed = True
    facade.say(1, "a")
    assert facade.faults.total == 1
    assert facade.heard == []


def test_a_strict_call_raises() -> None:
    with pytest.raises(ValueError, match="no word"):
        Facade(strict=True).say(1, "")
