import logging

import pytest

from trainer.telemetry.faults import Faults


def test_a_fault_is_counted_always_and_said_once_for_each_call_and_kind(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults(strict=False)
    for _ in range(3):
        faults.note("telemetry.text", ValueError("bad"))
        faults.note("telemetry.text", TypeError("worse"))
        faults.note("telemetry.matrix", ValueError("bad"))
    assert faults.total == 9
    assert [record.message.split(" (said")[0] for record in caplog.records] == [
        "telemetry.text: ValueError: bad",
        "telemetry.text: TypeError: worse",
        "telemetry.matrix: ValueError: bad",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_a_strict_fault_is_raised_as_it_is() -> None:
    faults, error = Faults(strict=True), ValueError("bad")
    with pytest.raises(ValueError, match="bad") as raised:
        faults.note("telemetry.text", error)
    assert raised.value is error
    assert faults.total == 1


def test_a_long_message_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    Faults(strict=False).note("telemetry.text", ValueError("x" * 10_000))
    assert len(caplog.records[0].getMessage()) < 700
