"""One recording's way into one run directory, a bounded amount at a time."""

import logging
from pathlib import Path
from typing import Final

from logger_service.counts import Counts
from logger_service.events.event_file import EventFile
from logger_service.events.identity import EventId
from logger_service.events.projector import Projector
from logger_service.events.protos import blank, first_new_step, project
from logger_service.events.scalar_events import ScalarEvents
from protocol.codec import decode_message
from protocol.errors import ProtocolError
from protocol.limits import STEP_MAX
from protocol.messages import Embedding, Gap, Message, RunStart, Scalars
from protocol.record import Kind, Record
from protocol.recording_reader import RecordingReader
from protocol.segment import list_segments, read_stream

# What leaves in one write at most, but for a record that is larger by itself.
_WRITE_SIZE_BYTES: Final = 2**20
# How long a hole is waited for: a trainer whose logger is there again asks for it within some seconds.
HOLE_SECONDS: Final = 30.0
_HOLE_LOOK_SECONDS: Final = 2.0

_log = logging.getLogger(__name__)


class StreamProjection:
    """Projects the recording in ``folder``; goes on where the event files under ``logdir`` end.

    ``next_sequence`` is that of the record that comes next; ``waits`` tells that a hole is waited for. Raises Malformed
    when the recording has no valid head, OSError.
    """

    def __init__(self, folder: Path, logdir: Path, counts: Counts) -> None:
        segments = list_segments(folder)
        if not segments:
            raise FileNotFoundError(f"{folder} holds no segments")
        self.stream = read_stream(segments)
        self.counts = counts
        self._file = EventFile(logdir, self.stream)
        self._done = self._file.last_id
        # The last record is read again: it may have more events than were written before a crash.
        self.next_sequence = 1 if self._done is None else self._done.sequence
        self._folder = folder
        self._reader: RecordingReader | None = None
        self._scalars = ScalarEvents(self.stream.id)
        self._said: set[str] = set()
        self._damages_seen = 0
        self._hole_sequence = 0
        self._hole_until_seconds = 0.0
        self._look_at_seconds = 0.0
        self.waits = False
        self._batch: list[bytes] = []
        self._batch_size_bytes = 0
        self._batch_wall_time_ns = 0

    def __repr__(self) -> str:
        return f"<StreamProjection {self.stream.run} rank {self.stream.rank} at {self.next_sequence}>"

    def advance(self, size_max_bytes: int, now_seconds: float | None = None) -> int:
        """Project what comes next, about ``size_max_bytes`` of it; return how many records, 0 when there are none now.

        With a steady time, a hole that a power loss tore is waited for: its records were never acknowledged, and a
        trainer that is still there sends them again. Raises OSError; the object is then of no more use, another one
        finds out what was written.
        """
        if self.waits and now_seconds is not None and now_seconds < self._look_at_seconds:
            return 0
        self.waits = False
        if self._reader is None:
            self._reader = RecordingReader(self._folder, next_sequence=self.next_sequence)
            self._damages_seen = 0
        records = self._reader.read(size_max_bytes)
        taken = 0
        for record in records:
            if record.sequence > self.next_sequence:
                if now_seconds is not None and self._reader.in_last_segment and self._may_be_filled(now_seconds):
                    self._write()
                    self.close()
                    self.waits = True
                    return taken
                self._take(Gap("missing from the recording"), _missing(self.next_sequence, record))
            self._take_record(record)
            self.next_sequence = record.next_sequence
            taken += 1
        self._note_damages(self._reader.damages)
        self._write()
        return taken

    def close(self) -> None:
        """Close the files; ``advance`` opens them again."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._file.close()

    def _may_be_filled(self, now_seconds: float) -> bool:
        """Tell whether the hole at ``next_sequence`` is so young that its records may still come."""
        if self._hole_sequence != self.next_sequence:
            self._hole_sequence, self._hole_until_seconds = self.next_sequence, now_seconds + HOLE_SECONDS
        self._look_at_seconds = now_seconds + _HOLE_LOOK_SECONDS
        return now_seconds < self._hole_until_seconds

    def _take_record(self, record: Record) -> None:
        try:
            message = decode_message(record)
        except ProtocolError as error:
            self.counts.malformed += 1
            self._say_once(f"kind {record.kind} malformed", error)
            self._add(blank(record, self.stream.id), record)
            return
        if message is None:
            self.counts.unknown_kinds += 1
            self._say_once(f"kind {record.kind} is unknown", "a newer trainer's; upgrade the logger to see it")
        if isinstance(message, Scalars) and message.values:
            self._add([self._scalars.pack(message, record)], record)
        else:
            self._take(message, record)

    def _take(self, message: Message | None, record: Record) -> None:
        """Show a record: files of the projector first, then its events."""
        try:
            events, failures = project(message, record, self.stream.id)
        except Exception as error:  # noqa: BLE001 - whatever drawing raises costs this record its picture, no more
            events, failures = blank(record, self.stream.id), [error]
        if not self._was_begun(record):
            failures += self._show_beside(message, record)
        for failure in failures:
            self.counts.drawing_failures += 1
            self._say_once(f"kind {record.kind} not drawn", failure)
        self._add(events, record)

    def _show_beside(self, message: Message | None, record: Record) -> list[Exception]:
        """Do what a record asks for beside its events; return what kept an embedding from being drawn."""
        match message:
            case RunStart():
                self._projector(record).rewind(first_new_step(message))
            case Gap():
                self.counts.gaps += 1
                self.counts.missing_records += record.span
            case Embedding():
                try:
                    self._projector(record).write(message, record)
                except OSError:
                    raise
                except Exception as error:  # noqa: BLE001 - as in _take
                    return [error]
            case _:
                pass
        return []

    def _projector(self, record: Record) -> Projector:
        return Projector(self._file.directory(record.wall_time_ns))

    def _was_begun(self, record: Record) -> bool:
        """Tell whether an event of the record was in the files before."""
        return self._done is not None and record.next_sequence - 1 <= self._done.sequence

    def _add(self, events: list[bytes], record: Record) -> None:
        """Put the events that are not in the files yet into the batch."""
        batched = len(self._batch)
        for index, event in enumerate(events):
            identity = EventId(self.stream.id, record.next_sequence - 1, index)
            if self._done is not None and identity <= self._done:
                continue
            if not self._batch:
                self._batch_wall_time_ns = record.wall_time_ns
            self._batch.append(event)
            self._batch_size_bytes += len(event)
        self.counts.records += len(self._batch) > batched
        if self._batch_size_bytes >= _WRITE_SIZE_BYTES:
            self._write()

    def _write(self) -> None:
        if not self._batch:
            return
        self._file.append(self._batch, self._batch_wall_time_ns)
        self.counts.events += len(self._batch)
        self.counts.event_bytes += self._batch_size_bytes
        self._batch, self._batch_size_bytes = [], 0

    def _note_damages(self, damages: list[str]) -> None:
        if len(damages) > self._damages_seen:
            self._say_once("damaged recording", damages[self._damages_seen])
            self.counts.damages += len(damages) - self._damages_seen
            self._damages_seen = len(damages)

    def _say_once(self, what: str, why: object) -> None:
        if what not in self._said:
            self._said.add(what)
            _log.warning("%s: %s: %s (said once; see %s)", self.stream.run, what, why, self._folder)


def _missing(first_sequence: int, record: Record) -> Record:
    """Return a gap over the sequence numbers from ``first_sequence`` to the record's."""
    step = min(max(record.step, 0), STEP_MAX)
    return Record(Kind.GAP, first_sequence, step, record.wall_time_ns, b"", record.sequence - first_sequence)
