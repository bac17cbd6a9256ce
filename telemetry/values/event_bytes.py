"""Summaries and graphs of other programs to bytes of a ``tensorflow.Event``, without any library of protobuf.

Torch's, tensorboardX's and TensorBoard's own messages give their bytes by ``SerializeToString()``. The fields of an
event: 3 a file's version, 4 a graph, 5 a summary, 6 a log message, 7 a session log, 8 and 9 metadata of a graph.
"""

from collections.abc import Iterator
from typing import Any, Final

from tensorboard_sidecar.protocol.kinds import check_size
from tensorboard_sidecar.protocol.limits import RECORD_SIZE_MAX_BYTES

FILE_VERSION, GRAPH, SUMMARY = 3, 4, 5
_NAMES: Final = {6: "a log message", 7: "a session log", 8: "metadata of a run", 9: "a meta graph"}
_LENGTH_DELIMITED: Final = 2
_VARINT_MAX_BYTES: Final = 10


def serialised(proto: Any) -> bytes:
    """Return the bytes of a protobuf message, or bytes as given. Raises TypeError for other values, TooLarge."""
    if isinstance(proto, bytes | bytearray | memoryview):
        made = bytes(proto)
    else:
        serialise = getattr(proto, "SerializeToString", None)
        if serialise is None:
            raise TypeError(f"a {type(proto).__name__}; expected a protobuf message, or its bytes")
        made = serialise()
    if not isinstance(made, bytes):
        raise TypeError(f"SerializeToString() of a {type(proto).__name__} gives no bytes")
    check_size("an event in bytes", len(made), RECORD_SIZE_MAX_BYTES)
    return made


def wrap(field: int, content: bytes) -> bytes:
    r"""Return the bytes of an event with one field.

    >>> wrap(SUMMARY, b"abc")
    b'*\x03abc'
    """
    return bytes([field << 3 | _LENGTH_DELIMITED]) + _varint(len(content)) + content


def shows(event: bytes) -> bool:
    """Tell whether an event shows something: False for the version of a file.

    Raises ValueError for an event with neither a summary nor a graph, and for bytes that are no event.
    """
    fields = set(_fields(event))
    if fields & {GRAPH, SUMMARY}:
        return True
    if FILE_VERSION in fields or not fields - {1, 2}:
        return False
    names = [_NAMES.get(field, f"field {field}") for field in sorted(fields - {1, 2})]
    raise ValueError(f"an event with {', '.join(names)}; expected a summary or a graph")


def _varint(number: int) -> bytes:
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


def _fields(message: bytes) -> Iterator[int]:
    """Yield the number of each field. Raises ValueError for bytes that are no message."""
    place = 0
    while place < len(message):
        key, place = _read_varint(message, place)
        match key & 7:
            case 0:
                _, place = _read_varint(message, place)
            case 1:
                place += 8
            case 2:
                size, place = _read_varint(message, place)
                place += size
            case 5:
                place += 4
            case wire_type:
                raise ValueError(f"no event: wire type {wire_type}")
        if place > len(message):
            raise ValueError("no event: a field ends beyond the bytes")
        yield key >> 3


def _read_varint(message: bytes, place: int) -> tuple[int, int]:
    """Return a number of variable size and the place behind the number."""
    number = 0
    for shift, byte in enumerate(message[place : place + _VARINT_MAX_BYTES]):
        number |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return number, place + shift + 1
    raise ValueError("no event: a number without an end")
