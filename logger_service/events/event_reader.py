"""Reader of event files: frames first, then events. Damage is yielded, and never raised."""

import mmap
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from google.protobuf.message import DecodeError
from tensorboardX.proto.event_pb2 import Event

from tensorboard_sidecar.logger_service.events.identity import EventId, find_id
from tensorboard_sidecar.protocol.frame import Damage, End, Frame, read_frame

# An event holds a whole record with its pictures: larger than the record, far smaller than this.
EVENT_SIZE_MAX_BYTES: Final = 2**30
# Every event of this program has an id: a few events at the end of a file are enough to find an id.
_TAIL_EVENTS: Final = 8


def read_payloads(path: Path) -> Iterator[memoryview | Damage | End]:
    """Yield the payload of every whole frame, and damage between frames; the last item is an :class:`End`.

    A bad head ends the file here as in TensorBoard, which shows no event behind the bad head.
    """
    with path.open("rb") as file:
        empty = file.seek(0, 2) == 0
        content = memoryview(b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    start = 0
    while True:
        item = read_frame(content, start, payload_size_max_bytes=EVENT_SIZE_MAX_BYTES, resynchronise=False)
        yield item.payload if isinstance(item, Frame) else item
        if isinstance(item, End):
            return
        start = item.end


def read_events(path: Path) -> Iterator[Event | Damage | End]:
    """Yield the parsed events, damage, and the end; a payload that is no event becomes :class:`Damage` at place 0."""
    for item in read_payloads(path):
        if isinstance(item, memoryview):
            event = parse_event(item)
            yield Damage(0, 0, "a frame that holds no event") if event is None else event
        else:
            yield item


def parse_event(payload: memoryview) -> Event | None:
    """Return the event in ``payload``; None when the bytes are no event."""
    try:
        return Event.FromString(payload)
    except DecodeError:
        return None


def began_at_seconds(path: Path) -> float | None:
    """Return the time of the first event in a file; None for a file that does not begin with a whole event."""
    event = next(read_events(path))
    return event.wall_time if isinstance(event, Event) else None


def last_id(path: Path) -> EventId | None:
    """Return the id of the last whole event in a file, or None."""
    tail = deque((item for item in read_payloads(path) if isinstance(item, memoryview)), maxlen=_TAIL_EVENTS)
    for payload in reversed(tail):
        event = parse_event(payload)
        identity = None if event is None else find_id(event)
        if identity is not None:
            return identity
    return None
