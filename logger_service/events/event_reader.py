"""Reading event files back: frames first, then events, with damage told and never raised."""

import mmap
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from google.protobuf.message import DecodeError
from tensorboardX.proto.event_pb2 import Event

from tensorboard_sidecar.logger_service.events.identity import EventId, find_id
from tensorboard_sidecar.protocol.frame import Damage, End, Frame, read_frame

# An event holds a whole record, drawn: more than a record's own bytes, far less than this.
EVENT_SIZE_MAX_BYTES: Final = 2**30
# Every event this program writes has an id; a few at the end are enough to find one.
_TAIL_EVENTS: Final = 8


def read_payloads(path: Path) -> Iterator[memoryview | Damage | End]:
    """Yield the payload of every whole frame, and what is no frame; the last item is an :class:`End`.

    A bad head ends the file, as it does for TensorBoard: what may lie behind it is shown by nobody.
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
    """As :func:`read_payloads`, parsed; a payload that is no event is :class:`Damage` of unknown place."""
    for item in read_payloads(path):
        if isinstance(item, memoryview):
            event = parse_event(item)
            yield Damage(0, 0, "a frame that holds no event") if event is None else event
        else:
            yield item


def parse_event(payload: memoryview) -> Event | None:
    """Return the event, or None when the bytes are none."""
    try:
        return Event.FromString(payload)
    except DecodeError:
        return None


def began_at_seconds(path: Path) -> float | None:
    """Return the time of the first event in a file; None when there is none, or none that is whole."""
    event = next(read_events(path))
    return event.wall_time if isinstance(event, Event) else None


def last_id(path: Path) -> EventId | None:
    """Return the id of the last event in a file; a torn one at the end does not count."""
    tail = deque((item for item in read_payloads(path) if isinstance(item, memoryview)), maxlen=_TAIL_EVENTS)
    for payload in reversed(tail):
        event = parse_event(payload)
        identity = None if event is None else find_id(event)
        if identity is not None:
            return identity
    return None
