"""The state of a logger at one moment, and its collection: once a second, in the thread of the main loop.

A status never changes: any thread may read a status. The collector does not touch the log directory: a file system that
hangs there must not hold up the journal. The projection reports the state of the log directory.

The lag of a run compares the commits of the journal with the positions of the projection. All times are of the logger's
monotonic clock: the age of a record is the time since its commit. The number of streams is bounded, and each stream
keeps a bounded number of marks. For a long lag, marks are merged, so the reported age is an upper bound.
"""

import os
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple

from tensorboard_sidecar.logger_service.access.connection_monitor import ConnectionCounts
from tensorboard_sidecar.logger_service.counters import DurationCounts, counter, gauge
from tensorboard_sidecar.logger_service.folders.low_water import DiskSpace
from tensorboard_sidecar.logger_service.hooks.hooks import Hooks
from tensorboard_sidecar.logger_service.hooks.queue import HookCounts
from tensorboard_sidecar.logger_service.intake.journal import Journal
from tensorboard_sidecar.logger_service.intake.open_streams import IntakeCounts
from tensorboard_sidecar.logger_service.intake.orphan_intake import OrphanIntake
from tensorboard_sidecar.logger_service.intake.receiver import Receiver
from tensorboard_sidecar.logger_service.limits import STREAMS_MAX
from tensorboard_sidecar.logger_service.projection.process import Supervisor
from tensorboard_sidecar.logger_service.projection.report import ProjectionCounts

# The main loop makes a status each second. An older status means that the loop hangs, perhaps in a write to a disk.
STALE_SECONDS: Final = 10.0
OBSERVE_SECONDS: Final = 1.0
# A status lists the largest lags, this many of them: Prometheus keeps a series for each run on the page.
RUNS_MAX: Final = 100
_MARKS_MAX: Final = 64


class RunLag(NamedTuple):
    """The committed and unprojected records of a run: their number, and the age of the oldest in seconds."""

    records: int
    seconds: float


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
    hooks: Mapping[str, HookCounts] = field(default_factory=dict)
    """By ``command`` and ``url``, those that there are."""
    findings: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """By rule and severity: the open findings of the runs that go on."""
    runs_silent: int = gauge("runs without a record for ten of their steps and five minutes, and without an end")
    lags: Mapping[str, RunLag] = field(default_factory=dict)
    """By run, the largest lags only."""
    lag_seconds_max: float = gauge("age of the oldest unprojected record of all runs")

    def reasons(self, now_seconds: float) -> list[str]:
        """Return why the logger is unhealthy; empty when it is healthy."""
        late_seconds = now_seconds - self.at_seconds
        if late_seconds < STALE_SECONDS:
            return [*self.troubles]
        return [f"the main loop of the logger has not run for {late_seconds:.0f} s", *self.troubles]


class RunLags:
    """Remembers the commits of each stream. LRU: at STREAMS_MAX, forget the stream without a commit for longest."""

    def __init__(self) -> None:
        # The run of a stream, and its marks (sequence, seconds): all records before the sequence are committed, since
        # the last mark not before this time.
        self._streams: OrderedDict[bytes, tuple[str, deque[tuple[int, float]]]] = OrderedDict()

    def committed(self, stream: bytes, run: str, sequence: int, now_seconds: float) -> None:
        """Note a commit of all records before ``sequence``."""
        _, marks = self._streams.setdefault(stream, (run, deque()))
        self._streams.move_to_end(stream)
        if len(self._streams) > STREAMS_MAX:
            self._streams.popitem(last=False)
        marks.append((sequence, now_seconds))
        if len(marks) >= _MARKS_MAX:
            pairs = [(marks[at + 1][0], marks[at][1]) for at in range(0, len(marks), 2)]
            marks.clear()
            marks.extend(pairs)

    def lags(self, positions: Mapping[bytes, int], now_seconds: float) -> dict[str, RunLag]:
        """Return the lag of each run. ``positions`` holds the sequence number that each stream projects next."""
        lags: dict[str, RunLag] = {}
        for stream, (run, marks) in self._streams.items():
            projected = positions.get(stream, 1)
            while marks and marks[0][0] <= projected:
                marks.popleft()
            records, seconds = (marks[-1][0] - projected, now_seconds - marks[0][1]) if marks else (0, 0.0)
            known = lags.get(run, RunLag(0, 0.0))
            lags[run] = RunLag(known.records + records, max(known.seconds, seconds))
        return lags


class Collector:
    """Observes ``recordings`` and the parts of a logger. All times are of one monotonic clock."""

    def __init__(
        self,
        recordings: Path,
        journal: Journal,
        receiver: Receiver,
        projection: Supervisor,
        orphans: OrphanIntake,
        hooks: Hooks,
    ) -> None:
        self._recordings, self._journal, self._receiver = recordings, journal, receiver
        self._projection, self._orphans, self._hooks = projection, orphans, hooks
        self._lags = RunLags()
        self._observe_at_seconds = float("-inf")

    def observe(self, now_seconds: float) -> Status | None:
        """Take the commits since the last call; return a status when one is due."""
        progress = self._receiver.dispatcher.streams.progress
        for stream, (run, sequence) in progress.items():
            self._lags.committed(stream, run, sequence, now_seconds)
        progress.clear()
        if now_seconds < self._observe_at_seconds:
            return None
        self._observe_at_seconds = now_seconds + OBSERVE_SECONDS
        return self._status(now_seconds)

    def _status(self, now_seconds: float) -> Status:
        dispatcher, orphans, health = self._receiver.dispatcher, self._orphans, self._projection.health
        lags = self._lags.lags(health.positions, now_seconds)
        worst = sorted(lags.items(), key=lambda item: (-item[1].seconds, item[0]))
        return Status(
            at_seconds=now_seconds,
            troubles=tuple(self._troubles(now_seconds)),
            received=replace(dispatcher.counts),
            connections=replace(self._receiver.connections.counts),
            ack_durations=dispatcher.streams.ack_durations.counts(),
            sync_durations=self._journal.sync_durations.counts(),
            streams=len(dispatcher.streams),
            credit_held_back_bytes=dispatcher.streams.credit_held_back_bytes,
            disks=self._disks(),
            adopted_outboxes=orphans.delivered,
            adopted_records=orphans.records,
            left_outboxes=orphans.failed,
            projection=health.counts,
            projection_failing=health.state.failing,
            projection_restarts=self._projection.pause.restarts,
            hooks=self._hooks.counts(),
            findings=health.findings.open_by_severity(),
            runs_silent=health.state.silent,
            lags=dict(worst[:RUNS_MAX]),
            lag_seconds_max=worst[0][1].seconds if worst else 0.0,
        )

    def _troubles(self, now_seconds: float) -> list[str]:
        low_water = self._journal.low_water
        found = [self._receiver.dispatcher.streams.failure(now_seconds)]
        if not os.access(self._recordings, os.W_OK | os.X_OK):
            found.append(f"--recordings {self._recordings} cannot be written")
        if low_water.low:
            found.append(f"the disk of the recordings is nearly full: {low_water}")
        found.append(self._projection.trouble(now_seconds))
        return [trouble for trouble in found if trouble]

    def _disks(self) -> dict[str, DiskSpace]:
        state = self._projection.health.state
        spaces = {
            "recordings": self._journal.low_water.space,
            "logdir": DiskSpace(state.disk_free_bytes, state.disk_size_bytes),
        }
        return {folder: space for folder, space in spaces.items() if space is not None and space.total_bytes}
