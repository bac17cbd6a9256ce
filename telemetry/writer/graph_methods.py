"""The methods of a writer for the architecture of a model: traced, from ONNX, from OpenVINO."""

from os import PathLike
from typing import Any

from torch import nn

from tensorboard_sidecar.telemetry.values.model_files import onnx_graph, openvino_graph
from tensorboard_sidecar.telemetry.values.model_graph import trace_graph
from tensorboard_sidecar.telemetry.writer.base import WriterBase, guarded


class GraphMethods(WriterBase):
    """``add_graph``, ``add_onnx_graph``, ``add_openvino_graph``."""

    @guarded
    def add_graph(
        self, model: nn.Module, input_to_model: Any = None, verbose: bool = False, use_strict_trace: bool = True
    ) -> None:
        """Run ``model`` once on ``input_to_model`` (a tensor, or a tuple of arguments) and keep its architecture.

        The forward pass runs in this thread, in eval mode, without gradients; see :func:`trace_graph`. ``verbose`` and
        ``use_strict_trace`` have no effect: nothing is compiled.

        >>> import torch
        >>> writer.add_graph(torch.nn.Linear(3, 4), torch.zeros(1, 3))
        """
        given = () if input_to_model is None else input_to_model
        inputs = given if isinstance(given, tuple | list) else (given,)
        self.telemetry.graph(0, trace_graph(model, *inputs))

    @guarded
    def add_onnx_graph(
        self, prototxt: str | PathLike[str] | None = None, onnx_model_file: str | PathLike[str] | None = None
    ) -> None:
        """Read an ONNX file on this thread and keep its graph: ``writer.add_onnx_graph("model.onnx")``.

        Needs the package ``onnx``. ``prototxt`` is torch's name of the path, ``onnx_model_file`` tensorboardX's.
        """
        self.telemetry.graph(0, onnx_graph(onnx_model_file if prototxt is None else prototxt))

    @guarded
    def add_openvino_graph(self, xmlname: str | PathLike[str]) -> None:
        """Read the XML file of an OpenVINO model on this thread and keep its graph.

        >>> from pathlib import Path
        >>> _ = Path("model.xml").write_text('<net><layers><layer id="0" name="relu" type="ReLU"/></layers></net>')
        >>> writer.add_openvino_graph("model.xml")
        """
        self.telemetry.graph(0, openvino_graph(xmlname))
