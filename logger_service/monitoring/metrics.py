"""A logger's status in the text format that Prometheus reads (prometheus.io/docs/instrumenting/exposition_formats)."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from tensorboard_sidecar.logger_service.intake.durations import BOUNDS_SECONDS, DurationCounts
from tensorboard_sidecar.logger_service.monitoring.status import Status
from tensorboard_sidecar.logger_service.projection.counts import Counts

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX: Final = "tensorboard_sidecar"

_RECEIVED: Final = {
    "records": "records written to the journal",
    "record_bytes": "bytes of these records",
    "hellos": "streams opened, or opened again",
    "holes": "batches that came out of order and were asked for again",
    "refused": "messages refused",
    "journal_failures": "writes and syncs of the journal that failed; nothing of them was acknowledged",
}
_CONNECTIONS: Final = {
    "accepted": "connections begun",
    "ended": "connections ended, by whomever; also those that ZeroMQ cut for a frame that was too large",
    "refused": "connections refused before their first message",
    "crowded_out": "connections cut to make room for others",
    "hoarding": "connections cut because too much had come over them that was not taken, or a message without an end",
    "over_credit": "connections cut because more came over them than their credit allows",
}
_PROJECTED: Final = {
    "records": "records projected to event files",
    "events": "events written",
    "event_bytes": "bytes of these events",
    "unknown_kinds": "records of kinds that this logger does not know",
    "malformed": "records whose body is corrupt",
    "drawings": "records whose pictures were drawn",
    "drawing_failures": "records that could not be drawn",
    "gaps": "gaps in what trainers sent",
    "missing_records": "records that these gaps stand for",
    "damages": "damaged places in recordings",
    "stream_failures": "times a recording could not be projected",
}


def render_metrics(status: Status, now: float) -> bytes:
    """Return the page at ``now``, a steady time in seconds."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Page(status, now))
    return generate_latest(registry)


class _Page(Collector):
    def __init__(self, status: Status, now: float) -> None:
        self._status, self._now = status, now

    def collect(self) -> Iterable[Metric]:
        status = self._status
        yield _gauge("healthy", "1 when /healthz says 200", float(not status.reasons(self._now)))
        received = asdict(status.received)
        yield from (_counter(name, help_, received[name]) for name, help_ in _RECEIVED.items())
        connections = asdict(status.connections)
        yield from (_counter(f"connections_{name}", help_, connections[name]) for name, help_ in _CONNECTIONS.items())
        yield _histogram("ack_seconds", "time from a batch's arrival to its acknowledgement", status.ack_durations)
        yield _histogram("fsync_seconds", "time of an fdatasync of the journal", status.sync_durations)
        yield _gauge("streams", "streams that are open", status.streams)
        yield _gauge(
            "credit_held_back_bytes", "bytes that trainers are asked to keep for now", status.credit_held_back_bytes
        )
        yield from _disks(status)
        yield _counter("adopted_outboxes", "outboxes of trainers that are gone, adopted", status.adopted_outboxes)
        yield _counter("adopted_records", "records that were in them", status.adopted_records)
        yield _gauge("left_outboxes", "outboxes that cannot be adopted", status.left_outboxes)
        yield from _projection(status)
        yield from _lags(status)


def _projection(status: Status) -> Iterator[Metric]:
    for name in (field.name for field in fields(Counts)):
        yield _counter(f"projection_{name}", _PROJECTED[name], status.projection.get(name, 0))
    yield _gauge("projection_failing", "recordings that cannot be projected", status.projection_failing)
    yield _counter(
        "projection_restarts", "times the projection ended and was started again", status.projection_restarts
    )


def _disks(status: Status) -> Iterator[Metric]:
    disks = status.disks
    yield _by(
        "disk_free_bytes",
        "free on the disk of a folder",
        "folder",
        {folder: space.free_bytes for folder, space in disks.items()},
    )
    yield _by(
        "disk_size_bytes",
        "size of the disk of a folder",
        "folder",
        {folder: space.total_bytes for folder, space in disks.items()},
    )


def _lags(status: Status) -> Iterator[Metric]:
    lags = status.lags
    yield _by(
        "run_lag_records",
        "records of a run that are not in its event files yet",
        "run",
        {run: lag.records for run, lag in lags.items()},
    )
    yield _by(
        "run_lag_seconds",
        "how long the oldest of them has waited",
        "run",
        {run: lag.seconds for run, lag in lags.items()},
    )
    yield _gauge("lag_seconds_max", "the same, of the run that waits longest", status.lag_seconds_max)


def _counter(name: str, help_: str, value: float) -> Metric:
    return CounterMetricFamily(f"{_PREFIX}_{name}", help_, value=value)


def _gauge(name: str, help_: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", help_, value=value)


def _by(name: str, help_: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"{_PREFIX}_{name}", help_, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _histogram(name: str, help_: str, counts: DurationCounts) -> Metric:
    bounds = [*(str(bound) for bound in BOUNDS_SECONDS), "+Inf"]
    buckets = list(zip(bounds, accumulate(counts.buckets), strict=True))
    return HistogramMetricFamily(f"{_PREFIX}_{name}", help_, buckets=buckets, sum_value=counts.sum_seconds)
