"""Models in files: ONNX (a stand-in with the package's names), OpenVINO."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tensorboard_sidecar.protocol.messages import GraphNode
from tensorboard_sidecar.telemetry.values import model_files
from tensorboard_sidecar.telemetry.values.model_files import onnx_graph, openvino_graph


def onnx_value(name: str, *sides: int) -> Any:
    dim = [SimpleNamespace(dim_value=side) for side in sides]
    return SimpleNamespace(name=name, type=SimpleNamespace(tensor_type=SimpleNamespace(shape=SimpleNamespace(dim=dim))))


def onnx_attribute(name: str, **fields: Any) -> Any:
    listed = [(SimpleNamespace(name="name"), name), *((SimpleNamespace(name=key), fields[key]) for key in fields)]
    return SimpleNamespace(name=name, ListFields=lambda: listed, **fields)


def onnx_node(operation: str, inputs: list[str], outputs: list[str], *attributes: Any) -> Any:
    return SimpleNamespace(op_type=operation, input=inputs, output=outputs, attribute=attributes)


MODEL = SimpleNamespace(
    graph=SimpleNamespace(
        input=[onnx_value("x", 0, 3), onnx_value("w", 3, 4)],
        initializer=[SimpleNamespace(name="w", dims=[3, 4])],
        output=[onnx_value("layer/y", 0, 4)],
        node=[
            onnx_node("MatMul", ["x", "w", ""], ["layer"], onnx_attribute("axis", i=1), onnx_attribute("how", s=b"so")),
            onnx_node("Split", ["layer"], ["layer/a", "layer/b"], onnx_attribute("sizes", ints=[1, 2])),
            onnx_node("Add", ["layer/a", "layer/b", "nowhere"], ["layer/y"], onnx_attribute("constant", t=object())),
            onnx_node("Sink", ["layer/y"], []),
        ],
    )
)


def test_a_model_of_onnx_is_a_graph_that_tensorboard_draws() -> None:
    """No node has the name of a scope, and each input is the name of a node."""
    assert onnx_graph(MODEL).nodes == [
        GraphNode("x", "Input", output_shapes=[[-1, 3]]),
        GraphNode("w", "Parameter", output_shapes=[[3, 4]]),
        GraphNode("layer_3", "MatMul", ["x", "w"], attributes={"axis": "1", "how": "so"}),
        GraphNode("layer/a", "Split", ["layer_3"], attributes={"sizes": "[1, 2]"}),
        GraphNode("layer/y", "Add", ["layer/a"], attributes={"constant": ""}),
        GraphNode("Sink_3", "Sink", ["layer/y"]),
    ]


def test_a_file_of_onnx_is_read_without_its_external_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def load(path: str, *, load_external_data: bool) -> Any:
        calls.append((path, load_external_data))
        return MODEL

    monkeypatch.setitem(sys.modules, "onnx", SimpleNamespace(load=load))  # type: ignore[arg-type]
    assert onnx_graph(Path("model.onnx")) == onnx_graph(MODEL)
    assert calls == [("model.onnx", False)]


def test_without_the_package_the_error_says_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)  # type: ignore[arg-type]
    with pytest.raises(ModuleNotFoundError, match="needs the package onnx"):
        onnx_graph("model.onnx")


def written(tmp_path: Path, text: str | bytes) -> Path:
    file = tmp_path / "model.xml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_a_model_of_openvino_is_a_graph(tmp_path: Path) -> None:
    text = """<?xml version="1.0"?><net name="n" version="11"><layers>
        <layer id="0" name="x" type="Parameter"><output><port id="0"/></output></layer>
        <layer id="1" name="y/relu" type="ReLU"/><layer id="2" name="x"/>
        </layers><edges><edge from-layer="0" from-port="0" to-layer="1" to-port="0"/>
        <edge from-layer="9" to-layer="1"/></edges></net>"""
    assert openvino_graph(written(tmp_path, text)).nodes == [
        GraphNode("x", "Parameter"),
        GraphNode("y/relu", "ReLU", ["x"]),
        GraphNode("x_3", "layer"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        *("", "no xml", "<net>", "<net/>", "<net><layer name='no id'/></net>", b"\xff\xfe\x00"),
        '<!DOCTYPE net [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><net><layer id="0" name="&b;"/></net>',
        '<!DOCTYPE net SYSTEM "file:///etc/passwd"><net><layer id="0"/></net>',
        '<net><layers><layer id="0" name="&undefined;"/></layers></net>',
    ],
    ids=repr,
)
def test_other_files_are_an_error(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"no XML|document type|no layers|without"):
        openvino_graph(written(tmp_path, text))


def test_large_files_and_many_layers_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, '<net><layer id="0"/><layer id="1"/></net>')
    monkeypatch.setattr(model_files, "GRAPH_NODES_MAX", 1)
    with pytest.raises(ValueError, match="more than 1 layers"):
        openvino_graph(file)
    monkeypatch.setattr(model_files, "RECORD_SIZE_MAX_BYTES", 10)
    with pytest.raises(ValueError, match="a file of more than 10 bytes"):
        openvino_graph(file)


@pytest.mark.parametrize("path", ["/no/such/file.xml", "/"])
def test_a_file_that_cannot_be_read_is_an_error(path: str) -> None:
    with pytest.raises(OSError, match="/"):
        openvino_graph(path)
