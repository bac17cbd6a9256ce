"""From one recording to the event files of one run directory, a bounded amount at a time.

A record takes these steps, each in a part of its own:

1. ``_Tail`` reads the record from the recording;
2. ``HoleWait`` decides whether records that are missing before it may still arrive, or are shown as a gap;
3. ``Quarantine`` decides whether the record killed earlier processes, and must wait or stay blank;
4. :class:`StreamProjection` decodes and draws the record;
5. ``StreamFindings`` watches the record, and adds the event of what it finds;
6. ``EventBatch`` collects its events, and ``EventFile`` writes them.

A stream is silent until it has a record that shows something (``protocol.kinds``: ``shows``). A silent stream writes no
event and takes no folder: an attempt that dies before its first value leaves the curves and embeddings of earlier
attempts as they are. Its first records are read again, and shown, when such a record arrives.
"""

import logging
import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, takewhile
from pathlib import Path
from typing import Final, TypeVar, assert_never

from tensorboard_sidecar.logger_service.events.beside import write_beside
from tensorboard_sidecar.logger_service.events.embedding_projector import EmbeddingProjector
from tensorboard_sidecar.logger_service.events.event_file import Attempt, EventFile, in_order
from tensorboard_sidecar.logger_service.events.hparams_rows import ROWS_MAX, write_row
from tensorboard_sidecar.logger_service.events.to_events import (
    Projected,
    ScalarEvents,
    beside,
    blank,
    first_new_step,
    project,
)
from tensorboard_sidecar.logger_service.findings.silence import Silence
from tensorboard_sidecar.logger_service.projection.quarantine import Quarantine
from tensorboard_sidecar.logger_service.projection.report import ProjectionCounts
from tensorboard_sidecar.logger_service.projection.stream_findings import StreamFindings
from tensorboard_sidecar.logger_service.projection.stream_parts import EventBatch, HoleWait, missing, with_gaps
from tensorboard_sidecar.protocol import messages
from tensorboard_sidecar.protocol.codec import decode_message
from tensorboard_sidecar.protocol.errors import Malformed, ProtocolError
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.kinds import PICTURES, SILENT
from tensorboard_sidecar.protocol.names import RECORDING_NAME
from tensorboard_sidecar.protocol.printable import printable
from tensorboard_sidecar.protocol.record import Kind, Record
from tensorboard_sidecar.protocol.storage.recording_reader import Beginning, RecordingReader, beginning_of
from tensorboard_sidecar.protocol.stream import Stream

# Scalars and points up to this size take microseconds and cannot kill the process: the quarantine does not note them.
_LIGHT_MAX_BYTES: Final = 2**16
# The last records of a turn tell how long a step takes.
_TIMED_MAX: Final = 32
# The start and the end of a run. A stream with more records than these is shown whatever their kinds.
_SILENT_RECORDS_MAX: Final = 2
NOT_SHOWN: Final = "an attempt that logged nothing is not shown; `tensorboard-sidecar inspect` describes its recording"

_LEVELS: Final = {"error": logging.ERROR, "warn": logging.WARNING, "info": logging.INFO}

T = TypeVar("T")

_log = logging.getLogger(__name__)


