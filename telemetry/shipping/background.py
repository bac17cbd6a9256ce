"""Delivers the outboxes of dead trainers on the sender thread of the next trainer, while its backlog is empty."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.outbox import orphan_delivery
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox
from tensorboard_sidecar.protocol.outbox.orphan_delivery import NEVER, Delivery, OrphanWorker, Sink
from tensorboard_sidecar.protocol.storage.key_files import ClientKeys
from tensorboard_sidecar.telemetry.shipping.link import LoggerLink

_BATCH_MAX_BYTES: Final = 2**16  # as the turn of a recording: training does not wait


class BackgroundRecovery:
    """Delivers the outboxes that ``find`` returns, recordings before loggers; used by one thread.

    Outboxes to be recorded below ``record`` are recorded there. Outboxes for ``endpoint``, or for no named logger, are
    shipped there with ``keys``. Either may be None.
    """

    def __init__(
        self,
        find: Callable[[], list[Path]],
        *,
        record: Path | None = None,
        endpoint: str | None = None,
        keys: ClientKeys | None = None,
        wall_time_ns: int = 0,
    ) -> None:
        def finish(orphan: OrphanedOutbox, _now_seconds: float) -> Delivery | None:
            return orphan_delivery.RecordingDelivery(orphan, record, wall_time_ns=wall_time_ns) if record else None

        def ship(orphan: OrphanedOutbox, now_seconds: float) -> Delivery:
            link = LoggerLink(orphan, endpoint or "", keys, _BATCH_MAX_BYTES)
            return orphan_delivery.SessionDelivery(orphan, link, now_seconds)

        to_recording = Sink(finish, lambda wanted: 0.0 if wanted.record == record else NEVER, recording=True)
        to_logger = Sink(ship, lambda wanted: 0.0 if wanted.endpoint in ("", endpoint) else NEVER)
        self._recorders = [OrphanWorker(find, to_recording)] if record else []
        self._shippers = [OrphanWorker(find, to_logger)] if endpoint else []

    def step(self, now_seconds: float, *, listening: bool = True) -> bool:
        """Do a bounded amount of work; return whether more can be done at once. Ship only to a ``listening`` logger."""
        return any(worker.step(now_seconds) for worker in (*self._recorders, *(self._shippers if listening else ())))

    def close(self) -> None:
        """Release the orphans when the trainer ends; their records stay for the next trainer."""
        for worker in (*self._recorders, *self._shippers):
            worker.close()
