"""Graphs of models: traced, from ONNX, from OpenVINO."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support.running.writing import kept_with_faults, written
from torch import nn

from tensorboard_sidecar.protocol.messages import Graph, GraphNode


@pytest.mark.parametrize("as_tuple", [True, False])
def test_a_graph_is_what_one_forward_pass_shows(tmp_path: Path, as_tuple: bool) -> None:
    model, inputs = nn.Sequential(nn.Linear(3, 4), nn.ReLU()), torch.ones(2, 3)
    [said] = written(tmp_path, lambda writer: writer.add_graph(model, (inputs,) if as_tuple else inputs))
    assert isinstance(said.message, Graph)
    assert {"Linear", "ReLU"} <= {node.operation for node in said.message.nodes}


def test_a_model_of_openvino_is_a_graph(tmp_path: Path) -> None:
    file = tmp_path / "model.xml"
    file.write_text('<net><layers><layer id="0" name="in"/><layer id="1" name="relu" type="ReLU"/></layers></net>')
    [said] = written(tmp_path, lambda writer: writer.add_openvino_graph(file))
    assert said.message == Graph([GraphNode("in", "layer"), GraphNode("relu", "ReLU")])


@pytest.mark.parametrize("keyword", ["prototxt", "onnx_model_file"])
def test_a_model_of_onnx_without_the_package_is_a_clear_fault(
    tmp_path: Path, keyword: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    keywords: dict[str, Any] = {keyword: "model.onnx"}
    assert kept_with_faults(tmp_path, lambda writer: writer.add_onnx_graph(**keywords), 1) == []
    assert "add_onnx_graph needs the package onnx" in caplog.text
