"""Message to body and back: msgpack maps, field names as keys.

Encoding (msgpack) trusts the types of this program. Decoding (msgspec) trusts nothing: a body is decoded straight into
its message type, so that a wrong type or a length beyond its bound ends the decoding before anything is allocated.
(Decoding into plain lists and maps first cost up to 80 MB for a body of 5 KB.) The checks of the kind follow. A message
with a limit on all its items together is decoded item by item, so that this limit ends the decoding as well.
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Final, TypeVar

import msgpack
import msgspec
import numpy as np
from msgspec import Meta
from msgspec.msgpack import Decoder

from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.frame import Buffer
from tensorboard_sidecar.protocol.kinds import KINDS, chart_parts, check_size, find_kind, node_parts
from tensorboard_sidecar.protocol.limits import GRAPH_NODES_MAX, GRAPH_PARTS_MAX, LAYOUT_CHARTS_MAX, LAYOUT_PARTS_MAX
from tensorboard_sidecar.protocol.messages import (
    Audio,
    Charts,
    Embedding,
    Graph,
    GraphNode,
    HParams,
    Layout,
    Message,
    RunEnd,
    RunStart,
)
from tensorboard_sidecar.protocol.names import check_step
from tensorboard_sidecar.protocol.record import Kind, Record

T = TypeVar("T")

# Fields that are left out of the body while they are 0, false or empty: bodies without them stay byte for byte as they
# were before these fields.
_OMITTED_WHEN_ZERO: Final[dict[type, tuple[str, ...]]] = {
    RunStart: ("continues", "file_suffix"),
    Audio: ("single",),
    Embedding: ("first_row", "row_count"),
    HParams: ("folder", "domains"),
    RunEnd: ("plain",),
}


class _GraphPieces(msgspec.Struct):
    nodes: Annotated[list[msgspec.Raw], Meta(max_length=GRAPH_NODES_MAX)]


class _LayoutPieces(msgspec.Struct):
    categories: Annotated[dict[str, msgspec.Raw], Meta(max_length=LAYOUT_CHARTS_MAX)]


_GRAPH_PIECES: Final = Decoder(_GraphPieces)
_GRAPH_NODE: Final = Decoder(GraphNode)
_LAYOUT_PIECES: Final = Decoder(_LayoutPieces)
_CHARTS: Final[Decoder[Charts]] = Decoder(Charts)
# One packer for all calls: making a packer costs more than packing. The packer packs plain dicts only. Without a
# callback into Python no other thread can run in the middle of a call.
_SCALARS_PACKER: Final = msgpack.Packer()


def encode_body(message: msgspec.Struct) -> bytes:
    """Return the msgpack body of a message (or of a wire message's fields). Raises TypeError, naming a foreign type.

    >>> from tensorboard_sidecar.protocol.messages import RunEnd
    >>> encode_body(RunEnd("failed")).hex(" ")
    '81 a6 73 74 61 74 75 73 a6 66 61 69 6c 65 64'
    """
    body: bytes = msgpack.packb(message, default=_plain)
    return body


def encode_scalars(values: dict[str, float]) -> bytes:
    """Return the body of ``Scalars(values)`` without making a ``Scalars``: every training step encodes this body."""
    body: bytes = _SCALARS_PACKER.pack({"values": values})
    return body


def decode_message(record: Record) -> Message | None:
    """Return the message of a record, or None for a kind that this program does not know.

    Raises Malformed or TooLarge.
    """
    row = find_kind(record.kind)
    if row is None:
        return None
    check_step(record.step)
    message = _DECODE[record.kind](record.body)
    row.check(message)
    return message


def decode_body(body: Buffer, decoder: Decoder[T], name: str = "") -> T:
    """Decode and check the types. Raises Malformed; the error begins with ``name``, or with the name of the type."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"{name or decoder.type.__name__}: {error!s:.200}") from None


def _plain(value: Any) -> Any:
    """Return a value that msgpack can pack in place of a struct or a number of numpy."""
    if isinstance(value, msgspec.Struct):
        if value.__struct_config__.omit_defaults:
            return msgspec.to_builtins(value, builtin_types=(bytes,))
        fields = msgspec.structs.asdict(value)
        for name in _OMITTED_WHEN_ZERO.get(type(value), ()):
            if not fields[name]:
                del fields[name]
        return fields
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__name__} came; expected numbers, texts, lists and maps of them")


def _decode_graph(body: Buffer) -> Graph:
    nodes, parts = [], 0
    for piece in decode_body(body, _GRAPH_PIECES, "Graph").nodes:
        nodes.append(node := decode_body(piece, _GRAPH_NODE))
        parts += node_parts(node)
        check_size("graph: parts", parts, GRAPH_PARTS_MAX)
    return Graph(nodes)


def _decode_layout(body: Buffer) -> Layout:
    categories, parts = {}, 0
    for title, piece in decode_body(body, _LAYOUT_PIECES, "Layout").categories.items():
        categories[title] = charts = decode_body(piece, _CHARTS, "Layout")
        parts += chart_parts(charts)
        check_size("layout: parts", parts, LAYOUT_PARTS_MAX)
    return Layout(categories)


_DECODE: Final[dict[int, Callable[[Buffer], Message]]] = {
    **{row.kind: partial(decode_body, decoder=Decoder(row.message_type)) for row in KINDS},
    Kind.GRAPH: _decode_graph,
    Kind.LAYOUT: _decode_layout,
}
