"""Ids of events: every event names its record, in a field that TensorBoard ignores; event files are read back by id.

An id is ``<stream, 32 hex digits>/<sequence>/<place>``. ``sequence`` is the last sequence number of the record (a gap
has several), ``place`` counts the events of the record from 0. A ``+`` behind the place tells that findings of the
record follow, in an event of their own: a later reader knows that without watching the stream. The id is in the
``node_name`` of the first value, in the ``msg`` of a session log, or in an attribute of the first node of a graph. The
event files themselves thus tell how far a projection has come, and no second file can disagree with them.

The readers of event files yield damage, and never raise because of damage.
"""

import mmap
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from google.protobuf.message import DecodeError
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.graph_pb2 import GraphDef

from tensorboard_sidecar.protocol.frame import Damage, End, Frame, read_frame

GRAPH_ATTRIBUTE: Final = "_telemetry_id"
# The place of an event that lies in a folder in the run's folder: its folder has the events of some records only. The
# event of the same record in the run's folder has a smaller place.
BESIDE_PLACE: Final = 100_000_000
_PATTERN: Final = re.compile(r"([0-9a-f]{32})/([0-9]{1,20})/([0-9]{1,9})(\+?)")
# An event holds a whole record with its pictures: larger than the record, far smaller than this.
EVENT_SIZE_MAX_BYTES: Final = 2**30
# Every event of this program has an id: a few events at the end of a file are enough to find an id.
_TAIL_EVENTS: Final = 8


class EventId(NamedTuple):
    """Id of an event; within a stream, ids sort in the order of writing. ``more``: findings of the record follow."""

    stream: bytes
    sequence: int
    place: int
    more: bool = False

    def __str__(self) -> str:
        return f"{self.stream.hex()}/{self.sequence}/{self.place}{'+' if self.more else ''}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the id in ``text``; None for a text that is no id."""
        match = _PATTERN.fullmatch(text)
        return None if match is None else cls(bytes.fromhex(match[1]), int(match[2]), int(match[3]), bool(match[4]))


def name_event(event: Event, identity: EventId) -> None:
    """Write the id into an event that holds a summary with a value, a session log or a graph with a node."""
    match event.WhichOneof("what"):
        case "summary":
            event.summary.value[0].node_name = str(identity)
        case "session_log":
            event.session_log.msg = str(identity)
        case "graph_def":
            graph = GraphDef.FromString(event.graph_def)
            graph.node[0].attr[GRAPH_ATTRIBUTE].s = str(identity).encode()
            event.graph_def = graph.SerializeToString(deterministic=True)
        case content:
            raise ValueError(f"an event with {content} has no place for an id")


def announce_findings(serialised: bytes) -> bytes:
    """Return an event with an id that tells that findings of its record follow."""
    event = Event.FromString(serialised)
    identity = find_id(event)
    if identity is not None:
        name_event(event, identity._replace(more=True))
    announced: bytes = event.SerializeToString()
    return announced


def find_id(event: Event) -> EventId | None:
    """Return the id of an event; None for the version of a file and for the event of another program."""
    match event.WhichOneof("what"):
        case "summary" if event.summary.value:
            return EventId.parse(event.summary.value[0].node_name)
        case "session_log":
            return EventId.parse(event.session_log.msg)
        case "graph_def":
            nodes = _nodes(event.graph_def)
            return EventId.parse(nodes[0].attr[GRAPH_ATTRIBUTE].s.decode(errors="replace")) if nodes else None
        case _:
            return None


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
            event = _parse(item)
            yield Damage(0, 0, "a frame that holds no event") if event is None else event
        else:
            yield item


def began_at_seconds(path: Path) -> float | None:
    """Return the time of the first event in a file; None for a file that does not begin with a whole event."""
    event = next(read_events(path))
    return event.wall_time if isinstance(event, Event) else None


def last_id(path: Path) -> EventId | None:
    """Return the id of the last whole event in a file, or None."""
    tail = deque((item for item in read_payloads(path) if isinstance(item, memoryview)), maxlen=_TAIL_EVENTS)
    for payload in reversed(tail):
        event = _parse(payload)
        identity = None if event is None else find_id(event)
        if identity is not None:
            return identity
    return None


def _parse(payload: memoryview) -> Event | None:
    try:
        return Event.FromString(payload)
    except DecodeError:
        return None


def _nodes(graph_def: bytes) -> list[Any]:
    """Return the nodes of a graph; no nodes when another program wrote bytes that are no graph."""
    try:
        return list(GraphDef.FromString(graph_def).node)
    except DecodeError:
        return []
