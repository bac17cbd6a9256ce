"""The metrics page, read back with the parser of the Prometheus library."""

from dataclasses import fields

from prometheus_client.parser import text_string_to_metric_families

from tensorboard_sidecar.logger_service.access.connection_monitor import ConnectionCounts
from tensorboard_sidecar.logger_service.counters import Durations
from tensorboard_sidecar.logger_service.folders.low_water import DiskSpace
from tensorboard_sidecar.logger_service.hooks.queue import HookCounts
from tensorboard_sidecar.logger_service.intake.open_streams import IntakeCounts
from tensorboard_sidecar.logger_service.monitoring.health import render_metrics
from tensorboard_sidecar.logger_service.monitoring.status import STALE_SECONDS, RunLag, Status
from tensorboard_sidecar.logger_service.projection.report import ProjectionCounts


def read(status: Status, now_seconds: float = 0.0) -> dict[tuple[str, ...], float]:
    """Return samples by name and label values."""
    page = render_metrics(status, now_seconds).decode()
    return {
        (sample.name.removeprefix("tensorboard_sidecar_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


# Long: one table, read from top to bottom
def test_every_number_of_a_status_is_on_the_page() -> None:
    syncs = Durations()
    for seconds in (0.0005, 0.004, 0.004, 60.0):
        syncs.add(seconds)
    found = read(
        Status(
            at_seconds=0.0,
            received=IntakeCounts(records=5, record_bytes=500, hellos=2, holes=3, refused=4, journal_failures=6),
            connections=ConnectionCounts(accepted=30, ended=20, refused=9, hoarding=2, over_credit=1),
            sync_durations=syncs.counts(),
            streams=2,
            credit_held_back_bytes=77,
            disks={"recordings": DiskSpace(10, 100), "logdir": DiskSpace(20, 200)},
            adopted_outboxes=8,
            adopted_records=88,
            left_outboxes=1,
            projection=ProjectionCounts(records=4, drawing_failures=1, malformed=2),
            projection_failing=7,
            projection_restarts=3,
            findings={("loss-spike", "warn"): 2, ("diverging", "error"): 0},
            runs_silent=9,
            lags={"team/run": RunLag(12, 1.5)},
            lag_seconds_max=1.5,
        )
    )
    expected = {
        ("healthy",): 1.0,
        ("records_total",): 5.0,
        ("record_bytes_total",): 500.0,
        ("hellos_total",): 2.0,
        ("holes_total",): 3.0,
        ("refused_total",): 4.0,
        ("journal_failures_total",): 6.0,
        ("connections_refused_total",): 9.0,
        ("connections_accepted_total",): 30.0,
        ("connections_ended_total",): 20.0,
        ("connections_hoarding_total",): 2.0,
        ("connections_over_credit_total",): 1.0,
        ("fsync_seconds_bucket", "0.001"): 1.0,
        ("fsync_seconds_bucket", "0.005"): 3.0,
        ("fsync_seconds_bucket", "10.0"): 3.0,
        ("fsync_seconds_bucket", "+Inf"): 4.0,
        ("fsync_seconds_count",): 4.0,
        ("fsync_seconds_sum",): 60.0085,
        ("ack_seconds_count",): 0.0,
        ("streams",): 2.0,
        ("credit_held_back_bytes",): 77.0,
        ("disk_free_bytes", "recordings"): 10.0,
        ("disk_size_bytes", "logdir"): 200.0,
        ("adopted_outboxes_total",): 8.0,
        ("adopted_records_total",): 88.0,
        ("left_outboxes",): 1.0,
        ("projection_records_total",): 4.0,
        ("projection_drawing_failures_total",): 1.0,
        ("projection_malformed_total",): 2.0,
        ("projection_events_total",): 0.0,
        ("projection_failing",): 7.0,
        ("projection_restarts_total",): 3.0,
        ("findings_open", "loss-spike", "warn"): 2.0,
        ("findings_open", "diverging", "error"): 0.0,
        ("runs_silent",): 9.0,
        ("run_lag_records", "team/run"): 12.0,
        ("run_lag_seconds", "team/run"): 1.5,
        ("lag_seconds_max",): 1.5,
    }
    assert {name: found[name] for name in expected} == expected


def test_every_counter_of_the_intake_the_connections_and_the_projection_is_on_the_page() -> None:
    found = read(Status(at_seconds=0.0))
    for field in fields(IntakeCounts):
        assert (f"{field.name}_total",) in found
    for field in fields(ConnectionCounts):
        assert (f"connections_{field.name}_total",) in found
    for field in fields(ProjectionCounts):
        assert (f"projection_{field.name}_total",) in found


def test_an_unhealthy_logger_has_a_healthy_gauge_of_zero() -> None:
    assert read(Status(at_seconds=0.0, troubles=("the disk is full",)))["healthy",] == 0.0
    assert read(Status(at_seconds=0.0), now_seconds=STALE_SECONDS)["healthy",] == 0.0


def test_no_name_of_a_run_breaks_the_page() -> None:
    names = ['a"} 1\n', "back\\slash", "naïve/∆", 'x{y="z"}']
    found = read(Status(at_seconds=0.0, lags={name: RunLag(number, 0.0) for number, name in enumerate(names)}))
    assert [found["run_lag_records", name] for name in names] == [0.0, 1.0, 2.0, 3.0]


def test_each_hook_has_its_counters_and_without_hooks_the_help_is_there() -> None:
    hooks = {"command": HookCounts(delivered=3, failed=2, dropped=1), "url": HookCounts(delivered=7)}
    found = read(Status(at_seconds=0.0, hooks=hooks))
    assert {key: value for key, value in found.items() if key[0].startswith("hook_")} == {
        ("hook_delivered_total", "command"): 3.0,
        ("hook_failed_total", "command"): 2.0,
        ("hook_dropped_total", "command"): 1.0,
        ("hook_delivered_total", "url"): 7.0,
        ("hook_failed_total", "url"): 0.0,
        ("hook_dropped_total", "url"): 0.0,
    }
    assert b"# HELP tensorboard_sidecar_hook_delivered_total" in render_metrics(Status(at_seconds=0.0), 0.0)
