"""A status in the text format of Prometheus (prometheus.io/docs/instrumenting/exposition_formats)."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from tensorboard_sidecar.logger_service.counters import BOUNDS_SECONDS, DurationCounts, declared
from tensorboard_sidecar.logger_service.monitoring.status import Status

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX: Final = "tensorboard_sidecar_"


def render_metrics(status: Status, now_seconds: float) -> bytes:
    """Return the page. ``now_seconds`` is a time of the same clock as the status."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Page(status, now_seconds))
    return generate_latest(registry)


class _Page(Collector):
    def __init__(self, status: Status, now_seconds: float) -> None:
        self._status, self._now_seconds = status, now_seconds

    def collect(self) -> Iterable[Metric]:
        status = self._status
        healthy = float(not status.reasons(self._now_seconds))
        yield GaugeMetricFamily(f"{_PREFIX}healthy", "1 when /healthz answers 200", value=healthy)
        yield from _declared("", status.received)
        yield from _declared("connections_", status.connections)
        yield _histogram("ack_seconds", "time from a batch's arrival to its acknowledgement", status.ack_durations)
        yield _histogram("fsync_seconds", "time of an fdatasync of the journal", status.sync_durations)
        yield from _declared("", status)
        yield from _declared("projection_", status.projection)
        disks, lags = status.disks, status.lags
        free_bytes = {folder: space.free_bytes for folder, space in disks.items()}
        yield _by("disk_free_bytes", "free space on the disk of a folder", "folder", free_bytes)
        size_bytes = {folder: space.total_bytes for folder, space in disks.items()}
        yield _by("disk_size_bytes", "size of the disk of a folder", "folder", size_bytes)
        records = {run: lag.records for run, lag in lags.items()}
        yield _by("run_lag_records", "records of a run that are not in its event files yet", "run", records)
        seconds = {run: lag.seconds for run, lag in lags.items()}
        yield _by("run_lag_seconds", "age of the oldest of these records", "run", seconds)


def _declared(prefix: str, numbers: Any) -> Iterator[Metric]:
    """Yield the counters and gauges that a dataclass declares."""
    for name, kind, help_text, value in declared(numbers):
        family = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
        yield family(f"{_PREFIX}{prefix}{name}", help_text, value=value)


def _by(name: str, help_text: str, label: str, values: Mapping[str, float]) -> Metric:
    """Return a gauge with one value for each value of a label."""
    family = GaugeMetricFamily(_PREFIX + name, help_text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _histogram(name: str, help_text: str, counts: DurationCounts) -> Metric:
    bounds = [*(str(bound) for bound in BOUNDS_SECONDS), "+Inf"]
    buckets = list(zip(bounds, accumulate(counts.buckets), strict=True))
    return HistogramMetricFamily(_PREFIX + name, help_text, buckets=buckets, sum_value=counts.sum_seconds)
