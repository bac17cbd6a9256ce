"""The flight recorder: keeps the scalars of the last steps at full rate, and ships them when something goes wrong.

Rule 1: a call keeps its values in the flight ring, in shared memory, and waits for nobody (see
``outbox.ring_memory``). Values on a device are kept when their copy has arrived. The ring survives a kill of the
process, and the program that delivers the orphaned outbox ships the ring (see ``protocol.outbox.flight_ring``).
Rule 2: three things ship a burst: the loop's word, a value that is not finite, and an exception that ends the run. The
sender thread looks for values that are not finite, and ships; the close ships what is left, before the run's end.
Rule 3: a value that is not finite ships one burst. The next such value ships another burst only after all values of as
many steps as the recorder keeps were finite: a run whose losses are all NaN ships one burst.
Rule 4: an error of the recorder stops the recorder. The error is logged, and costs no record of the outbox.
"""

import logging
import math
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from time import monotonic, sleep
from typing import Final, NamedTuple, TypeVar

from tensorboard_sidecar.protocol.codec import decode_message, encode_body
from tensorboard_sidecar.protocol.frame import Frame, read_frame
from tensorboard_sidecar.protocol.kinds import check_message
from tensorboard_sidecar.protocol.limits import STEP_MAX
from tensorboard_sidecar.protocol.messages import Scalars, Text
from tensorboard_sidecar.protocol.outbox.flight_ring import REASON_TAG, burst_text, choose, merge, read_entries
from tensorboard_sidecar.protocol.printable import printable
from tensorboard_sidecar.protocol.record import Kind, Record, parse_record
from tensorboard_sidecar.telemetry.outbox.device_slots import Build
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox
from tensorboard_sidecar.telemetry.outbox.ring_memory import Place, RingMemory
from tensorboard_sidecar.telemetry.values.device_copy import DeviceCopy

T = TypeVar("T")
REASON_MAX_CHARACTERS: Final = 500
# A double in msgpack whose exponent has all bits set: NaN or an infinity. Other bytes may look alike.
_NOT_FINITE: Final = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")
# Entries that the sender thread has not looked at. A sender that stands still for longer misses values.
_UNSEEN_MAX: Final = 2**14
# Calls whose values are on their way: a device queues about a thousand launches.
_ARRIVING_MAX: Final = 4096
# The sender thread makes way for the training thread after so many entries: each time some 0.2 ms.
_SHIPPED_AT_ONCE: Final = 16
_LOOKED_AT_AT_ONCE: Final = 128
_PAUSE_SECONDS: Final = 0.001
# How long a close waits for a burst of the sender thread, and for values on a device.
_CLOSE_SECONDS: Final = 2.0
ARRIVAL_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.01
# Reasons of earlier bursts in the text of the latest burst.
_REASONS_MAX: Final = 16
_log = logging.getLogger(__name__)


def exception_reason(error: BaseException) -> str:
    """Return the type and the message of an exception in one line: no traceback, and no values of variables.

    >>> exception_reason(ValueError("batch 7 is empty"))
    'ValueError: batch 7 is empty'
    """
    try:
        message = str(error)[: 2 * REASON_MAX_CHARACTERS]
    except Exception:  # noqa: BLE001 - an exception of a user may fail to make its message
        message = ""
    return one_line(f"{type(error).__name__}: {message}" if message else type(error).__name__)


def one_line(text: str) -> str:
    r"""Return a text of one line that prints, cut to 500 characters.

    >>> one_line("first\n  second")
    'first second'
    """
    return printable(" ".join(text[: 2 * REASON_MAX_CHARACTERS].split()))[:REASON_MAX_CHARACTERS]


