"""Writes an outbox to a recording on disk: a live outbox, or the rest of the outbox of a killed trainer."""

import logging
from contextlib import suppress
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox
from tensorboard_sidecar.protocol.storage.recording_writer import RecordingWriter
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.telemetry.shipping.link import Source

_SYNC_INTERVAL_SECONDS: Final = 0.5
_RETRY_SECONDS: Final = 1.0
_BATCH_SIZE_MAX_BYTES: Final = 2**20
# About a millisecond of the interpreter's time where records are small: a delivery runs beside training.
_TURN_SIZE_MAX_BYTES: Final = 2**16
_log = logging.getLogger(__name__)


class Recorder:
    """Copies ``outbox`` to the recording of its stream below ``folder``, with one fsync every 0.5 seconds.

    A full or broken disk does not affect the training loop: the error is logged once, and the write is tried again
    every second.
    """

    def __init__(self, outbox: Source, folder: Path, *, wall_time_ns: int) -> None:
        self.folder = _recording_folder(folder, outbox.stream)
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
            wrote = self._write()
            if finish or now_seconds >= self._sync_at_seconds:
                self._writer.sync()
                self._sync_at_seconds = now_seconds + _SYNC_INTERVAL_SECONDS
            self._failing = False
        except OSError as error:
            if not self._failing:
                _log.warning("cannot write the recording %s: %s; trying again every second", self.folder, error)
            self._failing, self._sync_at_seconds = True, now_seconds + _RETRY_SECONDS
            return False
        return wrote

    def close(self) -> None:
        """Close the recording. Records that could not be made durable stay in the outbox."""
        try:
            self._writer.close()
        except OSError as error:
            if not self._failing:
                _log.warning("cannot finish the recording %s: %s", self.folder, error)

    def _write(self) -> bool:
        batch = self._outbox.read(self._writer.next_sequence, _BATCH_SIZE_MAX_BYTES)
        if batch is not None:
            self._writer.append(batch)
        return batch is not None


class RecordingDelivery:
    """Appends the records of ``orphan`` to the recording that its trainer began below ``record``.

    A recording is up to half a second behind the calls that returned. The outbox holds the missing records.
    Raises FileNotFoundError when the recording lacks records that the outbox has released, ProtocolError for a damaged
    recording or a recording of another stream, OSError.
    """

    def __init__(self, orphan: OrphanedOutbox, record: Path, *, wall_time_ns: int) -> None:
        self.folder = _recording_folder(record, orphan.stream)
        self.result = ""
        self._orphan = orphan
        first_sequence = orphan.first_sequence
        if first_sequence > 1 and not self.folder.is_dir():
            raise FileNotFoundError(f"{self.folder}, which has the records before {first_sequence}, is not there")
        self._writer = RecordingWriter(
            self.folder, orphan.stream, wall_time_ns=wall_time_ns, first_held_sequence=first_sequence
        )
        self.records = max(0, orphan.next_sequence - self._writer.next_sequence)
        if self._writer.next_sequence < first_sequence:
            raise FileNotFoundError(
                f"{self.folder} has no records {self._writer.next_sequence} to {first_sequence - 1}"
            )

    def step(self, _now_seconds: float) -> bool:
        """Append a batch; at the end, make all records durable. Raises OSError, ProtocolError, LookupError."""
        batch = self._orphan.read(self._writer.next_sequence, _TURN_SIZE_MAX_BYTES)
        if batch is None:
            self._writer.close()
            self.result = f"recorded in {self.folder}"
        else:
            self._writer.append(batch)
        return True

    def close(self) -> None:
        """Close the recording. The outbox still holds the records that are not durable."""
        with suppress(OSError):
            self._writer.close()


def _recording_folder(folder: Path, stream: Stream) -> Path:
    return folder / stream.run / stream.folder_name