# Wide: a part a step of a record.
class StreamProjection:
    """Projects the recording in ``folder``; continues where the event files under ``logdir`` end.

    A recording below ``<logdir>/.tensorboard-sidecar`` is shown in ``logdir`` itself, whatever its run is called.
    ``next_sequence`` is the sequence number of the next record. ``beginning`` is complete once the recording has a
    record. ``waits`` is true while the next record waits for a hole to be filled, or as a suspect of ``suspects``. With
    ``begun`` the records are shown also while they are silent: another recording of the stream shows something.
    Raises Malformed when the recording has no valid head, OSError.
    """

    def __init__(
        self,
        folder: Path,
        logdir: Path,
        counts: ProjectionCounts,
        suspects: Quarantine | None = None,
        *,
        begun: bool = False,
    ) -> None:
        self.beginning = beginning_of(folder)
        self.waits = False
        self._tail = _Tail(folder, begun=begun)
        self._tally = _Tally(counts, self.stream.run, folder)
        self._hole = HoleWait()
        self._suspects = suspects or Quarantine()
        self._scalars = ScalarEvents(self.stream.id)
        self._file = EventFile(logdir, self.stream, in_place=belongs_to(folder, logdir))
        self._batch = EventBatch(self.stream.id, self._file.last_id, self._tail.records_before)
        self._findings = StreamFindings(self.stream.id, self._file.last_id, self._tail.records_before)
        self.next_sequence = self._batch.first_sequence

    def __repr__(self) -> str:
        return f"<StreamProjection {self.stream.run} rank {self.stream.rank} at {self.next_sequence}>"

    @property
    def stream(self) -> Stream:
        """The stream that is projected."""
        return self.beginning.stream

    @property
    def counts(self) -> ProjectionCounts:
        """The counters that this projection updates."""
        return self._tally.counts

    @property
    def ended(self) -> bool:
        """Whether the last record that was shown ends the run."""
        return self._tally.ended

    @property
    def reads_again(self) -> bool:
        """Whether earlier records are being read again for the findings, while the next record waits."""
        return self._findings.reads

    @property
    def silence(self) -> Silence:
        """How long the steps of the stream take."""
        return self._tally.silence

    @property
    def findings(self) -> list[Finding]:
        """The findings of the stream, while it is watched: from its first record that is shown on, to its end."""
        return self._findings.findings

    @property
    def silent(self) -> bool:
        """Whether the recording holds records, and none of them shows something."""
        return self._tail.silent_to > 0

    @property
    def at_end(self) -> bool:
        """Whether the last read took all that the recording holds at present."""
        return self._tail.at_end

    @property
    def position(self) -> int:
        """The sequence number of the first record that is not done; the records of a silent stream are done."""
        return max(self.next_sequence, self._tail.silent_to)

    def advance(
        self, size_max_bytes: int, now_seconds: float | None = None, enough: Callable[[], bool] = lambda: False
    ) -> int:
        """Project about ``size_max_bytes`` of the next records; return their number, 0 if there is none at present.

        ``now_seconds`` is a monotonic time. With a time, holes and suspects wait, and findings are logged; without,
        nothing waits. ``enough`` is called after each record that may take long, and while earlier records are read
        again for the findings; if the result is true, ``advance`` returns 1 or more, and the next call continues from
        there. Raises OSError, and MemoryError or any other error outside of a drawing. After an error, make a new
        object, which reads its position back from the event files.
        """
        if self.waits and now_seconds is not None and not self._hole.is_due(now_seconds):
            return 0
        self.waits, self._tally.tells_findings = False, now_seconds is not None
        unread, taken = self._tail.read_on(self.next_sequence, size_max_bytes), 0
        if unread and not self.beginning.start_ns:
            self.beginning = beginning_of(self._tail.folder)
        self._tally.note_times(unread)
        self._findings.first_sequence = self._tail.first_sequence
        while unread:
            record = unread[0]
            if self._findings.view is None and not self._know_past(record, enough):
                taken = max(taken, 1)
                break
            light = _is_light(record)
            if light and record.sequence <= self.next_sequence:  # nine of ten records
                self._show(record)
            elif not self._show_or_wait(record, now_seconds):
                self._write()
                self.waits = True
                return taken
            unread.popleft()
            self.next_sequence = record.next_sequence
            taken += 1
            if not light and enough():
                break
        self._write()
        self._tell(live=now_seconds is not None)
        return taken

    def _show_or_wait(self, record: Record, now_seconds: float | None) -> bool:
        """Show a record, and the hole before it; return False if it must wait."""
        if now_seconds is not None and self._must_wait(record, now_seconds):
            return False
        if record.sequence > self.next_sequence:
            self._show_heavy(missing(self.next_sequence, record))
        self._show_heavy(record)
        return True

    def _tell(self, *, live: bool) -> None:
        """Log what is wrong with the recording."""
        self._tally.note_damages(self._tail.new_damages())
        if self._findings.failure is not None:
            self._tally.warn_once("records not watched", repr(self._findings.failure))
        if self._tail.silent_ended and live:
            self._tally.tell_once(NOT_SHOWN)

    def sync(self) -> None:
        """Make the events durable that were written. Raises OSError."""
        self._file.sync()

    def close(self) -> None:
        """Close the files; ``advance`` opens them again."""
        self._tail.close()
        self._findings.close()
        self._scalars.forget()
        self._file.close()

    def rest(self, *, gone: bool = False) -> None:
        """Close the files, and forget the findings if the run has ended or is ``gone``: no record is expected."""
        self.close()
        if self.ended or gone:
            self._findings.rest()

    def _know_past(self, record: Record, enough: Callable[[], bool]) -> bool:
        """Read earlier records again for the findings, where needed, until ``enough()``; return whether that is done.

        The file that remembers what killed a process has the number 0 for this. After an error, and after some deaths,
        the stream is not watched.
        """
        if not self._findings.must_read(record):
            return True
        suspect = self.stream.id, 0
        if self._suspects.is_fatal(suspect):
            self._suspects.clear(suspect)
            return self._stop_watching("the projection ended each time while reading the records again")
        try:
            with self._suspects.showing(suspect):
                sequence = min(record.sequence, self.next_sequence)
                done = self._findings.read(sequence, self.beginning.start_ns, enough)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - as in _draw: no record is lost without its findings
            return self._stop_watching(str(error) or repr(error))
        if not done:
            self._tally.tell_once("reads its records again for its findings; its new records wait")
        return done

    def _stop_watching(self, reason: str) -> bool:
        self._findings.give_up()
        self._tally.warn_once("no findings", reason)
        return True

    def _must_wait(self, record: Record, now_seconds: float) -> bool:
        """Return whether a hole before the record may still be filled, or whether other runs go before a suspect."""
        hole = record.sequence > self.next_sequence and self._tail.in_last_segment
        if hole and self._hole.may_be_filled(self.next_sequence, now_seconds):
            self._write()
            self.close()  # the missing records will lie before those already read: read them all again
            return True
        return self._suspects.must_wait((self.stream.id, record.sequence), now_seconds)

    def _show_heavy(self, record: Record) -> None:
        """Show a record under the protection of the quarantine; leave a fatal record blank."""
        suspect = self.stream.id, record.sequence
        if self._suspects.is_fatal(suspect):
            self.counts.drawing_failures += 1
            reason = "the projection ended each time while drawing this record"
            self._tally.warn_once(f"record {record.sequence} is left blank", reason)
            self._add(blank(self._placed(record), self.stream.id), record)
            self._write()
            self._suspects.clear(suspect)
        else:
            with self._suspects.showing(suspect):
                self._show(record)

    def _show(self, record: Record) -> None:
        """Decode and draw a record, and add its events to the batch."""
        try:
            message = decode_message(record)
            record = self._placed(record)
        except (ProtocolError, MemoryError) as error:
            record = self._placed(record)
            self._tally.note_undecoded(record, error)
            self._add(blank(record, self.stream.id), record)
            return
        if isinstance(message, messages.RunStart):
            self._file.suffix = message.file_suffix
        elif message is None:
            self.counts.unknown_kinds += 1
            advice = "a newer trainer sent it; upgrade the logger to see it"
            self._tally.warn_once(f"kind {record.kind} is unknown", advice)
        events, failures = self._draw(message, record)
        for failure in failures:
            if isinstance(failure, Malformed):
                self._tally.note_undecoded(record, failure)
            else:
                self._tally.note_undrawn(record, failure)
        self.counts.drawings += isinstance(message, PICTURES) and not failures
        if isinstance(message, messages.Scalars) and message.values and not failures:
            said = self._findings.see_scalars(record, message.values, self._scalars.tags)
        else:
            said = self._findings.see(record, message)
        if said is not None:
            self._tally.note_findings(said.changes)
            events = self._findings.add(said, record, events)
        self._add(events, record)

    def _draw(self, message: messages.Message | None, record: Record) -> Projected:
        """Return the events of a record; a blank event if the drawing raises an error of any kind."""
        try:
            if isinstance(message, messages.Scalars) and message.values:  # nine of ten records
                return Projected([self._scalars.pack(message, record)], [])
            events, failures = project(message, record, self.stream.id)
        except Exception as error:  # noqa: BLE001 - a failed drawing costs its record the picture, and no other record
            events, failures = blank(record, self.stream.id), [error]
        if not self._batch.was_begun(record):
            failures += self._show_beside(message, record)
        return Projected(events, failures)

    def _show_beside(self, message: messages.Message | None, record: Record) -> list[Exception]:
        """Update what a record changes besides the run's events; return the errors of what is not shown."""
        match message:
            case messages.RunStart():
                if not message.continues:
                    return self._projector().rewind(first_new_step(message), record.wall_time_ns)
            case messages.Event(messages.SESSION_START, ""):
                return self._projector().rewind(record.step, record.wall_time_ns)
            case messages.Gap():
                self.counts.gaps += 1
                self.counts.missing_records += record.span
            case messages.Embedding() | messages.HParams() | messages.Overlay() | messages.Event():
                try:
                    return self._write_files(message, record)
                except OSError:
                    raise
                except Exception as error:  # noqa: BLE001 - as in _draw
                    return [error]
            case messages.SegmentHead() | messages.RunEnd() | messages.UserMessage() | None:
                pass  # events alone; an unknown kind
            case _:
                assert_never(message)
        return []

    def _write_files(
        self, message: messages.Embedding | messages.HParams | messages.Overlay | messages.Event, record: Record
    ) -> list[Exception]:
        """Write the files of an embedding or of a set of hyperparameters, or add events for folders to the batch.

        Returns the errors of lost embeddings.
        """
        if isinstance(message, messages.Embedding):
            return self._projector().write(message, record)
        if not isinstance(message, messages.HParams) or message.folder:
            self._batch.add_beside(beside(message, record, self.stream.id))
        elif not write_row(self._file, message, record, self.beginning.start_ns):
            self.counts.rows_left_out += 1
            self._tally.warn_once("hyperparameters not shown", f"a run has {ROWS_MAX:,} sets of them at most")
        return []

    def _projector(self) -> EmbeddingProjector:
        return EmbeddingProjector(self._file.directory(self.beginning.start_ns))

    def _placed(self, record: Record) -> Record:
        return self._batch.place(record, self.beginning.start_ns)

    def _add(self, events: list[bytes], record: Record) -> None:
        self.counts.records += self._batch.add(events, record)
        if self._batch.is_full:
            self._write()

    def _write(self) -> None:
        batch = self._batch
        if batch.events:
            for events, reason in write_beside(self._file, batch.beside, self.beginning.start_ns):
                self.counts.folders_left_out += events
                self._tally.warn_once("events for a folder not shown", reason)
            self._file.append(batch.events, batch.wall_time_ns, self.beginning.start_ns)
            self.counts.events += len(batch.events)
            self.counts.event_bytes += batch.size_bytes
            batch.clear()


