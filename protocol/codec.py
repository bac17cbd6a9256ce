"""Message to body and back: msgpack maps, field names as keys.

Encoding, by msgpack, trusts this program's own types. Decoding, by msgspec, trusts nothing: a body is decoded into its
type and no further, so that the wrong type or a length beyond its bound ends it before anything is allocated (a body
decoded into plain lists and maps first cost up to 80 MB for 5 KB); then values are checked. What has a limit on its
whole beside those on its pieces is decoded a piece at a time, so that this one ends it as well.
"""

from collections.abc import Callable
from typing import Annotated, Any, Final, TypeVar

import msgpack
import msgspec
import numpy as np
from msgspec import Meta
from msgspec.msgpack import Decoder

from tensorboard_sidecar.protocol.checks import chart_parts, check_message, check_parts, node_parts
from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.frame import Buffer
from tensorboard_sidecar.protocol.limits import GRAPH_NODES_MAX, GRAPH_PARTS_MAX, LAYOUT_CHARTS_MAX, LAYOUT_PARTS_MAX
from tensorboard_sidecar.protocol.messages import (
    Audio,
    Charts,
    Embedding,
    Gap,
    Graph,
    GraphNode,
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
from tensorboard_sidecar.protocol.names import check_step
from tensorboard_sidecar.protocol.record import Kind, Record

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


class _GraphPieces(msgspec.Struct):
    nodes: Annotated[list[msgspec.Raw], Meta(max_length=GRAPH_NODES_MAX)]


class _LayoutPieces(msgspec.Struct):
    categories: Annotated[dict[str, msgspec.Raw], Meta(max_length=LAYOUT_CHARTS_MAX)]


_DECODERS: Final[dict[int, Decoder[Message]]] = {kind: Decoder(message_type) for message_type, kind in KINDS.items()}
_GRAPH_PIECES: Final = Decoder(_GraphPieces)
_GRAPH_NODE: Final = Decoder(GraphNode)
_LAYOUT_PIECES: Final = Decoder(_LayoutPieces)
_CHARTS: Final[Decoder[Charts]] = Decoder(Charts)
# Kept, since making a packer costs more than packing. It packs plain dicts only: with no callback into Python there is
# no moment at which another thread could get in between.
_SCALARS_PACKER: Final = msgpack.Packer()


def encode_body(message: msgspec.Struct) -> bytes:
    """Return the msgpack body of a message (or of a wire message's fields). Raises TypeError, naming a foreign type."""
    body: bytes = msgpack.packb(message, default=_plain)
    return body


def _plain(value: Any) -> Any:
    """Return what msgpack packs in place of a type that it does not know."""
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.asdict(value)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__name__} came; expected numbers, texts, lists and maps of them")


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
    decode = _PIECEWISE.get(record.kind)
    message = decode(record.body) if decode else decode_body(record.body, decoder)
    check_message(message)
    return message


def decode_body(body: Buffer, decoder: Decoder[T], what: str = "") -> T:
    """Decode and type-check; raise Malformed, naming ``what``, or else the type."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"{what or decoder.type.__name__}: {error!s:.200}") from None


def _decode_graph(body: Buffer) -> Graph:
    nodes, parts = [], 0
    for piece in decode_body(body, _GRAPH_PIECES, "Graph").nodes:
        nodes.append(node := decode_body(piece, _GRAPH_NODE))
        parts += node_parts(node)
        check_parts("graph", parts, GRAPH_PARTS_MAX)
    return Graph(nodes)


def _decode_layout(body: Buffer) -> Layout:
    categories, parts = {}, 0
    for title, piece in decode_body(body, _LAYOUT_PIECES, "Layout").categories.items():
        categories[title] = charts = decode_body(piece, _CHARTS, "Layout")
        parts += chart_parts(charts)
        check_parts("layout", parts, LAYOUT_PARTS_MAX)
    return Layout(categories)


_PIECEWISE: Final[dict[int, Callable[[Buffer], Message]]] = {Kind.GRAPH: _decode_graph, Kind.LAYOUT: _decode_layout}
