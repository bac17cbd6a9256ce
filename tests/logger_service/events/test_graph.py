from tensorboardX.proto.graph_pb2 import GraphDef

from tensorboard_sidecar.logger_service.events.graph import graph_bytes
from tensorboard_sidecar.protocol.messages import Graph, GraphNode


def test_nodes_keep_names_inputs_shapes_and_attributes() -> None:
    nodes = [
        GraphNode("input", "Input", output_shapes=[[-1, 3], []]),
        GraphNode("a/b", "Linear", ["input"], [], {"bias": "no"}),
    ]
    first, second = GraphDef.FromString(graph_bytes(Graph(nodes))).node
    shapes = first.attr["_output_shapes"].list.shape
    assert [[side.size for side in shape.dim] for shape in shapes] == [[-1, 3], []]
    assert (second.name, second.op, list(second.input), second.attr["bias"].s) == ("a/b", "Linear", ["input"], b"no")


def test_the_order_of_attributes_does_not_matter() -> None:
    """Maps are serialised in the order of their keys."""
    names = [f"attribute {number}" for number in range(50)]
    one, other = (Graph([GraphNode("a", "b", attributes=dict.fromkeys(order, "x"))]) for order in (names, names[::-1]))
    assert graph_bytes(one) == graph_bytes(other)