class _Tail:
    """Reads a recording that grows: the records that are read and not yet shown, and the damage on the way.

    ``silent_to`` is the number after the records of a silent stream, 0 for another stream. ``silent_ended`` is true
    when the last of these records ends the run.
    """

    def __init__(self, folder: Path, *, begun: bool = False) -> None:
        self.folder = folder
        self._begun = begun
        self.silent_to = 0
        self.silent_ended = False
        self._reader: RecordingReader | None = None
        self._unread: deque[Record] = deque()
        self._damages: set[str] = set()

    @property
    def first_sequence(self) -> int:
        """The first sequence number that the recording may hold."""
        return 1 if self._reader is None else self._reader.first_sequence

    @property
    def in_last_segment(self) -> bool:
        """Whether the recording had no later segment at the last read."""
        return self._reader is not None and self._reader.in_last_segment

    @property
    def at_end(self) -> bool:
        """Whether no record is unread, and the recording has not grown since the last read."""
        return not self._unread and self._reader is not None and self._reader.at_end

    def read_on(self, next_sequence: int, size_max_bytes: int) -> deque[Record]:
        """Return the unread records, for the caller to take; read about ``size_max_bytes`` when there is none.

        The records of a silent stream stay unread, and the result is empty.
        """
        if self._reader is None:
            self._reader = RecordingReader(self.folder, next_sequence=next_sequence)
        unread = self._unread
        if not unread:
            unread.extend(self._reader.read(size_max_bytes))
        silent = next_sequence == 1 and not self._begun and _are_silent(unread)
        while silent and (more := self._reader.read(size_max_bytes)):
            unread.extend(more)
            silent = _are_silent(unread)
        self.silent_to = unread[-1].next_sequence if silent else 0
        self.silent_ended = silent and unread[-1].kind == Kind.RUN_END
        return deque() if silent else unread

    def records_before(self, sequence: int, first_sequence: int = 1) -> Iterator[Record]:
        """Yield the records of ``[first_sequence, sequence)``, with gaps for those that are missing."""
        reader = RecordingReader(self.folder, next_sequence=first_sequence)
        try:
            records = chain.from_iterable(iter(reader.read, []))
            # The record at the end says of a gap before it where it lies.
            yield from takewhile(lambda record: record.next_sequence <= sequence, with_gaps(records, first_sequence))
        finally:
            reader.close()

    def new_damages(self) -> Iterator[str]:
        """Yield each damage once, although a recording that is opened again is read from the start of a segment."""
        for damage in self._reader.damages if self._reader is not None else ():
            if damage not in self._damages:
                self._damages.add(damage)
                yield damage

    def close(self) -> None:
        """Close the files and drop the unread records; the next read opens them again."""
        self._unread.clear()
        if self._reader is not None:
            self._reader.close()
            self._reader = None


