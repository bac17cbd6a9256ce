from tensorboard_sidecar.logger_service.monitoring.run_lag import STREAMS_MAX, RunLag, RunLags

A, B = b"a" * 16, b"b" * 16


def test_a_run_lags_by_what_is_committed_and_not_projected() -> None:
    lags = RunLags()
    lags.committed(A, "run", 11, 100.0)
    lags.committed(A, "run", 21, 103.0)
    assert lags.lags({}, 105.0) == {"run": RunLag(20, 5.0)}
    assert lags.lags({A: 5}, 105.0) == {"run": RunLag(16, 5.0)}
    assert lags.lags({A: 11}, 105.0) == {"run": RunLag(10, 2.0)}
    assert lags.lags({A: 21}, 105.0) == {"run": RunLag(0, 0.0)}
    lags.committed(A, "run", 22, 110.0)
    assert lags.lags({A: 21}, 111.0) == {"run": RunLag(1, 1.0)}


def test_the_lags_of_the_streams_of_a_run_are_added() -> None:
    lags = RunLags()
    lags.committed(A, "run", 11, 100.0)
    lags.committed(B, "run", 6, 102.0)
    assert lags.lags({A: 1, B: 2}, 103.0) == {"run": RunLag(14, 3.0)}
    assert lags.lags({A: 11, B: 2}, 103.0) == {"run": RunLag(4, 1.0)}


def test_a_long_lag_costs_no_memory_and_is_never_reported_too_small() -> None:
    lags = RunLags()
    for commit in range(10_000):
        lags.committed(A, "run", commit + 2, float(commit))
    assert len(lags._streams[A].marks) < 64
    assert lags.lags({}, 10_000.0) == {"run": RunLag(10_000, 10_000.0)}
    for projected in (2, 5_000, 9_999):
        (lag,) = lags.lags({A: projected}, 10_000.0).values()
        waited_seconds = 10_000.0 - (projected - 1)
        assert lag.records == 10_001 - projected
        assert waited_seconds <= lag.seconds <= 10_000.0


def test_streams_are_remembered_up_to_a_bound() -> None:
    lags = RunLags()
    for number in range(STREAMS_MAX + 10):
        lags.committed(number.to_bytes(16, "big"), f"run{number}", 2, 0.0)
    told = lags.lags({}, 1.0)
    assert len(told) == STREAMS_MAX
    assert "run9" not in told
    assert "run10" in told
