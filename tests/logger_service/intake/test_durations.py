from tensorboard_sidecar.logger_service.intake.durations import BOUNDS_SECONDS, Durations


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