class _Tally:
    """Counts the troubles of one stream, and logs each kind of trouble once."""

    def __init__(self, counts: ProjectionCounts, run: str, folder: Path) -> None:
        self.counts = counts
        self.tells_findings = False
        self.ended = False
        self.silence = Silence()
        self._run, self._folder = run, folder
        self._warned: set[str] = set()
        self._said: defaultdict[tuple[str, str], int] = defaultdict(int)

    def note_times(self, unread: deque[Record]) -> None:
        """Note when records came that are shown next."""
        if unread:
            last = [unread[place] for place in range(max(-len(unread), -_TIMED_MAX), 0)]
            self.silence.add((record.step, record.wall_time_ns) for record in last)
            self.ended = last[-1].kind == Kind.RUN_END

    def note_undecoded(self, record: Record, error: Exception) -> None:
        """Count a record that cannot be decoded: malformed, or too large for the memory limit."""
        if isinstance(error, ProtocolError):
            self.counts.malformed += 1
            self.warn_once(f"kind {record.kind} malformed", error)
        else:
            self.note_undrawn(record, error)

    def note_undrawn(self, record: Record, error: Exception) -> None:
        """Count a record, or a part of a record, that cannot be drawn."""
        self.counts.drawing_failures += 1
        self.warn_once(f"kind {record.kind} not drawn", str(error) or repr(error))

    def note_damages(self, damages: Iterable[str]) -> None:
        """Count damaged places in the recording."""
        for damage in damages:
            self.counts.damages += 1
            self.warn_once("damaged recording", damage)

    def note_findings(self, changes: Iterable[Finding]) -> None:
        """Count findings that opened or cleared, and log them; a finding that opens again and again is logged less."""
        for finding in changes:
            opened = finding.state == "open"
            self.counts.findings_opened += opened
            self.counts.findings_cleared += not opened
            if self.tells_findings:
                self._log_finding(finding, opened=opened)

    def _log_finding(self, finding: Finding, *, opened: bool) -> None:
        times = self._said[finding.rule, finding.tag] = self._said[finding.rule, finding.tag] + opened
        if times & (times - 1):  # neither the first nor the second, fourth, eighth ... time
            return
        often = f" (time {times:,})" if times > 1 else ""
        advice = f": {finding.advice}" if opened else ""
        level = _LEVELS[finding.severity] if opened else logging.INFO
        _log.log(level, "run %s: %s%s%s", printable(self._run), printable(str(finding)), often, advice)

    def tell_once(self, fact: str) -> None:
        """Log a fact that is no trouble the first time."""
        if fact not in self._warned:
            self._warned.add(fact)
            _log.info("run %s: %s (%s)", self._run, fact, self._folder)

    def warn_once(self, trouble: str, reason: object) -> None:
        """Log a kind of trouble the first time."""
        if trouble not in self._warned:
            self._warned.add(trouble)
            _log.warning("%s: %s: %s (logged once; see %s)", self._run, trouble, reason, self._folder)


