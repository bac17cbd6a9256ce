"""The flight ring: a file in an outbox with the scalars of the last steps, for the moment when something goes wrong.

A flight recorder writes to the ring at each step, and most of it is never read. When an error opens, the entries that
were not shipped before become records of the stream, under tags that begin with ``flight/``: a burst. The recorder
ships the burst of a living trainer. After a kill, the program that claims the orphaned outbox adds the burst behind the
last record of the stream (``orphan``).

Rule 1: the file begins with two marks. A mark is a frame; it holds the number of steps that count, and the last entry
that was shipped. The marks are written in turn, so that a kill in the middle of one leaves the other.
Rule 2: an entry is a frame with a record of scalars, numbered from 1. Entries lie one behind the other. An entry that
does not fit before the end of the file lies behind the marks again, over the oldest entries. The rest of the file is
cleared: an old entry there would outlive newer ones.
Rule 3: a reader takes each whole entry, wherever it begins. Entries that are half overwritten, torn by a kill, or
damaged are skipped.
Rule 4: a burst holds the entries of the last steps, in the order of their steps, and of their numbers within a step. An
entry is shipped once, and never behind an entry that comes later in this order: TensorBoard's fast loader would drop
the later points.
"""

import logging
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple, Self

from tensorboard_sidecar.protocol.codec import decode_message, encode_body, encode_scalars
from tensorboard_sidecar.protocol.errors import Malformed, ProtocolError
from tensorboard_sidecar.protocol.frame import Damage, End, Frame, pack_frame, read_frame, valid_length
from tensorboard_sidecar.protocol.limits import FLIGHT_RING_SIZE_MAX_BYTES, STEP_MAX, TAG_MAX_CHARACTERS, TAGS_MAX
from tensorboard_sidecar.protocol.messages import Scalars, Text
from tensorboard_sidecar.protocol.record import FrameBatch, Kind, Record, pack_record, parse_record
from tensorboard_sidecar.protocol.storage.durable import opened

RING_NAME: Final = "flight.ring"
MARKS: Final = 2
MARK_SIZE_BYTES: Final = 64
ENTRIES_START: Final = MARKS * MARK_SIZE_BYTES
REASON_TAG: Final = "flight/reason"
_PREFIX: Final = "flight/"
_SIZE_MIN_BYTES: Final = 2**16
# Some 100 scalars with names of usual length. A step that logs more leaves room for fewer steps.
_STEP_BYTES: Final = 4096
_MARK: Final = struct.Struct("<QQqQ")
_VERSION: Final = 1
# Places without an entry: a ring has one where the oldest entry was overwritten, and one for each thread that a kill
# interrupted. The bound is for rubbish, where each false head would cost the checksum of the rest.
_DAMAGES_MAX: Final = 64
_KILLED: Final = "the process ended without closing its telemetry: it was killed, or it crashed"
_log = logging.getLogger(__name__)


def ring_size_bytes(steps: int) -> int:
    """Return the size of the ring for ``steps`` steps.

    >>> ring_size_bytes(500)
    2048000
    """
    return min(max(steps * _STEP_BYTES, _SIZE_MIN_BYTES), FLIGHT_RING_SIZE_MAX_BYTES)


class Mark(NamedTuple):
    """How many ``steps`` count; the step and the number of the last entry that was shipped, -2**53 and 0 for none."""

    steps: int
    shipped_step: int = -STEP_MAX
    shipped: int = 0

    def behind(self, entry: Record) -> Self:
        """Return the mark after an entry was shipped."""
        return self._replace(shipped_step=entry.step, shipped=entry.sequence)

    def is_before(self, entry: Record) -> bool:
        """Return whether an entry can be shipped: no entry of its step or of a later step was shipped before it."""
        return (self.shipped_step, self.shipped) < (entry.step, entry.sequence)

    def pack(self) -> bytes:
        """Return the frame of the mark."""
        return pack_frame(_MARK.pack(_VERSION, *self))

    @classmethod
    def read(cls, ring: memoryview) -> Self:
        """Return the mark of a ring. Raises Malformed when both marks are damaged."""
        found = []
        for start in range(0, ENTRIES_START, MARK_SIZE_BYTES):
            frame = read_frame(ring[:ENTRIES_START], start, resynchronise=False)
            if isinstance(frame, Frame) and len(frame.payload) == _MARK.size:
                version, *fields = _MARK.unpack(frame.payload)
                if version == _VERSION:
                    found.append(cls(*fields))
        if not found:
            raise Malformed("a flight ring without a whole mark")
        return max(found, key=lambda mark: mark[1:])


def read_entries(ring: memoryview) -> Iterator[Record]:
    """Yield the whole entries of a ring, as rule 3 says; their order is that of their places."""
    at, damages = ENTRIES_START, 0
    while True:
        item = read_frame(ring, at)
        if isinstance(item, Frame):
            at = item.end
            entry = _parse(item.payload)
            if entry is not None:
                yield entry
            continue
        damages += 1
        if damages > _DAMAGES_MAX or (isinstance(item, End) and not item.needed):
            return
        # Behind a valid head there may be newer entries, when another thread did not complete its entry.
        bad_head = isinstance(item, Damage) and valid_length(ring, item.start) is None
        at = item.end if isinstance(item, Damage) and bad_head else item.start + 1


