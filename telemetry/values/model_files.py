"""Models in files to graphs: ONNX, and the XML of OpenVINO. The file is read and parsed at the call.

Nodes have unique names, and each input is the name of a node: TensorBoard draws no other graph. The limits of a record
are those of ``fit.graph``.
"""

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from xml.parsers import expat

from tensorboard_sidecar.protocol.limits import GRAPH_NODES_MAX, RECORD_SIZE_MAX_BYTES
from tensorboard_sidecar.protocol.messages import Graph, GraphNode

# A layer of OpenVINO has a few edges; the file of a model that fits a record is smaller than a record.
_EDGES_MAX: Final = 10 * GRAPH_NODES_MAX
_ATTRIBUTE_MAX_CHARACTERS: Final = 400
_ITEMS_MAX: Final = 16


def onnx_graph(path: Any) -> Graph:
    """Return the graph of an ONNX file (a path), or of a loaded model. Raises ModuleNotFoundError without ``onnx``.

    Inputs and weights are nodes. The external data of weights is not read.
    """
    if isinstance(path, str | Path):
        try:
            import onnx  # noqa: PLC0415 - only programs with ONNX files have the package
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("add_onnx_graph needs the package onnx: pip install onnx") from error
        path = onnx.load(str(path), load_external_data=False)
    graph = path.graph
    weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    nodes = [
        GraphNode(value.name, "Input", output_shapes=[_shape(value)])
        for value in graph.input
        if value.name not in weights
    ]
    nodes += [GraphNode(name, "Parameter", output_shapes=[shape]) for name, shape in weights.items()]
    for number, node in enumerate(graph.node):
        name = node.output[0] if node.output else f"{node.op_type}_{number}"
        nodes.append(GraphNode(name, node.op_type, list(node.input), [], _attributes(node.attribute)))
    makers = {output: node.output[0] for node in graph.node for output in node.output}
    return Graph(_linked(nodes, makers))


def openvino_graph(path: Any) -> Graph:
    """Return the graph of OpenVINO's XML file. Raises ValueError for another or a larger file, OSError.

    A document type, and with it every entity, is refused.
    """
    if Path(path).stat().st_size > RECORD_SIZE_MAX_BYTES:
        raise ValueError(f"a file of more than {RECORD_SIZE_MAX_BYTES:,} bytes")
    model = _OpenVino()
    try:
        model.read(Path(path).read_bytes())
    except expat.ExpatError as error:
        raise ValueError(f"no XML: {error}") from error
    except KeyError as error:
        raise ValueError(f"a layer or an edge without {error}; expected the XML of OpenVINO") from error
    if not model.layers:
        raise ValueError("no layers; expected the XML of OpenVINO")
    return Graph(_linked(model.nodes(), {}))


class _OpenVino:
    """The layers of a model of OpenVINO by their ids, and the ids of the layers that each of them reads."""

    def __init__(self) -> None:
        self.layers: dict[str, dict[str, str]] = {}
        self._sources: dict[str, list[str]] = {}
        self._edges = 0

    def read(self, data: bytes) -> None:
        """Add the layers and edges of a document. Raises ExpatError; KeyError, ValueError for another document."""
        parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.StartDoctypeDeclHandler = self._refuse
        parser.Parse(data, True)

    def nodes(self) -> list[GraphNode]:
        """Return a node for each layer."""
        names = {identity: layer.get("name", identity) for identity, layer in self.layers.items()}
        return [
            GraphNode(
                names[identity],
                layer.get("type", "layer"),
                [names[source] for source in self._sources.get(identity, ()) if source in names],
            )
            for identity, layer in self.layers.items()
        ]

    def _start(self, element: str, attributes: dict[str, str]) -> None:
        if element == "layer":
            self.layers[attributes["id"]] = attributes
        elif element == "edge":
            self._edges += 1
            self._sources.setdefault(attributes["to-layer"], []).append(attributes["from-layer"])
        if len(self.layers) > GRAPH_NODES_MAX or self._edges > _EDGES_MAX:
            raise ValueError(f"more than {GRAPH_NODES_MAX:,} layers or {_EDGES_MAX:,} edges")

    def _refuse(self, *_: Any) -> None:
        raise ValueError("a document type; expected the plain XML of a model")


def _shape(value: Any) -> list[int]:
    """Return the sides of an input; a side that is only a name is -1."""
    return [int(side.dim_value) or -1 for side in value.type.tensor_type.shape.dim]


def _attributes(attributes: Iterable[Any]) -> dict[str, str]:
    """Return the settings of a node as texts, without tensors and graphs, whose texts may be as large as the file."""
    return {attribute.name: _setting(attribute) for attribute in attributes}


def _setting(attribute: Any) -> str:
    for field in ("ints", "floats", "strings"):
        if values := getattr(attribute, field, ()):
            return str([_text(value) for value in values[:_ITEMS_MAX]])
    fields = {field.name: value for field, value in attribute.ListFields() if field.name in ("i", "f", "s")}
    return ", ".join(str(_text(value)) for value in fields.values())[:_ATTRIBUTE_MAX_CHARACTERS]


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace")[:_ATTRIBUTE_MAX_CHARACTERS] if isinstance(value, bytes) else value


def _linked(nodes: list[GraphNode], makers: Mapping[str, str]) -> list[GraphNode]:
    """Return nodes with unique names, and with inputs that are names of nodes.

    ``makers`` has the name of the node that makes an output, for the outputs with other names.
    """
    scopes = {scope for node in nodes for scope in _scopes(node.name)}
    shown: dict[str, str] = {}
    named = []
    for node in nodes:
        name = _unique(node.name or node.operation, scopes)
        scopes.add(name)
        shown.setdefault(node.name, name)
        named.append((name, node))
    return [
        GraphNode(
            name,
            node.operation,
            list(dict.fromkeys(shown[source] for each in node.inputs if (source := makers.get(each, each)) in shown)),
            node.output_shapes,
            node.attributes,
        )
        for name, node in named
    ]


def _scopes(name: str) -> Iterable[str]:
    parts = name.split("/")
    return ("/".join(parts[:length]) for length in range(1, len(parts)))


def _unique(name: str, taken: set[str]) -> str:
    numbered = (f"{name}_{number}" for number in itertools.count(len(taken)))
    return next(each for each in itertools.chain([name], numbered) if each not in taken)
