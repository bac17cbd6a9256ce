"""Writes a live outbox to a recording on disk."""

import logging
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.storage.recording_writer import RecordingWriter
from tensorboard_sidecar.telemetry.shipping.link import Source

_SYNC_INTERVAL_SECONDS: Final = 0.5
_RETRY_SECONDS: Final = 1.0
_BATCH_SIZE_MAX_BYTES: Final = 2**20
_log = logging.getLogger(__name__)


class Recorder:
    """Copies ``outbox`` to the recording of its stream below ``folder``, with one fsync every 0.5 seconds.

    A full or broken disk does not affect the training loop: the error is logged once, and the write is tried again
    every second.
    """

    def __init__(self, outbox: Source, folder: Path, *, wall_time_ns: int) -> None:
        self.folder = folder / outbox.stream.run / outbox.stream.folder_name
        self._outbox = outbox
        self._writer = RecordingWriter(self.folder, outbox.stream, wall_time_ns=wall_time_ns, root=folder)
        self._sync_at_seconds = 0.0
        self._failing = False

    @property
    def durable_sequence(self) -> int:
        """All records before this sequence number are durable on disk."""
        return self._writer.durable_sequence

    def step(self, now_seconds: float, *, finish: bool) -> bool:
        """Write a batch, and sync when due or when ``finish``; return whether a batch was written."""
        if self._failing and now_seconds < self._sync_at_seconds:
            return False
        try:
            batch = self._outbox.read(self._writer.next_sequence, _BATCH_SIZE_MAX_BYTES)
            if batch is not None:
                self._writer.append(batch)
            if finish or now_seconds >= self._sync_at_seconds:
                self._writer.sync()
                self._sync_at_seconds = now_seconds + _SYNC_INTERVAL_SECONDS
            self._failing = False
        except OSError as error:
            if not self._failing:
                _log.warning("cannot write the recording %s: %s; trying again every second", self.folder, error)
            self._failing, self._sync_at_seconds = True, now_seconds + _RETRY_SECONDS
            return False
        return batch is not None

    def close(self) -> None:
        """Close the recording. Records that could not be made durable stay in the outbox."""
        try:
            self._writer.close()
        except OSError as error:
            if not self._failing:
                _log.warning("cannot finish the recording %s: %s", self.folder, error)
