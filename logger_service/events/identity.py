"""Ids of events: every event names its record, in a field that TensorBoard ignores.

An id is ``<stream, 32 hex digits>/<sequence>/<place>``. ``sequence`` is the last sequence number of the record (a gap
has several), ``place`` counts the events of the record from 0. The id is in the ``node_name`` of the first value, in
the ``msg`` of a session log, or in an attribute of the first node of a graph. The event files themselves thus tell how
far a projection has come, and no second file can disagree with them.
"""

import re
from typing import Any, Final, NamedTuple, Self

from google.protobuf.message import DecodeError
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.graph_pb2 import GraphDef

GRAPH_ATTRIBUTE: Final = "_telemetry_id"
_PATTERN: Final = re.compile(r"([0-9a-f]{32})/([0-9]{1,20})/([0-9]{1,9})")


class EventId(NamedTuple):
    """Id of an event; within a stream, ids sort in the order of writing."""

    stream: bytes
    sequence: int
    place: int

    def __str__(self) -> str:
        return f"{self.stream.hex()}/{self.sequence}/{self.place}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the id in ``text``; None for a text that is no id."""
        match = _PATTERN.fullmatch(text)
        return None if match is None else cls(bytes.fromhex(match[1]), int(match[2]), int(match[3]))


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


def _nodes(graph_def: bytes) -> list[Any]:
    """Return the nodes of a graph; no nodes when another program wrote bytes that are no graph."""
    try:
        return list(GraphDef.FromString(graph_def).node)
    except DecodeError:
        return []
