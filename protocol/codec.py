"""Message to body and back: msgpack maps, field names as keys.

Encoding, by msgpack, trusts this program's own types. Decoding, by msgspec, trusts nothing: a body is decoded into its
type and no further, so that the wrong type or a length beyond its bound ends it before anything is allocated (a body
decoded into plain lists and maps first cost up to 80 MB for 5 KB); then values are checked.
"""

from typing import Final, TypeVar

import msgpack
import msgspec
from msgspec.msgpack import Decoder

from protocol.checks import check_message
from protocol.errors import Malformed
from protocol.frame import Buffer
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
T = TypeVar("T")
_DECODERS: Final[dict[int, Decoder[Message]]] = {kind: Decoder(message_type) for message_type, kind in KINDS.items()}
# Kept, since making a packer costs more than packing. It packs plain dicts only: with no callback into Python there is
# no moment at which another thread could get in between.
_SCALARS_PACKER: Final = msgpack.Packer()


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
    decoder = _DECODERS.get(record.kind)
    if decoder is None:
        return None
    check_step(record.step)
    message = decode_body(record.body, decoder)
    check_message(message)
    return message


def decode_body(body: Buffer, decoder: Decoder[T]) -> T:
    """Decode and type-check; raise Malformed."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"{decoder.type.__name__}: {error!s:.200}") from None