class FiniteWatch:
    """Decides when values that are not finite ship a burst: see rule 3 of the module."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._finite_steps, self._step, self._waits = 0, -1, False

    def look(self, entry: bytes, step: int) -> str:
        """Look at an entry of the ring as it was placed at ``step``; return the reason for a burst, empty for none."""
        reason = _reason(entry) if _NOT_FINITE.search(entry) else ""
        if reason:
            ships, self._waits, self._finite_steps, self._step = not self._waits, True, 0, step
            return reason if ships else ""
        if step != self._step:
            self._step = step
            self._finite_steps += 1
            self._waits = self._waits and self._finite_steps < self._steps
        return ""


class _Call(NamedTuple):
    """A call whose values are on their way from a device."""

    step: int
    wall_time_ns: int
    copies: Sequence[DeviceCopy]
    build: Build


class ArrivingCalls:
    """Calls whose values are on their way from a device, in order; each is given to ``keep`` when it has arrived."""

    def __init__(self, keep: Callable[[int, int, bytes], None]) -> None:
        self._keep = keep
        self._calls: deque[_Call] = deque(maxlen=_ARRIVING_MAX)
        self._first: _Call | None = None  # taken from the calls, since an append may drop the oldest one
        self._spent: deque[_Call] = deque()
        self._said = False

    def add(self, step: int, wall_time_ns: int, copies: Sequence[DeviceCopy], build: Build) -> None:
        """Wait for the copies of a call. For the training thread: torch may call the device when it frees memory."""
        self._spent.clear()
        self._calls.append(_Call(step, wall_time_ns, copies, build))

    def poll(self) -> bool:
        """Keep the calls that have arrived; return whether others are on their way. For one thread at a time."""
        while self._first is not None or self._calls:
            self._first = self._first or self._calls.popleft()
            if not self._keep_arrived(self._first):
                return True
            self._spent.append(self._first)
            self._first = None
        return False

    def _keep_arrived(self, call: _Call) -> bool:
        """Keep a call, or drop the call when fetching fails; return False while a copy is under way."""
        try:
            if not all(copy.ready() for copy in call.copies):
                return False
            message = call.build([copy.array() for copy in call.copies])
            check_message(message)
            self._keep(call.step, call.wall_time_ns, encode_body(message))
        except Exception as error:  # noqa: BLE001 - whatever the error, the calls behind this one must be kept
            if not self._said:
                self._said = True
                _log.warning("values of step %d for the flight recorder: %s (said once)", call.step, error)
        return True


class FlightRecorder:
    """Keeps the scalars of the last ``steps`` steps beside ``outbox``, and ships them to ``outbox``.

    Raises OSError when memory for the ring is not available.
    """

    def __init__(self, outbox: Outbox, steps: int) -> None:
        self._outbox = outbox
        self._ring = RingMemory(outbox.folder, steps)
        self._watch = FiniteWatch(steps)
        self._unseen: deque[tuple[Place, int]] = deque(maxlen=_UNSEEN_MAX)
        self._arriving = ArrivingCalls(self.keep)
        self._due: deque[tuple[str, int]] = deque(maxlen=_REASONS_MAX)
        self._told: deque[str] = deque(maxlen=_REASONS_MAX)
        self._turn = threading.Lock()  # held by the sender thread in a turn, and by the close
        self._last: Record | None = None  # the last entry that was shipped
        self._over = False

    def keep(self, step: int, wall_time_ns: int, body: bytes) -> None:
        """Keep encoded scalars. Any thread may call; raises nothing."""
        if self._over:
            return
        try:
            place = self._ring.append(step, wall_time_ns, body)
            if place is not None:
                self._unseen.append((place, step))
        except Exception as error:  # noqa: BLE001 - rule 4
            self._stop(error)

    def keep_copies(self, step: int, wall_time_ns: int, copies: Sequence[DeviceCopy], build: Build) -> None:
        """Keep the scalars ``build(arrays)`` once the copies have arrived. For the training thread."""
        if not self._over:
            self._arriving.add(step, wall_time_ns, copies, build)

    def ship(self, reason: str, step: int) -> None:
        """Have the sender thread ship the steps before ``step``, and all from there on; does not wait."""
        self._due.append((one_line(reason), step))

    def step(self) -> None:
        """Keep what has arrived, look for values that are not finite, and ship what is due. For the sender thread."""
        if self._turn.acquire(blocking=False):
            try:
                self._ship_due(lambda: sleep(_PAUSE_SECONDS))
            finally:
                self._turn.release()

    def close(self, error: BaseException | None = None, seconds: float = ARRIVAL_SECONDS) -> None:
        """Ship a burst if ``error`` ended the run, or if a burst is due; then delete the ring. Raises nothing.

        After an error, waits for the device at most ``seconds``, and one second. When the sender thread is in the
        middle of a long burst for two seconds, the ring stays, and is shipped with the rest of the outbox.
        """
        if not self._turn.acquire(timeout=_CLOSE_SECONDS):
            _log.warning("the flight ring in %s is not shipped in time", self._outbox.folder)
            return
        try:
            if error is not None and not self._over:
                self._due.append((exception_reason(error), STEP_MAX + 1))
                self._await_device(min(seconds, ARRIVAL_SECONDS))
            self._ship_due(lambda: None)
            self._over = True
            self._ring.close()
        finally:
            self._turn.release()

    def _ship_due(self, pause: Callable[[], None]) -> None:
        if self._over:
            return
        try:
            self._arriving.poll()
            self._look_at_new(pause)
            due = [self._due.popleft() for _ in range(len(self._due))]
            if due:
                reason, since_step = "; ".join(reason for reason, _ in due), min(step for _, step in due)
                _log.info("the flight recorder of run %s ships: %s", self._outbox.stream.run, reason)
                ring = self._ring.copy(pause)
                entries = choose(_paced(read_entries(ring), pause), self._ring.mark, since_step)
                self._ship_text(burst_text(reason, entries), entries)  # first: a kill leaves the rest to others
                self._ship_entries(_paced(merge(entries), pause))
        except Exception as error:  # noqa: BLE001 - rule 4
            self._stop(error)

    def _ship_entries(self, records: Iterable[Record]) -> None:
        """Append the records of a burst. A kill between a record and its mark ships that record twice."""
        for record in records:
            self._outbox.append(Kind.SCALARS, record.step, record.wall_time_ns, record.body)
            self._ring.write_mark(self._ring.mark.behind(record))

    def _ship_text(self, text: str, entries: Sequence[Record]) -> None:
        """Append the reasons of all bursts, the latest first: texts of the same step replace each other."""
        self._last = entries[-1] if entries else self._last
        if self._last is not None:
            self._told.appendleft(text)
            body = encode_body(Text(REASON_TAG, "\n\n".join(self._told)))
            self._outbox.append(Kind.TEXT, self._last.step, self._last.wall_time_ns, body)

    def _look_at_new(self, pause: Callable[[], None]) -> None:
        for _ in _paced(range(len(self._unseen)), pause, _LOOKED_AT_AT_ONCE):
            place, step = self._unseen.popleft()
            reason = self._watch.look(self._ring.read(place), step)
            if reason:
                self._due.append((reason, step))

    def _await_device(self, seconds: float) -> None:
        until_seconds = monotonic() + seconds
        while self._arriving.poll() and monotonic() < until_seconds:
            sleep(_LOOK_SECONDS)

    def _stop(self, error: Exception) -> None:
        """Stop for good; what is in the ring stays there until the close."""
        if not self._over:
            self._over = True
            _log.warning("the flight recorder stopped: %r; other records are not affected", error)


def _paced(items: Iterable[T], pause: Callable[[], None], at_once: int = _SHIPPED_AT_ONCE) -> Iterator[T]:
    for number, item in enumerate(items, 1):
        yield item
        if number % at_once == 0:
            pause()


def _reason(entry: bytes) -> str:
    """Return the first value in an entry that is not finite, as a reason; empty when there is none."""
    frame = read_frame(memoryview(entry), 0, resynchronise=False)
    if not isinstance(frame, Frame):
        return ""  # overwritten
    record = parse_record(frame.payload)
    message = decode_message(record)
    values = message.values.items() if isinstance(message, Scalars) else ()
    found = next((f"{tag} is {value}" for tag, value in values if not math.isfinite(value)), "")
    return one_line(f"{found} at step {record.step:,}") if found else ""
