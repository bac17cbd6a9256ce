"""The findings of one stream: its watch sees every record, and what it says becomes events of the record that it saw.

A record at which findings open or clear has one more event, behind its own: the number of open findings, and the card.
The own events of such a record announce it (``events.identity``). The end of a run has the card too: there it says what
was not checked. The steps of these events only grow, as those of gaps do (``stream_parts``), for the same reason.

The watch depends on all records of the stream. After a restart the records before the next one are read again for the
watch, once, when that record comes: a stream that does not go on costs nothing. The same records give the same watch,
also with points that wait in it to be judged together.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from tensorboard_sidecar.logger_service.events.findings_card import findings_card, findings_event
from tensorboard_sidecar.logger_service.events.identity import EventId, announce_findings
from tensorboard_sidecar.logger_service.findings.records import UNWATCHED, observe
from tensorboard_sidecar.logger_service.findings.rules.registry import RULES
from tensorboard_sidecar.logger_service.findings.watch import Watch
from tensorboard_sidecar.logger_service.projection.stream_parts import GapPlace
from tensorboard_sidecar.protocol.codec import decode_message
from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.limits import STEP_MAX
from tensorboard_sidecar.protocol.messages import Message, RunEnd
from tensorboard_sidecar.protocol.record import Kind, Record

# After this many changes, only every so many-th change has a card, and the end of the run: a finding that opens and
# clears again and again fills no disk. Each change has a point of the curve.
CARDS_MAX: Final = 64
# Records that are read again between two looks at the clock; larger records count for more.
_LOOK_RECORDS: Final = 256
_LOOK_SIZE_BYTES: Final = 2**16


class Said(NamedTuple):
    """What a record changed: the findings that opened or cleared, and the step of the event; ``card``: with the card.

    A record at the end of a run says something without a change.
    """

    changes: list[Finding]
    step: int
    card: bool


class View:
    """The watch of a stream from its first record on. Pure: the same records give the same state.

    ``failure`` is the last error of the watch, which then did not see a record.
    """

    def __init__(self) -> None:
        self.watch = Watch(RULES)
        self.failure: Exception | None = None
        self._next_step = 0
        self._events = 0

    def take(self, record: Record, message: Message | None) -> Said | None:
        """Show the next record to the watch, a gap as it is placed; return what it changes, None for nothing."""
        try:
            changes = observe(self.watch, record, message)
        except Exception as error:  # noqa: BLE001 - the watch of a record costs neither the record nor the stream
            self.failure, changes = error, []
        if isinstance(message, RunEnd) and (changes or not message.plain or self.watch.ledger.findings):
            return self.say(record, changes, ends=True)
        return self.say(record, changes) if changes else None

    def say(self, record: Record, changes: list[Finding], *, ends: bool = False) -> Said:
        """Return what a record changes, at the next step; ``ends``: at the end of the run."""
        step = min(max(record.step, self._next_step), STEP_MAX)
        self._next_step = step + 1
        self._events += 1
        return Said(changes, step, card=ends or self._events <= CARDS_MAX or self._events % CARDS_MAX == 0)

    def card(self) -> str:
        """Return the card as it is now."""
        return findings_card(self.watch.ledger.findings, self.watch.not_checked())


class StreamFindings:
    """The findings of the stream ``stream_id``, of which ``last_id`` is the last event in the files, or None.

    ``view`` is None while records must be read again. ``records_before(n, m)`` returns the records before the sequence
    number ``n`` from ``m`` on, gaps included. ``first_sequence`` is the first number that the recording may hold: those
    before may be in another recording of the stream, and are no gap for the watch.
    """

    def __init__(
        self, stream_id: bytes, last_id: EventId | None, records_before: Callable[[int, int], Iterator[Record]]
    ) -> None:
        self._stream_id, self._records_before = stream_id, records_before
        self.view: View | None = View() if last_id is None else None
        # The last sequence number whose findings are written, or that has none.
        self._done = 0 if last_id is None else last_id.sequence - last_id.more
        self.first_sequence = 1
        # The last number of a record whose own events alone are in the files, and the first number that it may have.
        self._torn = last_id.sequence if last_id is not None and last_id.more else 0
        self._torn_from = 0
        self._past: _Past | None = None
        self._blind = False

    @property
    def findings(self) -> list[Finding]:
        """The findings, while the stream is watched."""
        return [] if self.view is None else self.view.watch.ledger.findings

    @property
    def failure(self) -> Exception | None:
        """The last error of the watch."""
        return None if self.view is None else self.view.failure

    @property
    def reads(self) -> bool:
        """Whether records are being read again."""
        return self._past is not None

    def must_read(self, record: Record) -> bool:
        """Tell whether earlier records must be read before the next record can be shown to the watch."""
        return self.view is None and not (self._blind or self._is_done(record))

    def read(self, sequence: int, start_ns: int, enough: Callable[[], bool]) -> bool:
        """Read the records before a sequence number, until ``enough()``; return whether all are read.

        ``start_ns`` is the time at which the stream began. Raises OSError.
        """
        past = self._past = self._past or _Past(start_ns, self.first_sequence)
        past.records = past.records or self._records_before(max(sequence, self._done + 1), past.next_sequence)
        if not past.read(enough):
            return False
        self.view, self._past, self._torn_from = past.view, None, past.next_sequence
        return True

    def see_scalars(self, record: Record, values: Mapping[str, float], tags: tuple[str, ...]) -> Said | None:
        """Do as :meth:`see` for scalars with these tags: nine records in ten."""
        view = self.view
        if view is None:
            return None
        try:
            changes = view.watch.scalars(record.step, record.wall_time_ns, values, tags)
        except Exception as error:  # noqa: BLE001 - as in View.take
            view.failure = error
            return None
        return view.say(record, changes) if changes else None

    def see(self, record: Record, message: Message | None) -> Said | None:
        """Show a record to the watch; return what it changes, None for nothing."""
        if self.view is None or self._is_done(record):
            return None
        if record.kind == Kind.GAP:
            if record.next_sequence <= self.first_sequence:
                return None
            if record.next_sequence - 1 == self._torn:  # its last number alone is shown again
                first_sequence = min(self._torn_from, record.sequence)
                record = record._replace(sequence=first_sequence, span=record.next_sequence - first_sequence)
        return self.view.take(record, message)

    def add(self, said: Said, record: Record, events: list[bytes]) -> list[bytes]:
        """Return the events of a record with that of its findings."""
        assert self.view is not None  # noqa: S101 - it has seen the record
        identity = EventId(self._stream_id, record.next_sequence - 1, len(events))
        card = self.view.card() if said.card else None
        open_count = self.view.watch.ledger.open_count
        more = findings_event(card, open_count, record.wall_time_ns, said.step, identity)
        return [*map(announce_findings, events), more]

    def close(self) -> None:
        """Close the file of records that are read again."""
        if self._past is not None:
            self._past.records = None

    def rest(self) -> None:
        """Forget the watch; all records are read again when another one comes."""
        self.view = self._past = None

    def give_up(self) -> None:
        """Watch the stream no more: reading its records again failed."""
        self.view, self._past, self._blind = None, None, True

    def _is_done(self, record: Record) -> bool:
        return record.next_sequence - 1 <= self._done


class _Past:
    """The records from ``next_sequence`` on, read again for the watch of a stream that began at ``start_ns``."""

    def __init__(self, start_ns: int, next_sequence: int) -> None:
        self.view = View()
        self.next_sequence = next_sequence
        self.records: Iterator[Record] | None = None
        self._place = GapPlace(start_ns)

    def read(self, enough: Callable[[], bool]) -> bool:
        """Read on until ``enough()``; return whether there are no more records."""
        look_in = _LOOK_RECORDS
        for record in self.records or ():
            self._take(record)
            self.next_sequence = record.next_sequence
            look_in -= 1 + len(record.body) * _LOOK_RECORDS // _LOOK_SIZE_BYTES
            if look_in <= 0:
                if enough():
                    return False
                look_in = _LOOK_RECORDS
        return True

    def _take(self, record: Record) -> None:
        placed, message = self._place.place(record), None
        if record.kind not in UNWATCHED:
            try:
                message = decode_message(record)  # as it came
            except ProtocolError:
                return  # as when the record was shown: it was left blank
        self.view.take(placed, message)
