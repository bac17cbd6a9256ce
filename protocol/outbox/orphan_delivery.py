"""Finds orphaned outboxes, and delivers each to its recording and to a logger.

The next trainer, the logger and ``drain`` share this code. They differ in the :class:`Delivery` only: over a ZeroMQ
link, over a peer inside the logger's process, or to the writer of a recording.

Rule 1: an outbox with an owner is left alone. The owner's lock decides between the trainer, the next trainer, the
logger and ``drain``.
Rule 2: an outbox is claimed when its owner has been gone for a grace period that depends on the destination.
Rule 3: a delivery that may succeed later is released, and tried again after ``RETRY_SECONDS``. A delivery that failed
for good is not tried again. Each reason is logged once per outbox.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox
from tensorboard_sidecar.protocol.outbox.outbox_files import Destination, check_private, read_destination
from tensorboard_sidecar.protocol.outbox.owner_lock import OWNER_LOCK, read_owner
from tensorboard_sidecar.protocol.outbox.send_session import SendSession, SendState
from tensorboard_sidecar.protocol.storage.recording_writer import RecordingWriter

# Then another process may claim the outbox: a logger that does not take the records may be the wrong logger.
PATIENCE_SECONDS: Final = 30.0
RETRY_SECONDS: Final = 30.0
LOOK_INTERVAL_SECONDS: Final = 30.0
NEVER: Final = float("inf")
# About a millisecond of the interpreter's time where records are small: a delivery runs beside training.
_TURN_SIZE_MAX_BYTES: Final = 2**16
_log = logging.getLogger(__name__)


class Unclaimed(Exception):
    """The outbox has an owner, or another process has delivered and deleted the outbox."""


class TryLater(Exception):
    """The sink cannot take the orphan now; a later attempt may succeed."""


class Refused(Exception):
    """The sink will never take the orphan."""


def reason(error: Exception) -> str:
    """Return the text of an error; with the type when the error is unexpected."""
    expected = (TryLater, Refused, ProtocolError, LookupError, ValueError, OSError)
    return str(error) if isinstance(error, expected) else repr(error)


def claim(folder: Path, *, private: bool = False) -> OrphanedOutbox:
    """Take the owner's lock of an outbox whose trainer is gone.

    Raises Unclaimed when there is nothing to deliver, ProtocolError or OSError when the outbox cannot be read,
    PermissionError when ``private`` is asked for and other users have access.
    """
    try:
        if private:
            check_private(folder)
        return OrphanedOutbox(folder)
    except BlockingIOError:
        raise Unclaimed("its trainer runs and ships it itself") from None
    except (ProtocolError, OSError):
        if not (folder / OWNER_LOCK).exists():
            raise Unclaimed("shipped meanwhile, by a logger or a trainer") from None
        raise


class Link(Protocol):
    """A connection to a logger: a socket, or a peer inside the logger's process."""

    session: SendSession
    endpoint: str

    def step(self, now_seconds: float) -> bool:
        """Take the logger's answers, then send what the credit allows; return whether data were sent."""

    def close(self) -> None:
        """Close the connection."""


class SessionDelivery:
    """Sends ``orphan`` over ``link``.

    Gives up PATIENCE_SECONDS after the last progress, or, with ``limit_seconds``, after that time in total.
    """

    def __init__(
        self, orphan: OrphanedOutbox, link: Link, now_seconds: float, limit_seconds: float | None = None
    ) -> None:
        self.records = 0
        self._end_sequence, self._link = orphan.next_sequence, link
        self._acked_sequence = 0
        self._timeout_seconds = PATIENCE_SECONDS if limit_seconds is None else limit_seconds
        self._extends = limit_seconds is None
        self._deadline_seconds = now_seconds + self._timeout_seconds

    @property
    def result(self) -> str:
        """The word "shipped" when the logger holds all records durably, empty before."""
        return "shipped" if self._link.session.acked_sequence >= self._end_sequence else ""

    def step(self, now_seconds: float) -> bool:
        """Let the link receive and send; return whether data were sent."""
        sent, session = self._link.step(now_seconds), self._link.session
        if session.state is SendState.REFUSED:
            raise Refused(session.reason)
        if session.state is SendState.STREAMING and session.acked_sequence > self._acked_sequence:
            if not self._acked_sequence:  # the first WELCOME
                self.records = max(0, self._end_sequence - session.acked_sequence)
            self._acked_sequence = session.acked_sequence
            if self._extends:
                self._deadline_seconds = now_seconds + self._timeout_seconds
        if not self.result and now_seconds > self._deadline_seconds:
            no_answer = f"no logger answered at {self._link.endpoint} within {self._timeout_seconds:g} seconds"
            raise TryLater(session.reason or no_answer)
        return sent

    def close(self) -> None:
        """Close the link."""
        self._link.close()


