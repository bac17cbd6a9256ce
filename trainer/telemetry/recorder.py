"""Writes the outbox to a recording on disk, on the sender thread."""

import logging
from pathlib import Path
from typing import Final

from protocol.recording_writer import RecordingWriter
from trainer.telemetry.link import Source

_SYNC_INTERVAL_SECONDS: Final = 0.5
_RETRY_SECONDS: Final = 1.0
_RUN_SIZE_MAX_BYTES: Final = 2**20
_logger = logging.getLogger(__name__)


class Recorder:
    """A second reader of ``outbox``: everything before ``durable_sequence`` is on disk under ``folder``.

    A disk that is full or broken does not reach the training loop: it is said once, and tried again every second.
    """

    def __init__(self, outbox: Source, folder: Path, *, wall_time_ns: int) -> None:
        self.folder = folder / outbox.stream.run / outbox.stream.folder_name
        self._outbox = outbox
        self._writer = RecordingWriter(self.folder, outbox.stream, wall_time_ns=wall_time_ns)
        self._sync_at = 0.0
        self._failing = False

    @property
    def durable_sequence(self) -> int:
        """The first sequence number that is not yet on disk."""
        return self._writer.durable_sequence

    def step(self, now: float, *, finish: bool) -> bool:
        """Write what there is, make it durable when that is due; tell whether anything was written."""
        if self._failing and now < self._sync_at:
            return False
        try:
            wrote = self._write()
            if finish or now >= self._sync_at:
                self._writer.sync()
                self._sync_at = now + _SYNC_INTERVAL_SECONDS
            self._failing = False
        except OSError as error:
            if not self._failing:
                _logger.warning("cannot write the recording %s: %s; trying again every second", self.folder, error)
            self._failing, self._sync_at = True, now + _RETRY_SECONDS
            return False
        return wrote

    def close(self) -> None:
        """Close the recording; what could not be made durable stays in the outbox."""
        try:
            self._writer.close()
        except OSError as error:
            if not self._failing:
                _logger.warning("cannot finish the recording %s: %s", self.folder, error)

    def _write(self) -> bool:
        run = self._outbox.read(self._writer.next_sequence, _RUN_SIZE_MAX_BYTES)
        if run is not None:
            self._writer.append(run)
        return run is not None
