"""Message to body and back: msgpack maps, field names as keys.

Encoding trusts this program's own types. Decoding trusts nothing: lengths are bounded before anything is allocated,
then types are converted by msgspec, then values are checked.
"""

from typing import Any, Final, TypeVar

import msgpack
import msgspec

from protocol.checks import check_message
from protocol.errors import Malformed, ProtocolError, TooLarge
from protocol.limits import BODY_ITEMS_MAX, BODY_LIST_MAX, RECORD_SIZE_MAX_BYTES, TEXT_MAX_CHARACTERS
from protocol.messages import (
    Audio,
    Embedding,
    Gap,
    Graph,
    HParams,
    Images,
    Layout,
    Matrix,
    Message,
    RunEnd,
    RunStart,
    Scalars,
    SegmentHead,
    TensorSummaries,
    Text,
)
from protocol.names import check_step
from protocol.record import Kind, Record

KINDS: Final[dict[type[Message], Kind]] = {
    SegmentHead: Kind.SEGMENT,
    RunStart: Kind.RUN_START,
    Scalars: Kind.SCALARS,
    TensorSummaries: Kind.TENSOR_SUMMARIES,
    Matrix: Kind.MATRIX,
    Images: Kind.IMAGES,
    Text: Kind.TEXT,
    Audio: Kind.AUDIO,
    Embedding: Kind.EMBEDDING,
    Graph: Kind.GRAPH,
    Layout: Kind.LAYOUT,
    HParams: Kind.HPARAMS,
    Gap: Kind.GAP,
    RunEnd: Kind.RUN_END,
}
# Kept, since making a packer costs more than packing. It packs plain dicts only: with no callback into Python there is
# no moment at which another thread could get in between.
_SCALARS_PACKER: Final = msgpack.Packer()
T = TypeVar("T")
_TYPES: Final = {kind: message_type for message_type, kind in KINDS.items()}


def encode_body(message: msgspec.Struct) -> bytes:
    """Return the msgpack body of a message (or of a wire message's fields)."""
    body: bytes = msgpack.packb(message, default=msgspec.structs.asdict)
    return body


def encode_scalars(values: dict[str, float]) -> bytes:
    """Return the body of ``Scalars(values)``, without the detour over the type: the one body made every step."""
    body: bytes = _SCALARS_PACKER.pack({"values": values})
    return body


def decode_message(record: Record) -> Message | None:
    """Return the record's message, or None for a kind this program does not know.

    Raises Malformed or TooLarge.
    """
    message_type = _TYPES.get(record.kind)  # type: ignore[call-overload]
    if message_type is None:
        return None
    check_step(record.step)
    message: Message = decode_body(record.body, message_type)
    check_message(message)
    return message


def decode_body(body: bytes, message_type: type[T]) -> T:
    """Decode and type-check; raise Malformed or TooLarge."""
    try:
        return msgspec.convert(_unpack(body), message_type, strict=True, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise Malformed(f"{message_type.__name__}: {error}") from None


def _unpack(body: bytes) -> Any:
    """Unpack plain data: no ext types, string keys only, every length bounded. Raises Malformed or TooLarge."""
    count = _ItemCount()
    length_max = min(len(body), BODY_LIST_MAX)  # an item takes one byte at least
    try:
        return msgpack.unpackb(
            body,
            strict_map_key=True,
            list_hook=count,
            object_hook=count,
            ext_hook=_refuse_ext,
            max_str_len=4 * TEXT_MAX_CHARACTERS,
            max_bin_len=RECORD_SIZE_MAX_BYTES,
            max_array_len=length_max,
            max_map_len=length_max,
            max_ext_len=0,
        )
    except ProtocolError:
        raise
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise Malformed(f"body is no msgpack of this protocol: {str(error) or type(error).__name__:.200}") from None


class _ItemCount:
    """Called with each list and map as it is complete; stops a body of too many."""

    def __init__(self) -> None:
        self._items = 0

    def __call__(self, container: T) -> T:
        self._items += 1 + len(container)  # type: ignore[arg-type]
        if self._items > BODY_ITEMS_MAX:
            raise TooLarge("items in one body", self._items, BODY_ITEMS_MAX)
        return container


def _refuse_ext(code: int, data: bytes) -> Any:
    raise Malformed(f"body holds ext type {code} of {len(data)} bytes; this protocol has none")
