"""Finishes the recording of a killed trainer from its outbox.

A recording is up to half a second behind the calls that returned. The outbox holds the missing records.
"""

from contextlib import suppress
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox
from tensorboard_sidecar.protocol.storage.recording_writer import RecordingWriter
from tensorboard_sidecar.telemetry.shipping.recorder import recording_folder

# About a millisecond of the interpreter's time where records are small: a step runs beside training.
_BATCH_SIZE_MAX_BYTES: Final = 2**16


class RecordingDelivery:
    """Appends the records of ``orphan`` to the recording that its trainer began below ``record``.

    Raises FileNotFoundError when the recording lacks records that the outbox has released, ProtocolError for a damaged
    recording or a recording of another stream, OSError.
    """

    def __init__(self, orphan: OrphanedOutbox, record: Path, *, wall_time_ns: int) -> None:
        self.folder = recording_folder(record, orphan.stream)
        self.result = ""
        self._orphan = orphan
        first_sequence = orphan.first_sequence
        if first_sequence > 1 and not self.folder.is_dir():
            raise FileNotFoundError(f"{self.folder}, which has the records before {first_sequence}, is not there")
        self._writer = RecordingWriter(
            self.folder, orphan.stream, wall_time_ns=wall_time_ns, first_held_sequence=first_sequence
        )
        self.records = orphan.next_sequence - self._writer.next_sequence
        if self._writer.next_sequence < first_sequence:
            raise FileNotFoundError(
                f"{self.folder} has no records {self._writer.next_sequence} to {first_sequence - 1}"
            )

    def step(self, _now_seconds: float) -> bool:
        """Append a batch; at the end, make all records durable. Raises OSError, ProtocolError, LookupError."""
        batch = self._orphan.read(self._writer.next_sequence, _BATCH_SIZE_MAX_BYTES)
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
