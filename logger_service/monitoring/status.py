"""What a logger says of itself: plain numbers of one moment, which other threads may read at leisure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tensorboard_sidecar.logger_service.access.connection_monitor import ConnectionCounts
from tensorboard_sidecar.logger_service.folders.disk_space import DiskSpace
from tensorboard_sidecar.logger_service.intake.counts import IntakeCounts
from tensorboard_sidecar.logger_service.intake.durations import BOUNDS_SECONDS, DurationCounts
from tensorboard_sidecar.logger_service.monitoring.run_lag import RunLag

# A status is made once a second; one that is older tells of a main loop that hangs, in a write to a dead disk perhaps.
STALE_SECONDS: Final = 10.0

_NONE: Final = DurationCounts((0,) * (len(BOUNDS_SECONDS) + 1), 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A logger at the steady time ``at``; ``troubles`` are for people, none when it is well."""

    at: float
    troubles: tuple[str, ...] = ()
    received: IntakeCounts = field(default_factory=IntakeCounts)
    connections: ConnectionCounts = field(default_factory=ConnectionCounts)
    ack_durations: DurationCounts = _NONE
    sync_durations: DurationCounts = _NONE
    streams: int = 0
    credit_held_back_bytes: int = 0
    disks: Mapping[str, DiskSpace] = field(default_factory=dict)
    """By ``recordings`` and ``logdir``; a disk that does not tell is left out."""
    adopted_outboxes: int = 0
    adopted_records: int = 0
    left_outboxes: int = 0
    projection: Mapping[str, int] = field(default_factory=dict)
    """By the names of ``logger_service.projection.counts.Counts``."""
    projection_failing: int = 0
    """Recordings that cannot be projected."""
    projection_restarts: int = 0
    lags: Mapping[str, RunLag] = field(default_factory=dict)
    """By run, as many as are shown."""
    lag_seconds_max: float = 0.0
    """Of all runs."""

    def reasons(self, now: float) -> list[str]:
        """Return what is not well at ``now``."""
        late_seconds = now - self.at
        stale = [f"the logger has not come round for {late_seconds:.0f} s"] if late_seconds >= STALE_SECONDS else []
        return [*stale, *self.troubles]
