"""What surrounds a call of telemetry: its errors become faults, and its time is measured."""

import logging
from typing import Any

import numpy as np
import pytest
import torch

from tensorboard_sidecar.telemetry.calls import Faults, StepCost, telemetry_call


def test_a_fault_is_counted_always_and_logged_once_for_each_call_and_kind(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults(strict=False)
    for _ in range(3):
        faults.note("telemetry.text", ValueError("bad"))
        faults.note("telemetry.text", TypeError("worse"))
        faults.note("telemetry.matrix", ValueError("bad"))
    assert faults.total == 9
    assert [record.message.split(" (logged")[0] for record in caplog.records] == [
        "telemetry.text: ValueError: bad",
        "telemetry.text: TypeError: worse",
        "telemetry.matrix: ValueError: bad",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_one_bad_value_of_several_is_a_fault_that_names_its_tag(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults(strict=False)
    kept = faults.convert_each("telemetry.scalars", {"a": "1", "b": None, None: "2", 5.0: "3", "c": "4"}, float)
    assert kept == {"a": 1.0, "c": 4.0}
    assert faults.total == 3
    assert [record.getMessage().split(";")[0].split(" (logged")[0][:60] for record in caplog.records] == [
        "telemetry.scalars: BadValue: 'b' is not kept: float() argume",
        "telemetry.scalars: BadValue: None is not kept: a tag is a No",
    ], "once for each kind of error"


def test_a_tag_that_raises_costs_its_value_only() -> None:
    class Tag:
        def __repr__(self) -> str:
            raise RuntimeError

    faults = Faults(strict=False)
    assert faults.convert_each("telemetry.scalars", {Tag(): "1", "a": "2"}, float) == {"a": 2.0}  # type: ignore[dict-item]
    assert faults.total == 1


def test_a_tag_that_cannot_be_shown_keeps_its_value_and_is_told_once_for_each_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    faults = Faults(strict=True)
    values = {"a\nb": 1, "": 2, " ": 3, "untitled": 4, 5: 6, "5": 7, "c": 8}
    for _ in range(2):
        kept = faults.convert_each("telemetry.scalars", values, float)
        assert kept == {
            "a\N{SYMBOL FOR LINE FEED}b": 1.0,
            "untitled": 2.0,
            "untitled (2)": 3.0,
            "untitled (4)": 4.0,
            "5": 6.0,
            "5 (2)": 7.0,
            "c": 8.0,
        }
    assert faults.shown_tag("telemetry.text", "a\nb") == faults.shown_tag("telemetry.text", "a\nb")
    assert [record.getMessage() for record in caplog.records] == [
        "telemetry.scalars: tag 'a\\nb' is shown as 'a\N{SYMBOL FOR LINE FEED}b' (logged once)",
        "telemetry.text: tag 'a\\nb' is shown as 'a\N{SYMBOL FOR LINE FEED}b' (logged once)",
    ]
    assert faults.total == 0


def test_parameters_that_are_left_out_are_one_fault_with_their_names(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults(strict=False)
    for _ in range(2):
        settings = {"a": object(), "b": object(), "c": [1], "d": "x" * 5000}
        kept = faults.parameters("config", settings)
        assert (kept["c"], len(str(kept["d"])), len(kept)) == ("[1]", 4096, 2)
    assert faults.total == 2
    cut, left_out = [record.getMessage() for record in caplog.records]
    assert cut == "config: parameters are shown in another form: d (is cut) (logged once)"
    assert "left out: a (is a object without a text), b (is a object without a text)" in left_out


@pytest.mark.parametrize("values", [None, [1.0], "ab", {1.0}])
def test_values_without_tags_are_no_values(values: Any) -> None:
    with pytest.raises(TypeError, match="expected values by tag"):
        Faults(strict=False).convert_each("telemetry.scalars", values, float)


def test_the_end_says_how_many_faults_there_were(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults(strict=False)
    faults.log_total("run")
    assert not caplog.records
    for _ in range(3):
        faults.note("telemetry.text", ValueError("bad"))
    faults.log_total("run")
    assert "run run: 3 calls or values were not kept" in caplog.records[-1].getMessage()


def test_a_strict_fault_is_raised_as_it_is() -> None:
    faults, error = Faults(strict=True), ValueError("bad")
    with pytest.raises(ValueError, match="bad") as raised:
        faults.note("telemetry.text", error)
    assert raised.value is error
    assert faults.total == 1


def test_a_long_message_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    Faults(strict=False).note("telemetry.text", ValueError("x" * 10_000))
    assert len(caplog.records[0].getMessage()) < 700


def test_calls_of_a_step_are_summed_and_the_running_step_is_not_counted() -> None:
    cost = StepCost()
    assert (cost.step, cost.percentile_us(50)) == (-1, 0.0)
    cost.add(0, 1_000)
    cost.add(0, 2_000)
    assert cost.percentile_us(50) == 0.0
    cost.add(1, 9_000)
    assert cost.percentile_us(50) == cost.percentile_us(99) == 3.0
    assert cost.step == 1


@pytest.mark.parametrize(("percent", "expected"), [(0, 1.0), (50, 51.0), (99, 100.0), (100, 100.0)])
def test_percentiles_are_nearest_ranks(percent: float, expected: float) -> None:
    cost = StepCost()
    for step in range(101):
        cost.add(step, (step + 1) * 1_000)
    assert cost.percentile_us(percent) == expected


def test_only_the_last_steps_count() -> None:
    cost = StepCost()
    for step in range(3000):
        cost.add(step, 1_000_000 if step < 1500 else 1_000)
    assert cost.percentile_us(100) == 1.0


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


def test_the_highest_step_is_remembered() -> None:
    cost = StepCost()
    assert cost.highest_step == -1
    for step in (3, 7, 7, 0, 5):
        cost.add(step, 1_000)
    assert (cost.step, cost.highest_step) == (5, 7)


def test_quiet_faults_are_none(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing that a telemetry which is not enabled is given can be wrong, not even with ``strict``."""
    faults = Faults(strict=True, quiet=True)
    faults.note("telemetry.text", ValueError("bad"))
    faults.tell("telemetry.text", "tag", "changed")
    assert faults.convert_each("telemetry.scalars", {"a": "1", "b": None}, float) == {"a": 1.0}
    assert faults.total == 0
    assert caplog.records == []
