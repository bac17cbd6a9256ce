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
    kept = faults.convert_each("telemetry.scalars", {"a": "1", "b": None, "": "2", 5: "3", "c": "4"}, float)
    assert kept == {"a": 1.0, "c": 4.0}
    assert faults.total == 3
    assert [record.getMessage().split(";")[0].split(" (logged")[0][:60] for record in caplog.records] == [
        "telemetry.scalars: BadValue: 'b' is not kept: float() argume",
        "telemetry.scalars: BadValue: '' is not kept: a tag is empty",
    ], "once for each kind of error"


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
