from tensorboard_sidecar.logger_service.monitoring.status import STALE_SECONDS, Status


def test_a_status_that_is_not_made_anew_is_a_trouble_of_its_own() -> None:
    assert Status(at_seconds=100.0).reasons(100.0 + STALE_SECONDS - 0.1) == []
    status = Status(at_seconds=100.0, troubles=("the disk is full",))
    assert status.reasons(101.0) == ["the disk is full"]
    assert status.reasons(100.0 + STALE_SECONDS) == [
        "the main loop of the logger has not run for 10 s",
        "the disk is full",
    ]