class RecordingDelivery:
    """Appends the records of ``orphan`` to the recording that its trainer began below ``record``.

    A recording is up to half a second behind the calls that returned. The outbox holds the missing records.
    Raises FileNotFoundError when the recording lacks records that the outbox has released, ProtocolError for a damaged
    recording or a recording of another stream, OSError.
    """

    def __init__(self, orphan: OrphanedOutbox, record: Path, *, wall_time_ns: int) -> None:
        self.folder = record / orphan.stream.run / orphan.stream.folder_name
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


Delivery: TypeAlias = SessionDelivery | RecordingDelivery
"""The transfer of one orphan to one sink, in bounded steps.

``records`` is the number of records to transfer. ``result`` is empty until the sink holds all records durably, then a
phrase for the report. ``step`` returns whether more can be done at once; TryLater is not final. ``close`` releases the
sink; the orphan stays open.
"""


@dataclass(frozen=True, slots=True)
class Sink:
    """A recording or a logger.

    ``open`` begins the delivery of an orphan at a monotonic time, and returns None when the orphan has no such sink.
    ``grace_seconds`` returns how long an outbox with this destination is left alone: NEVER when the outbox is not for
    this sink. It raises Refused with a reason to log.
    """

    open: Callable[[OrphanedOutbox, float], Delivery | None]
    grace_seconds: Callable[[Destination], float] = lambda _: 0.0
    recording: bool = False


class OrphanDelivery:
    """Delivers ``orphan`` to ``sinks``, recordings first. A sink that fails does not stop the sinks after it."""

    def __init__(self, orphan: OrphanedOutbox, sinks: Iterable[Sink]) -> None:
        self.orphan = orphan
        self.outcomes: list[str | Exception] = []  # the result or the error of each sink
        self.records = 0
        self.settled = False
        self._sinks = deque(sorted(sinks, key=lambda sink: not sink.recording))
        self._delivery: Delivery | None = None

    @property
    def ended(self) -> bool:
        """Whether every sink has taken or refused the orphan."""
        return not self._sinks

    def step(self, now_seconds: float) -> bool:
        """Open the next sink, or transfer a bounded number of bytes; return whether more can be done at once."""
        try:
            if self._delivery is None:
                self._delivery = self._sinks[0].open(self.orphan, now_seconds)
                if self._delivery is None:
                    self._sinks.popleft()
                return True
            busy = self._delivery.step(now_seconds)
            if self._delivery.result:
                self._settle(self._delivery, recording=self._sinks[0].recording)
        except Exception as error:  # noqa: BLE001 - no bytes in an outbox may end a logger or a trainer
            self._end(error)
            return True
        return busy

    def close(self) -> None:
        """Release the sink and the orphan; delete the orphan when no sink waits for its records."""
        self._close_delivery()
        self.orphan.close(keep=not self.settled)

    def _settle(self, delivery: Delivery, *, recording: bool) -> None:
        try:
            self.settled = self.orphan.settle(recorded=recording, shipped=not recording)
        except OSError as error:
            raise TryLater(str(error)) from error
        self.records += delivery.records
        self._end(delivery.result)

    def _end(self, outcome: str | Exception) -> None:
        self.outcomes.append(outcome)
        self._sinks.popleft()
        self._close_delivery()

    def _close_delivery(self) -> None:
        if self._delivery is not None:
            self._delivery.close()
            self._delivery = None


@dataclass(slots=True)
class _Candidate:
    """An outbox without an owner: when to claim it, and why the latest attempt failed."""

    try_at_seconds: float
    failure: str = ""


