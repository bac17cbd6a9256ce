"""Recordings of trainers that were killed, finished by the next trainer that records into the same folder.

A recording is up to half a second behind the calls that came back; the outbox has the rest. It is written on the
sender thread when that has nothing else to do, a small run a turn.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox
from tensorboard_sidecar.telemetry.recovery.orphans import Orphans
from tensorboard_sidecar.telemetry.shipping.recorder import RestOfRecording

LOOK_INTERVAL_SECONDS: Final = 30.0
_logger = logging.getLogger(__name__)


class Recovery:
    """Finishes the recordings below ``record`` whose outboxes ``find`` finds; used by one thread."""

    def __init__(self, find: Callable[[], list[Path]], record: Path, *, wall_time_ns: int) -> None:
        self._orphans = Orphans(find, lambda destination: destination.record == record)
        self._record, self._wall_time_ns = record, wall_time_ns
        self._look_at = float("-inf")
        self._orphan: OrphanedOutbox | None = None
        self._rest: RestOfRecording | None = None

    def __repr__(self) -> str:
        return f"<Recovery of {self._orphan and self._orphan.folder.name} {self._orphans!r}>"

    def step(self, now: float) -> bool:
        """Take one turn of writing, or look for something to write when that is due; tell whether there may be more."""
        if self._orphan is None:
            if now < self._look_at:
                return False
            self._orphan = self._orphans.open_next()
            if self._orphan is None:
                self._look_at = now + LOOK_INTERVAL_SECONDS
            return self._orphan is not None
        try:
            if self._write(self._orphan):
                self._let_go(keep=not self._orphan.settle(recorded=True))
        except (ProtocolError, LookupError, OSError) as error:
            self._orphans.leave(self._orphan.folder, str(error))
            self._let_go(keep=True)
        return True

    def close(self) -> None:
        """Let go of what is being written; the rest of it stays."""
        self._let_go(keep=True)

    def disown(self) -> None:
        """Let go of the lock in a forked child, which would else keep it. Not to be used again."""
        if self._orphan is not None:
            self._orphan.disown()

    def _write(self, orphan: OrphanedOutbox) -> bool:
        if self._rest is None:
            self._rest = RestOfRecording(orphan, self._record, wall_time_ns=self._wall_time_ns)
        if not self._rest.step():
            return False
        _logger.info("finished the recording %s from %s", self._rest.folder, orphan.folder)
        return True

    def _let_go(self, *, keep: bool) -> None:
        if self._rest is not None:
            self._rest.close()
            self._rest = None
        if self._orphan is not None:
            self._orphan.close(keep=keep)
            self._orphan = None
