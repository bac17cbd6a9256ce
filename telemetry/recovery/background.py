"""Delivers the outboxes of dead trainers on the sender thread of the next trainer, while its backlog is empty.

Recordings come before loggers. A turn handles at most 64 KiB, so that training does not wait for the interpreter. When
the trainer ends, the orphan is released for the next trainer. A logger on this host or ``drain`` may claim the same
outbox: the owner's lock decides.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.batch import FrameBatch
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox
from tensorboard_sidecar.protocol.outbox.orphan_delivery import Sink
from tensorboard_sidecar.protocol.outbox.orphan_worker import NEVER, OrphanWorker
from tensorboard_sidecar.telemetry.recovery.finish_recording import RecordingDelivery
from tensorboard_sidecar.telemetry.recovery.reshipping import LinkDelivery
from tensorboard_sidecar.telemetry.shipping.link import LoggerLink, Source

LOOK_INTERVAL_SECONDS: Final = 30.0
# Then another process may claim the outbox: a logger that does not take the records may be the wrong logger.
_PATIENCE_SECONDS: Final = 30.0
# About a millisecond of the interpreter's time where records are small.
_BATCH_SIZE_MAX_BYTES: Final = 2**16


class BackgroundRecovery:
    """Delivers the outboxes that ``find`` returns; used by one thread.

    Outboxes to be recorded below ``record`` are recorded there. Outboxes for ``endpoint``, or for no named logger, are
    shipped over the link that ``connect`` opens. Either may be None.
    """

    def __init__(
        self,
        find: Callable[[], list[Path]],
        *,
        record: Path | None = None,
        endpoint: str = "",
        connect: Callable[[Source], LoggerLink] | None = None,
        wall_time_ns: int = 0,
    ) -> None:
        self._recorder = self._shipper = None
        if record is not None:

            def finish(orphan: OrphanedOutbox, _now_seconds: float) -> RecordingDelivery:
                return RecordingDelivery(orphan, record, wall_time_ns=wall_time_ns)

            self._recorder = OrphanWorker(
                find,
                Sink(finish, recording=True),
                lambda destination: 0.0 if destination.record == record else NEVER,
                look_interval_seconds=LOOK_INTERVAL_SECONDS,
            )
        if connect is not None:

            def ship(orphan: OrphanedOutbox, now_seconds: float) -> LinkDelivery:
                return LinkDelivery(orphan, connect(_SmallBatches(orphan)), now_seconds, _PATIENCE_SECONDS)

            self._shipper = OrphanWorker(
                find,
                Sink(ship),
                lambda destination: 0.0 if destination.endpoint in ("", endpoint) else NEVER,
                look_interval_seconds=LOOK_INTERVAL_SECONDS,
            )

    def __repr__(self) -> str:
        return f"<BackgroundRecovery {self._recorder!r} {self._shipper!r}>"

    def step(self, now_seconds: float, *, listening: bool = True) -> bool:
        """Do a bounded amount of work; return whether more can be done at once. Ship only to a ``listening`` logger."""
        if self._recorder is not None and self._recorder.step(now_seconds):
            return True
        return listening and self._shipper is not None and self._shipper.step(now_seconds)

    def close(self) -> None:
        """Release the orphans; their records stay for the next trainer."""
        for worker in filter(None, (self._recorder, self._shipper)):
            worker.close()

    def disown(self) -> None:
        """Release the locks in a forked child, which would keep them otherwise. Cannot be used again."""
        for worker in filter(None, (self._recorder, self._shipper)):
            worker.disown()


class _SmallBatches:
    """An orphan that returns at most 64 KiB a read, however much credit the logger gives."""

    def __init__(self, orphan: OrphanedOutbox) -> None:
        self.stream = orphan.stream
        self.first_sequence, self.next_sequence = orphan.first_sequence, orphan.next_sequence
        self._orphan = orphan

    def read(self, sequence: int, size_max_bytes: int) -> FrameBatch | None:
        """Return records as :meth:`OrphanedOutbox.read` does."""
        return self._orphan.read(sequence, min(size_max_bytes, _BATCH_SIZE_MAX_BYTES))
