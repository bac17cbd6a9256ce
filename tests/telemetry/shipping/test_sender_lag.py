"""Lag is the age of the oldest record that is not acknowledged, whatever the number of records."""

from hypothesis import given
from hypothesis import strategies as st

from tensorboard_sidecar.telemetry.shipping.sender import LagMeter


def test_nothing_unacknowledged_is_no_lag() -> None:
    meter = LagMeter()
    assert meter.update(10.0, 1, 1) == 0.0
    assert meter.update(20.0, 5, 5) == 0.0


def test_lag_grows_while_nothing_is_acknowledged() -> None:
    meter = LagMeter()
    assert meter.update(10.0, 3, 1) == 0.0
    assert meter.update(12.0, 3, 1) == 2.0
    assert meter.update(15.0, 9, 1) == 5.0


def test_lag_falls_to_the_age_of_what_is_left() -> None:
    meter = LagMeter()
    meter.update(10.0, 3, 1)
    meter.update(14.0, 9, 1)
    assert meter.update(15.0, 9, 3) == 1.0
    assert meter.update(15.0, 9, 4) == 1.0
    assert meter.update(16.0, 9, 9) == 0.0


def test_many_marks_are_kept_coarsely_and_in_bounded_memory() -> None:
    meter = LagMeter()
    for second in range(100_000):
        assert meter.update(float(second), second + 2, 1) == second
    assert len(meter._marks) <= 1025
    for acked in range(1, 100_002, 777):
        age = 100_000 - (acked - 1)
        assert 0 <= meter.update(100_000.0, 100_002, acked) - age <= 400, acked
    assert meter.update(100_000.0, 100_002, 100_002) == 0.0


@given(steps=st.lists(st.tuples(st.floats(0, 5), st.integers(0, 5), st.integers(0, 9)), max_size=60))
def test_lag_is_that_of_the_oldest_unacknowledged_record(steps: list[tuple[float, int, int]]) -> None:
    meter = LagMeter()
    now, acked, given_at = 0.0, 1, [0.0]  # when each number was first seen given out; there is no number 0
    for seconds, produced, acknowledged in steps:
        now += seconds
        given_at += [now] * produced
        acked = min(len(given_at), acked + acknowledged)
        expected = now - given_at[acked] if acked < len(given_at) else 0.0
        assert meter.update(now, len(given_at), acked) == expected