def belongs_to(recording: Path, logdir: Path) -> bool:
    """Tell whether a recording lies in the hidden folder for recordings of ``logdir``."""
    return Path(os.path.realpath(recording)).is_relative_to(os.path.realpath(logdir / RECORDING_NAME))


def _is_light(record: Record) -> bool:
    return record.kind in (Kind.SCALARS, Kind.POINT) and len(record.body) <= _LIGHT_MAX_BYTES


def _are_silent(records: deque[Record]) -> bool:
    """Tell whether these first records of a stream show nothing, with no record missing before or between them."""
    known = 0 < len(records) <= _SILENT_RECORDS_MAX and all(record.kind in SILENT for record in records)
    return known and records[-1].next_sequence == 1 + len(records)


def shows_something(folder: Path) -> bool:
    """Tell whether a recording alone is enough for its stream to be shown. Raises Malformed, OSError."""
    tail = _Tail(folder)
    try:
        return bool(tail.read_on(1, 1))
    finally:
        tail.close()


def in_stream_order(found: Iterable[tuple[Beginning, T]]) -> list[T]:
    """Return the items, one for each recording, in the order in which their recordings are projected.

    The order is by run and rank, and within these by attempt, earlier attempts first: a later attempt must not write
    events before an earlier attempt. Two recordings of one stream, a journal and the rest of an outbox, are neighbours.
    """
    runs: defaultdict[tuple[str, int], list[tuple[Beginning, T]]] = defaultdict(list)
    for begin, item in found:
        runs[begin.stream.run, begin.stream.rank].append((begin, item))
    return [item for run in sorted(runs) for item in _in_attempt_order(runs[run])]


def _in_attempt_order(found: list[tuple[Beginning, T]]) -> list[T]:
    if len(found) == 1:
        return [found[0][1]]
    attempts: dict[bytes, Attempt] = {}
    for (stream, start_ns, seen_ns), _ in found:
        new = Attempt(start_ns / 1e9, stream.attempt, stream.id.hex(), seen_ns / 1e9)
        known = attempts.get(stream.id, new)
        attempts[stream.id] = min(new, known)._replace(seen=min(new.seen, known.seen))
    place = {attempt.stream: place for place, attempt in enumerate(in_order(attempts.values()))}
    found.sort(key=lambda one: (place[one[0].stream.id.hex()], one[0].start_ns))
    return [item for _, item in found]
