"""Writes the outbox to a recording on disk, on the sender thread; or what a killed trainer's own sender had not."""

import logging
from contextlib import suppress
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.storage.recording_writer import RecordingWriter
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.telemetry.shipping.link import Source

_SYNC_INTERVAL_SECONDS: Final = 0.5
_RETRY_SECONDS: Final = 1.0
_RUN_SIZE_MAX_BYTES: Final = 2**20
# As for adoption: what a turn beside training may take of the interpreter's time.
_REST_RUN_SIZE_MAX_BYTES: Final = 2**16
_logger = logging.getLogger(__name__)


class Recorder:
    """A second reader of ``outbox``: everything before ``durable_sequence`` is on disk under ``folder``.

    A disk that is full or broken does not reach the training loop: it is said once, and tried again every second.
    """

    def __init__(self, outbox: Source, folder: Path, *, wall_time_ns: int) -> None:
        self.folder = _recording(folder, outbox.stream)
        self._outbox = outbox
        self._writer = RecordingWriter(self.folder, outbox.stream, wall_time_ns=wall_time_ns, root=folder)
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


class RestOfRecording:
    """Writes what an orphaned ``outbox`` holds behind the recording that its trainer began under ``folder``.

    Raises FileNotFoundError when records before those in the outbox are not there, ProtocolError for a recording that
    is another stream's or damaged, OSError.
    """

    def __init__(self, outbox: Source, folder: Path, *, wall_time_ns: int) -> None:
        self.folder = _recording(folder, outbox.stream)
        self._outbox = outbox
        first_sequence = outbox.first_sequence
        if first_sequence > 1 and not self.folder.is_dir():
            raise FileNotFoundError(f"{self.folder}, which has the records before {first_sequence}, is not there")
        self._writer = RecordingWriter(
            self.folder, outbox.stream, wall_time_ns=wall_time_ns, first_held_sequence=first_sequence
        )
        if self._writer.next_sequence < first_sequence:
            raise FileNotFoundError(
                f"{self.folder} has no records {self._writer.next_sequence} to {first_sequence - 1}"
            )

    def step(self) -> bool:
        """Write some more; tell whether all of it is there, durable. Raises OSError, ProtocolError, LookupError."""
        run = self._outbox.read(self._writer.next_sequence, _REST_RUN_SIZE_MAX_BYTES)
        if run is None:
            self._writer.close()
            return True
        self._writer.append(run)
        return False

    def close(self) -> None:
        """Write no more; what is not durable is still in the outbox."""
        with suppress(OSError):
            self._writer.close()


def _recording(folder: Path, stream: Stream) -> Path:
    return folder / stream.run / stream.folder_name
