from tensorboard_sidecar.logger_service.monitoring.status import STALE_SECONDS, Status


def test_an_old_status_is_a_trouble() -> None:
    assert Status(at_seconds=100.0).reasons(100.0 + STALE_SECONDS - 0.1) == []
    status = Status(at_seconds=100.0, troubles=("the disk is full",))
    assert status.reasons(101.0) == ["the disk is full"]
    assert status.reasons(100.0 + STALE_SECONDS) == [
        "the main loop of the logger has not run for 10 s",
        "the disk is full",
    ]