def choose(entries: Iterable[Record], mark: Mark, since_step: int = STEP_MAX + 1) -> list[Record]:
    """Return the entries that a burst ships, as rule 4 says.

    The steps from ``since_step`` on, where something went wrong, are shipped as well, and do not count.
    """
    steps: set[int] = set()
    chosen = []
    for entry in sorted(entries, key=lambda entry: entry.sequence, reverse=True):
        if entry.step < since_step:
            steps.add(entry.step)
        if len(steps) > mark.steps:
            break
        if mark.is_before(entry):
            chosen.append(entry)
    return sorted(chosen, key=lambda entry: (entry.step, entry.sequence))


def flight_tag(tag: str) -> str:
    """Return the tag under which a burst shows the values of ``tag``; a long tag is cut, with a checksum.

    >>> flight_tag("loss/train")
    'flight/loss/train'
    """
    shown = _PREFIX + tag
    if len(shown) <= TAG_MAX_CHARACTERS:
        return shown
    end = f"\N{HORIZONTAL ELLIPSIS}{zlib.crc32(tag.encode()):08x}"
    return shown[: TAG_MAX_CHARACTERS - len(end)] + end


def merge(entries: Iterable[Record]) -> Iterator[Record]:
    """Yield the records of a burst: the values of a step together, each tag once, with its latest value.

    A record has the number of the last entry of its step. An entry that no reader would take is left out. A step with
    more tags than a record may have is several records.

    >>> entries = [Record(Kind.SCALARS, n, 7, 0, encode_scalars({tag: 0.5})) for n, tag in enumerate(("loss", "lr"), 1)]
    >>> [decode_message(record) for record in merge(entries)]
    [Scalars(values={'flight/loss': 0.5, 'flight/lr': 0.5})]
    """
    for _, group in groupby(entries, key=lambda entry: entry.step):
        values: dict[str, float] = {}
        for entry in group:
            with suppress(ProtocolError):
                message = decode_message(entry)
                if isinstance(message, Scalars):
                    values |= {flight_tag(tag): value for tag, value in message.values.items()}
        tags = [*values]
        for first in range(0, len(tags), TAGS_MAX):
            part = {tag: values[tag] for tag in tags[first : first + TAGS_MAX]}
            yield entry._replace(body=encode_scalars(part))


def burst_text(reason: str, records: Sequence[Record]) -> str:
    """Return the text that tells why a burst was shipped, as markdown: ``reason`` as code, and its steps.

    >>> burst_text("loss is nan at step 7", [Record(Kind.SCALARS, 1, 5, 0, b""), Record(Kind.SCALARS, 2, 7, 0, b"")])
    '`loss is nan at step 7`: steps 5 to 7'
    """
    steps = f"steps {records[0].step:,} to {records[-1].step:,}" if records else "no further steps"
    return f"`{reason.replace('`', chr(39))}`: {steps}"


class Burst:
    """The burst of an orphaned outbox: records of its stream from ``first_sequence`` on, none for no entries.

    The records depend on the bytes in the outbox alone: two programs that claim the same outbox, one after the other,
    make the same records.
    """

    def __init__(self, entries: Sequence[Record], first_sequence: int) -> None:
        records = [*merge(entries)]
        if records:
            text = encode_body(Text(REASON_TAG, burst_text(_KILLED, records)))
            records.append(records[-1]._replace(kind=Kind.TEXT, body=text))
        self.first_sequence, self.next_sequence = first_sequence, first_sequence + len(records)
        self._records = records

    def read(self, sequence: int, size_max_bytes: int) -> FrameBatch | None:
        """Return records from ``sequence`` on, at least one and about ``size_max_bytes``; None at the end."""
        frames: list[bytes] = []
        size, at = 0, sequence
        for record in self._records[sequence - self.first_sequence :]:
            frame = pack_frame(pack_record(record._replace(sequence=at)))
            size += len(frame)
            if frames and size > size_max_bytes:
                break
            frames.append(frame)
            at += 1
        return FrameBatch(memoryview(b"".join(frames)), sequence, at) if frames else None


def read_burst(outbox: Path, first_sequence: int) -> Burst:
    """Return the burst of the ring in an orphaned outbox; it is empty without a ring, and for a ring that is damaged.

    A damaged ring never costs the records of the outbox: it is logged.
    """
    try:
        with opened(outbox / RING_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) as file:
            ring = memoryview(os.read(file, FLIGHT_RING_SIZE_MAX_BYTES))
        return Burst(choose(read_entries(ring), Mark.read(ring)), first_sequence)
    except FileNotFoundError:
        return Burst([], first_sequence)
    except (OSError, ProtocolError) as error:
        _log.warning("the flight ring of %s is not shipped: %s", outbox, error)
        return Burst([], first_sequence)


def _parse(payload: memoryview) -> Record | None:
    try:
        entry = parse_record(payload)
    except ProtocolError:
        return None
    return entry if entry.kind == Kind.SCALARS and abs(entry.step) <= STEP_MAX else None
