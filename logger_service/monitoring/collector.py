"""Makes a status once a second, in the thread of the main loop.

The collector does not touch the log directory: a file system that hangs there must not hold up the journal. The
projection reports the state of the log directory.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Final

from tensorboard_sidecar.logger_service.folders.disk_space import DiskSpace
from tensorboard_sidecar.logger_service.intake.journal import Journal
from tensorboard_sidecar.logger_service.intake.orphan_intake import OrphanIntake
from tensorboard_sidecar.logger_service.intake.receiver import Receiver
from tensorboard_sidecar.logger_service.monitoring.run_lag import RunLags
from tensorboard_sidecar.logger_service.monitoring.status import Status
from tensorboard_sidecar.logger_service.projection.process import Supervisor

OBSERVE_SECONDS: Final = 1.0
# A status lists the largest lags, this many of them: Prometheus keeps a series for each run on the page.
RUNS_MAX: Final = 100


class Collector:
    """Observes ``recordings`` and the parts of a logger. All times are of one monotonic clock."""

    def __init__(
        self,
        recordings: Path,
        journal: Journal,
        receiver: Receiver,
        projection: Supervisor,
        adoption: OrphanIntake | None,
    ) -> None:
        self._recordings = recordings
        self._journal, self._receiver, self._projection, self._adoption = journal, receiver, projection, adoption
        self._lags = RunLags()
        self._observe_at_seconds = float("-inf")

    def __repr__(self) -> str:
        return f"<Collector of {self._receiver!r}, {self._projection!r}, {self._adoption!r}>"

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
        dispatcher, adoption, health = self._receiver.dispatcher, self._adoption, self._projection.health
        lags = self._lags.lags(health.positions, now_seconds)
        worst = sorted(lags.items(), key=lambda item: (-item[1].seconds, item[0]))
        return Status(
            at_seconds=now_seconds,
            troubles=tuple(self._troubles(now_seconds)),
            received=replace(dispatcher.counts),
            connections=replace(self._receiver.connections.counts),
            ack_durations=dispatcher.streams.ack_times.durations.counts(),
            sync_durations=self._journal.sync_durations.counts(),
            streams=len(dispatcher.streams),
            credit_held_back_bytes=dispatcher.streams.credit_held_back_bytes,
            disks=self._disks(),
            adopted_outboxes=adoption.delivered if adoption else 0,
            adopted_records=adoption.records if adoption else 0,
            left_outboxes=adoption.failed if adoption else 0,
            projection=health.counts,
            projection_failing=health.state.failing,
            projection_restarts=self._projection.restarts,
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
        """Return the disks that report their size, by folder."""
        state = self._projection.health.state
        spaces = {
            "recordings": self._journal.low_water.space,
            "logdir": DiskSpace(state.disk_free_bytes, state.disk_size_bytes),
        }
        return {folder: space for folder, space in spaces.items() if space is not None and space.total_bytes}
