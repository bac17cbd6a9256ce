"""A model's architecture as TensorBoard's graph."""

from collections.abc import Sequence
from typing import Final

from tensorboardX.proto.attr_value_pb2 import AttrValue
from tensorboardX.proto.graph_pb2 import GraphDef
from tensorboardX.proto.node_def_pb2 import NodeDef
from tensorboardX.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboardX.proto.versions_pb2 import VersionDef

from tensorboard_sidecar.protocol.messages import Graph, GraphNode

# Edge labels come from this attribute (tensorboard/plugins/graph/tf_graph_common/graph.ts).
_SHAPES: Final = "_output_shapes"
# What TensorFlow 1.x graphs of today say; TensorBoard asks for no more.
_PRODUCER: Final = 22


def graph_bytes(graph: Graph) -> bytes:
    """Return the serialised GraphDef, the same bytes for the same graph."""
    nodes = [_node(node) for node in graph.nodes]
    serialised: bytes = GraphDef(node=nodes, versions=VersionDef(producer=_PRODUCER)).SerializeToString(
        deterministic=True
    )
    return serialised


def _node(node: GraphNode) -> NodeDef:
    attributes = {key: AttrValue(s=text.encode("utf-8", "replace")) for key, text in node.attributes.items()}
    if node.output_shapes:
        shapes = [_shape(sides) for sides in node.output_shapes]
        attributes[_SHAPES] = AttrValue(list=AttrValue.ListValue(shape=shapes))
    return NodeDef(name=node.name, op=node.operation, input=node.inputs, attr=attributes)


def _shape(sides: Sequence[int]) -> TensorShapeProto:
    return TensorShapeProto(dim=[TensorShapeProto.Dim(size=side) for side in sides])
