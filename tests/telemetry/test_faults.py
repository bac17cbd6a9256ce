import logging
from typing import Any

import pytest

from tensorboard_sidecar.telemetry.faults import Faults


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