class OrphanWorker:
    """Delivers the outboxes that ``find`` returns to ``sink``; used by one thread. No method raises.

    ``delivered`` counts outboxes, ``records`` their records.
    """

    def __init__(
        self, find: Callable[[], list[Path]], sink: Sink, look_interval_seconds: float = LOOK_INTERVAL_SECONDS
    ) -> None:
        self.delivered = self.records = 0
        self._find, self._sink, self._look_interval_seconds = find, sink, look_interval_seconds
        self._look_at_seconds = float("-inf")
        self._candidates: dict[Path, _Candidate] = {}
        self._current: OrphanDelivery | None = None

    @property
    def failed(self) -> int:
        """The number of outboxes without an owner whose delivery failed."""
        return sum(bool(candidate.failure) for candidate in self._candidates.values())

    @property
    def delivering(self) -> bool:
        """Whether the delivery of an orphan has begun and not ended."""
        return self._current is not None

    def step(self, now_seconds: float) -> bool:
        """Look for orphans, claim an orphan, or deliver a part; return whether more can be done at once."""
        if self._current is None:
            folder = self._next_due(now_seconds)
            if folder is None:
                return False
            self._look_at_seconds = now_seconds  # look again as soon as this delivery has ended
            self._current = self._claim(folder, now_seconds)
            if self._current is None:
                return True
        busy = self._current.step(now_seconds)
        if self._current.ended:
            self._finish(self._current, now_seconds)
        return busy

    def look_soon(self) -> None:
        """Look for orphans in the next step."""
        self._look_at_seconds = float("-inf")

    def close(self) -> None:
        """Release the orphan that is being delivered. The orphan stays, and another process can continue."""
        if self._current is not None:
            self._current.close()
            self._current = None

    def _next_due(self, now_seconds: float) -> Path | None:
        if now_seconds < self._look_at_seconds:
            return None
        self._look_at_seconds = now_seconds + self._look_interval_seconds
        try:
            folders = self._find()
        except OSError as error:
            _log.warning("cannot look for orphaned outboxes: %s", error)
            return None
        known, self._candidates = self._candidates, {}
        for folder in folders:
            if _has_owner(folder):
                continue
            self._candidates[folder] = known.get(folder) or _Candidate(NEVER)
            if folder not in known:
                self._plan(folder, now_seconds)
        due = (folder for folder, found in self._candidates.items() if now_seconds >= found.try_at_seconds)
        return next(due, None)

    def _plan(self, folder: Path, now_seconds: float) -> None:
        try:
            self._candidates[folder].try_at_seconds = now_seconds + self._sink.grace_seconds(read_destination(folder))
        except Refused as error:
            self._fail(folder, error, now_seconds)

    def _claim(self, folder: Path, now_seconds: float) -> OrphanDelivery | None:
        try:
            return OrphanDelivery(claim(folder, private=True), [self._sink])
        except Unclaimed:
            self._candidates[folder].try_at_seconds = now_seconds + self._look_interval_seconds
        except Exception as error:  # noqa: BLE001 - as in OrphanDelivery.step
            self._fail(folder, error, now_seconds)
        return None

    def _finish(self, ended: OrphanDelivery, now_seconds: float) -> None:
        self._current = None
        ended.close()
        folder, run = ended.orphan.folder, ended.orphan.stream.run
        outcome = ended.outcomes[0] if ended.outcomes else Refused("it has another destination")
        if isinstance(outcome, Exception):
            self._fail(folder, outcome, now_seconds)
            return
        del self._candidates[folder]
        self.delivered += 1
        self.records += ended.records
        report = outcome if ended.settled else f"{outcome}; stays for its other destination"
        _log.info("run %s: %s adopted: %d records its trainer left (%s)", run, folder, ended.records, report)

    def _fail(self, folder: Path, error: Exception, now_seconds: float) -> None:
        candidate, failure, retry = self._candidates[folder], reason(error), isinstance(error, TryLater)
        if candidate.failure != failure:
            again = f", tried again every {RETRY_SECONDS:g} s" if retry else ""
            by_hand = f"tensorboard-sidecar drain {folder} [--endpoint ADDRESS]"
            _log.warning("%s is not adopted: %.500s (logged once%s; by hand: %s)", folder, failure, again, by_hand)
        candidate.failure = failure
        candidate.try_at_seconds = now_seconds + (RETRY_SECONDS if retry else NEVER)


def _has_owner(folder: Path) -> bool:
    """Return whether a process holds the lock. An outbox that cannot be looked at counts as owned."""
    try:
        return read_owner(folder).holds
    except OSError:
        return True
