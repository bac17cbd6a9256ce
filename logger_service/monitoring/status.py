"""The state of a logger at one moment. A status never changes: any thread may read a status."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tensorboard_sidecar.logger_service.access.connection_monitor import ConnectionCounts
from tensorboard_sidecar.logger_service.counters import counter, gauge
from tensorboard_sidecar.logger_service.folders.disk_space import DiskSpace
from tensorboard_sidecar.logger_service.intake.counts import IntakeCounts
from tensorboard_sidecar.logger_service.intake.durations import DurationCounts
from tensorboard_sidecar.logger_service.monitoring.run_lag import RunLag
from tensorboard_sidecar.logger_service.projection.report import ProjectionCounts

# The main loop makes a status each second. An older status means that the loop hangs, perhaps in a write to a disk.
STALE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A logger at the monotonic time ``at_seconds``. Counters and gauges appear on the metrics page by their names."""

    at_seconds: float
    troubles: tuple[str, ...] = ()
    """Sentences for people; none when the logger is healthy."""
    received: IntakeCounts = field(default_factory=IntakeCounts)
    connections: ConnectionCounts = field(default_factory=ConnectionCounts)
    ack_durations: DurationCounts = field(default_factory=DurationCounts)
    sync_durations: DurationCounts = field(default_factory=DurationCounts)
    streams: int = gauge("streams that are open")
    credit_held_back_bytes: int = gauge("bytes that trainers are asked to keep for now")
    disks: Mapping[str, DiskSpace] = field(default_factory=dict)
    """By ``recordings`` and ``logdir``, without a disk that does not report its size."""
    adopted_outboxes: int = counter("outboxes of ended trainers, adopted by this logger")
    adopted_records: int = counter("records in the adopted outboxes")
    left_outboxes: int = gauge("outboxes that cannot be adopted")
    projection: ProjectionCounts = field(default_factory=ProjectionCounts)
    projection_failing: int = gauge("recordings that cannot be projected")
    projection_restarts: int = counter("times the projection ended and was started again")
    lags: Mapping[str, RunLag] = field(default_factory=dict)
    """By run, the largest lags only."""
    lag_seconds_max: float = gauge("age of the oldest unprojected record of all runs")

    def reasons(self, now_seconds: float) -> list[str]:
        """Return why the logger is unhealthy; empty when it is healthy."""
        late_seconds = now_seconds - self.at_seconds
        stale = (
            [f"the main loop of the logger has not run for {late_seconds:.0f} s"]
            if late_seconds >= STALE_SECONDS
            else []
        )
        return [*stale, *self.troubles]
