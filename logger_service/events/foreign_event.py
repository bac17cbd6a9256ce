"""Events of programs that make summaries by themselves: untrusted bytes, parsed within a bound.

Protobuf takes up to a hundred bytes of memory for two bytes of an event (an empty message in a list). The bytes are
therefore stepped through first: the number of fields, counted along the types of the messages, is bounded before
protobuf sees the bytes. What stays of an event is its summary or its graph.
"""

from functools import lru_cache
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.graph_pb2 import GraphDef

from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.limits import TAG_MAX_CHARACTERS
from tensorboard_sidecar.protocol.names import UNPRINTABLE

# Fields of one event: a graph of 20,000 nodes with 20 fields each, or 100,000 values.
PARTS_MAX: Final = 500_000
# Packed whole numbers of one byte each take eight bytes of memory: this many count as one field.
_PACKED_BYTES_A_PART: Final = 16
# The deepest message that protobuf parses.
_DEPTH_MAX: Final = 100
_BYTES: Final = 2  # the wire type of bytes, texts, messages and packed lists
_VARINT_MAX_BYTES: Final = 10
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_PACKED: Final = object()
_WHOLE_NUMBERS: Final = frozenset(
    getattr(FieldDescriptor, f"TYPE_{name}")
    for name in ("INT32", "INT64", "UINT32", "UINT64", "SINT32", "SINT64", "BOOL", "ENUM")
)


def parse_event(data: bytes) -> Event:
    """Return an event with the summary or the graph of a serialised event, without its step and time.

    Characters of a tag that do not print are replaced, and a long tag is cut. Raises Malformed for bytes that are no
    event, for an event of too many fields, and for an event without a value and without a node.
    """
    check_parts(data)
    try:
        event = Event.FromString(data)
        graph = GraphDef.FromString(event.graph_def)
    except DecodeError as error:
        raise Malformed(f"an event that cannot be parsed: {error!s:.80}") from None
    match event.WhichOneof("what"):
        case "summary" if event.summary.value:
            for value in event.summary.value:
                if UNPRINTABLE.search(value.tag) or len(value.tag) > TAG_MAX_CHARACTERS:
                    value.tag = UNPRINTABLE.sub(_REPLACEMENT, value.tag)[:TAG_MAX_CHARACTERS]
            return Event(summary=event.summary)
        case "graph_def" if graph.node:
            return Event(graph_def=event.graph_def)
        case content:
            raise Malformed(f"an event with {content or 'nothing'}; expected a summary with a value, or a graph")


def check_parts(data: bytes, parts_max: int = PARTS_MAX) -> None:
    """Raise Malformed for bytes that are no message, or that have too many parts."""
    parts = 0
    outer: list[tuple[int, int, dict[int, Any]]] = []  # the messages around the present one: place, end, kinds
    start, end, kinds = 0, len(data), _kinds(Event.DESCRIPTOR)
    while True:
        while start >= end:
            if not outer:
                return
            start, end, kinds = outer.pop()
        key, start = _varint(data, start, end)
        first, start = _step(data, start, end, key & 7)
        inner = kinds.get(key >> 3) if key & 7 == _BYTES else None
        if inner is _PACKED:
            parts += (start - first) // _PACKED_BYTES_A_PART
        elif inner is not None:
            outer.append((start, end, kinds))
            if len(outer) > _DEPTH_MAX:
                raise Malformed(f"an event nested deeper than {_DEPTH_MAX}")
            start, end, kinds = first, start, _kinds(inner)
        parts += 1
        if parts > parts_max:
            raise Malformed(f"an event of more than {parts_max:,} fields")


@lru_cache(maxsize=256)
def _kinds(descriptor: Any) -> dict[int, Any]:
    """Return, by field number, the types of the messages inside, and _PACKED for lists of whole numbers."""
    kinds = {field.number: field.message_type for field in descriptor.fields if field.message_type is not None}
    kinds |= {field.number: _PACKED for field in descriptor.fields if field.type in _WHOLE_NUMBERS}
    if descriptor is Event.DESCRIPTOR:
        kinds[Event.GRAPH_DEF_FIELD_NUMBER] = GraphDef.DESCRIPTOR  # a message as bytes
    return kinds


def _step(data: bytes, start: int, end: int, wire_type: int) -> tuple[int, int]:
    """Return where the content of a field begins, and where the field ends."""
    first = start
    match wire_type:
        case 0:  # a whole number
            _, start = _varint(data, start, end)
        case 1:
            start += 8
        case 2:  # bytes, a text, a message or a packed list
            size, first = _varint(data, start, end)
            start = first + size
        case 5:
            start += 4
        case _:
            raise Malformed(f"an event with a field of the wire type {wire_type}")
    if start > end:
        raise Malformed("an event that is cut off")
    return first, start


def _varint(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Return a whole number of protobuf, and the place behind it."""
    if start < end and data[start] < 0x80:  # nearly all
        return data[start], start + 1
    number = shift = 0
    for place in range(start, min(end, start + _VARINT_MAX_BYTES)):
        byte = data[place]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, place + 1
        shift += 7
    raise Malformed("an event that is cut off")
