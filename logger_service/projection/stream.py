"""One recording's way into one run directory, a bounded amount at a time."""

import logging
from collections import deque
from collections.abc import Callable
from itertools import chain, takewhile
from pathlib import Path
from typing import Final, assert_never

from tensorboard_sidecar.logger_service.events.embedding_projector import EmbeddingProjector
from tensorboard_sidecar.logger_service.events.event_file import EventFile
from tensorboard_sidecar.logger_service.events.gap_place import GapPlace, missing, with_gaps
from tensorboard_sidecar.logger_service.events.identity import EventId
from tensorboard_sidecar.logger_service.events.to_events import ScalarEvents, blank, first_new_step, project
from tensorboard_sidecar.logger_service.projection.counts import Counts
from tensorboard_sidecar.logger_service.projection.quarantine import Quarantine
from tensorboard_sidecar.protocol.codec import decode_message
from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.kinds import PICTURES
from tensorboard_sidecar.protocol.messages import (
    Embedding,
    Gap,
    Message,
    RunEnd,
    RunStart,
    Scalars,
    SegmentHead,
    UserMessage,
)
from tensorboard_sidecar.protocol.record import Kind, Record
from tensorboard_sidecar.protocol.storage.find import beginning_of
from tensorboard_sidecar.protocol.storage.recording_reader import RecordingReader

# What leaves in one write at most, but for a record that is larger by itself.
_WRITE_SIZE_BYTES: Final = 2**20
# How long a hole is waited for: a trainer whose logger is there again asks for it within some seconds.
HOLE_SECONDS: Final = 30.0
# How soon is looked again when something is waited for.
_LOOK_SECONDS: Final = 2.0
# Scalars of such a size are shown in no time, and nobody dies of them.
_LIGHT_MAX_BYTES: Final = 2**16

_log = logging.getLogger(__name__)


