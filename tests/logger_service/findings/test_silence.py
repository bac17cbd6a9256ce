"""A run is silent after ten of its steps without a record, and never before five minutes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorboard_sidecar.logger_service.findings.silence import GONE_SECONDS, SILENT_MIN_SECONDS, Silence

S = 10**9


def fed(*records: tuple[int, int]) -> Silence:
    silence = Silence()
    silence.add(records)
    return silence


def test_a_fast_run_is_silent_after_five_minutes() -> None:
    silence = fed(*((step, step * S // 10) for step in range(100)))
    assert silence.limit_seconds == SILENT_MIN_SECONDS
    assert [silence.is_silent(seconds) for seconds in (0.0, 299.9, 300.0, 3600.0)] == [False, False, True, True]


def test_a_slow_run_is_silent_after_ten_steps() -> None:
    silence = fed(*((step, step * 90 * S) for step in range(100)))
    assert [silence.is_silent(seconds) for seconds in (300.0, 899.0, 900.0)] == [False, False, True]


def test_a_run_of_one_record_is_silent_after_five_minutes() -> None:
    assert not fed((0, 0)).is_silent(299.0)
    assert fed((0, 0)).is_silent(300.0)
    assert Silence().is_silent(300.0)


def test_a_run_that_is_silent_for_a_day_is_gone() -> None:
    assert fed((0, 0)).is_silent(GONE_SECONDS - 1)
    assert not fed((0, 0)).is_silent(GONE_SECONDS)


def test_the_records_of_one_step_are_one_step() -> None:
    """Else the many records of an evaluation would hide that steps take long."""
    slow = [(step, step * 100 * S + part) for step in range(20) for part in range(30)]
    assert fed(*slow).limit_seconds == pytest.approx(1000.0)


def test_one_long_pause_among_many_steps_changes_nothing() -> None:
    steps = [(step, step * S + (3600 * S if step > 30 else 0)) for step in range(60)]
    assert fed(*steps).limit_seconds == SILENT_MIN_SECONDS


def test_the_last_steps_count() -> None:
    slow = [(step, step * 100 * S) for step in range(100)]
    fast = [(100 + step, 9900 * S + step * S) for step in range(100)]
    assert fed(*slow, *fast).limit_seconds == SILENT_MIN_SECONDS


@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**63 - 1))))
def test_any_steps_and_times_give_a_limit(records: list[tuple[int, int]]) -> None:
    silence = fed(*records)
    assert silence.limit_seconds >= SILENT_MIN_SECONDS
    assert not silence.is_silent(0.0)
    assert len(silence._seconds) <= 64
