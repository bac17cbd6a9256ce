from tensorboard_sidecar.logger_service.projection.counts import Counts


def test_only_what_happened_is_said() -> None:
    assert str(Counts(records=1_234, drawing_failures=1)) == "1,234 records, 1 drawing failures"
    assert str(Counts()) == "nothing"