# Wide: to be split into hole waiting, quarantine and event batch
class StreamProjection:
    """Projects the recording in ``folder``; goes on where the event files under ``logdir`` end.

    ``next_sequence`` is that of the record that comes next; ``beginning`` is complete with the first record; ``waits``
    tells that a hole is waited for, or that others go first. A record that is fatal, as ``suspects`` knows, is left
    blank. Raises Malformed when the recording has no valid head, OSError.
    """

    def __init__(self, folder: Path, logdir: Path, counts: Counts, suspects: Quarantine | None = None) -> None:
        self.beginning = beginning_of(folder)
        self.stream = self.beginning.stream
        self.counts = counts
        self._file = EventFile(logdir, self.stream)
        self._done = self._file.last_id
        # The last record is read again: it may have more events than were written before a crash.
        self.next_sequence = 1 if self._done is None else self._done.sequence
        self._folder = folder
        self._suspects = suspects or Quarantine()
        self._reader: RecordingReader | None = None
        self._unread: deque[Record] = deque()
        self._scalars = ScalarEvents(self.stream.id)
        self._gaps: GapPlace | None = None
        self._said: set[str] = set()
        self._damages: set[str] = set()
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

    def advance(
        self,
        size_max_bytes: int,
        now_seconds: float | None = None,
        enough: Callable[[], bool] = lambda: False,
    ) -> int:
        """Project what comes next, about ``size_max_bytes`` of it; return how many records, 0 when there are none now.

        With a steady time, a hole that a power loss tore is waited for: its records were never acknowledged, and a
        trainer that is still there sends them again; and so is the time of others before a suspect. ``enough`` is asked
        after every record that may take long; when it says so, the next call goes on from there. Raises OSError, and
        what a record does that ends the process elsewhere (MemoryError); the object is then of no more use, another one
        finds out what was written.
        """
        if self.waits and now_seconds is not None and now_seconds < self._look_at_seconds:
            return 0
        reader = self._read_on(size_max_bytes)
        taken = 0
        while self._unread:
            record = self._unread[0]
            light, comes_next = _is_light(record), record.sequence <= self.next_sequence
            if light and comes_next:  # nine records in ten
                self._show(record)
            elif now_seconds is not None and self._has_to_wait(record, reader, now_seconds):
                self._write()
                self.waits = True
                return taken
            else:
                if not comes_next:
                    self._take_record(missing(self.next_sequence, record))
                self._take_record(record)
            self._unread.popleft()
            self.next_sequence = record.next_sequence
            taken += 1
            if not light and enough():
                break
        self._note_damages(reader.damages)
        self._write()
        return taken

    def close(self) -> None:
        """Close the files; ``advance`` opens them again."""
        self._unread.clear()
        self._scalars.forget()
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._file.close()

    def _read_on(self, size_max_bytes: int) -> RecordingReader:
        """Read what comes next, unless something is left of what was read before."""
        self.waits = False
        if self._reader is None:
            self._reader = RecordingReader(self._folder, next_sequence=self.next_sequence)
            self._damages_seen = 0
        if not self._unread:
            self._unread.extend(self._reader.read(size_max_bytes))
        if self._unread and not self.beginning.start_ns:
            self.beginning = beginning_of(self._folder)
        return self._reader

    def _has_to_wait(self, record: Record, reader: RecordingReader, now_seconds: float) -> bool:
        """Tell whether a hole before the record may still be filled, or others go before it."""
        if record.sequence > self.next_sequence and reader.in_last_segment and self._may_be_filled(now_seconds):
            self._write()
            self.close()  # what fills the hole lies before what was read
            self._look_at_seconds = now_seconds + _LOOK_SECONDS
            return True
        return self._suspects.has_to_wait(self._name(record), now_seconds)

    def _may_be_filled(self, now_seconds: float) -> bool:
        """Tell whether the hole at ``next_sequence`` is so young that its records may still come."""
        if self._hole_sequence != self.next_sequence:
            self._hole_sequence, self._hole_until_seconds = self.next_sequence, now_seconds + HOLE_SECONDS
        return now_seconds < self._hole_until_seconds

    def _take_record(self, record: Record) -> None:
        """Show a record, and note it meanwhile if it may take long; pass over one that ends the process each time."""
        name = self._name(record)
        if self._suspects.is_fatal(name):
            self.counts.drawing_failures += 1
            self._say_once(f"record {record.sequence} is left blank", "the projection ended whenever it was drawn")
            self._add(blank(self._placed(record), self.stream.id), record)
            self._write()
            self._suspects.clear(name)
        else:
            with self._suspects.showing(name):
                self._show(record)

    def _show(self, record: Record) -> None:
        try:
            message = decode_message(record)
            record = self._placed(record)
        except ProtocolError as error:
            record = self._placed(record)
            self.counts.malformed += 1
            self._say_once(f"kind {record.kind} malformed", error)
            self._add(blank(record, self.stream.id), record)
            return
        except MemoryError as error:
            record = self._placed(record)
            self._not_drawn(record, error)
            self._add(blank(record, self.stream.id), record)
            return
        if message is None:
            self.counts.unknown_kinds += 1
            self._say_once(f"kind {record.kind} is unknown", "a newer trainer's; upgrade the logger to see it")
        if isinstance(message, Scalars) and message.values:
            self._add(self._curves(message, record), record)
        else:
            self._draw(message, record)

    def _curves(self, message: Scalars, record: Record) -> list[bytes]:
        try:
            return [self._scalars.pack(message, record)]
        except Exception as error:  # noqa: BLE001 - as in _draw
            self._not_drawn(record, error)
            return blank(record, self.stream.id)

    def _draw(self, message: Message | None, record: Record) -> None:
        """Show a record: files of the projector first, then its events."""
        try:
            events, failures = project(message, record, self.stream.id)
        except Exception as error:  # noqa: BLE001 - whatever drawing raises costs this record its picture, no more
            events, failures = blank(record, self.stream.id), [error]
        if not self._was_begun(record):
            failures += self._show_beside(message, record)
        for failure in failures:
            self._not_drawn(record, failure)
        self.counts.drawings += isinstance(message, PICTURES) and not failures
        self._add(events, record)

    def _not_drawn(self, record: Record, why: Exception) -> None:
        self.counts.drawing_failures += 1
        self._say_once(f"kind {record.kind} not drawn", str(why) or repr(why))

    def _show_beside(self, message: Message | None, record: Record) -> list[Exception]:
        """Do what a record asks for beside its events; return what kept an embedding from being drawn."""
        match message:
            case RunStart():
                self._projector().rewind(first_new_step(message), record.wall_time_ns)
            case Gap():
                self.counts.gaps += 1
                self.counts.missing_records += record.span
            case Embedding():
                try:
                    self._projector().write(message, record)
                except OSError:
                    raise
                except Exception as error:  # noqa: BLE001 - as in _draw
                    return [error]
            case SegmentHead() | RunEnd() | UserMessage() | None:  # events alone; an unknown kind
                pass
            case _:
                assert_never(message)
        return []

    def _name(self, record: Record) -> tuple[bytes, int]:
        return self.stream.id, record.sequence

    def _projector(self) -> EmbeddingProjector:
        return EmbeddingProjector(self._file.directory(self.beginning.start_ns))

    def _placed(self, record: Record) -> Record:
        """Return the record as it is shown. What came before a restart is looked up when the first gap asks for it."""
        if self._gaps is None and (self._done is None or record.kind == Kind.GAP):
            self._gaps = GapPlace(self.beginning.start_ns)
            if record.sequence > 1:
                self._follow_to(record.sequence, self._gaps)
        return record if self._gaps is None else self._gaps.place(record)

    def _follow_to(self, sequence: int, gaps: GapPlace) -> None:
        reader = RecordingReader(self._folder)
        try:
            records = chain.from_iterable(iter(reader.read, []))
            for record in with_gaps(takewhile(lambda record: record.sequence < sequence, records), 1):
                gaps.place(record)
        finally:
            reader.close()

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
        self._file.append(self._batch, self._batch_wall_time_ns, self.beginning.start_ns)
        self.counts.events += len(self._batch)
        self.counts.event_bytes += self._batch_size_bytes
        self._batch, self._batch_size_bytes = [], 0

    def _note_damages(self, damages: list[str]) -> None:
        """Count what is new: a recording that is opened again is read again from its segment's begin."""
        for damage in damages[self._damages_seen :]:
            if damage not in self._damages:
                self._damages.add(damage)
                self._say_once("damaged recording", damage)
                self.counts.damages += 1
        self._damages_seen = len(damages)

    def _say_once(self, what: str, why: object) -> None:
        if what not in self._said:
            self._said.add(what)
            _log.warning("%s: %s: %s (said once; see %s)", self.stream.run, what, why, self._folder)


def _is_light(record: Record) -> bool:
    return record.kind == Kind.SCALARS and len(record.body) <= _LIGHT_MAX_BYTES
