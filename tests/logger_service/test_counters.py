from dataclasses import dataclass

from tensorboard_sidecar.logger_service.counters import (
    BOUNDS_SECONDS,
    Counters,
    Durations,
    Number,
    counter,
    declared,
    gauge,
)


@dataclass(slots=True)
class Drawn(Counters):
    """Counters of a drawing program."""

    records: int = counter("records drawn")
    drawing_failures: int = counter("records that could not be drawn")


@dataclass(frozen=True, slots=True)
class Page:
    """A status with numbers and other fields."""

    at_seconds: float
    drawn: Drawn
    open_files: int = gauge("files that are open")


def test_only_counters_above_zero_are_in_the_text() -> None:
    assert str(Drawn(records=1_234, drawing_failures=1)) == "1,234 records, 1 drawing failures"
    assert str(Drawn()) == "nothing"


def test_counters_are_added_one_by_one() -> None:
    assert Drawn(records=2, drawing_failures=1) + Drawn(records=3) == Drawn(records=5, drawing_failures=1)


def test_the_declaration_is_found_with_the_value() -> None:
    assert list(declared(Drawn(records=2))) == [
        Number("records", "counter", "records drawn", 2),
        Number("drawing_failures", "counter", "records that could not be drawn", 0),
    ]


def test_fields_that_are_not_declared_as_numbers_are_passed_over() -> None:
    assert list(declared(Page(1.0, Drawn(), open_files=7))) == [Number("open_files", "gauge", "files that are open", 7)]


def test_each_duration_is_counted_in_its_bucket() -> None:
    durations = Durations()
    for seconds in (0.0, 0.001, 0.0011, 10.0, 11.0, 1e9):
        durations.add(seconds)
    counts = durations.counts()
    assert len(counts.buckets) == len(BOUNDS_SECONDS) + 1
    assert (counts.buckets[0], counts.buckets[1], counts.buckets[-2], counts.buckets[-1]) == (2, 1, 1, 2)
    assert sum(counts.buckets) == 6
    assert counts.sum_seconds == 0.0 + 0.001 + 0.0011 + 10.0 + 11.0 + 1e9


def test_a_snapshot_does_not_change() -> None:
    durations = Durations()
    counts = durations.counts()
    durations.add(1.0)
    assert sum(counts.buckets) == 0
