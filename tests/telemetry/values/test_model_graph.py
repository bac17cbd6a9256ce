import random

import pytest
import torch
from torch import Tensor, nn

from tensorboard_sidecar.protocol.kinds import check_message
from tensorboard_sidecar.protocol.messages import Graph, GraphNode
from tensorboard_sidecar.telemetry.values.model_graph import trace_graph
from tensorboard_sidecar.trainer.model import Brain


class Block(nn.Module):
    """A residual block with a leaf used twice, a function, a parameter and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.relu = nn.ReLU()
        self.gain = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.relu(self.linear(self.relu(x))) * self.gain


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = Block()
        self.dropout = nn.Dropout(0.5)
        self.blocks = nn.ModuleList([Block(), Block()])

    def forward(self, x: Tensor, *, mask: Tensor | None = None) -> dict[str, Tensor]:
        x = self.dropout(self.first(x))
        for block in self.blocks:
            x = block(x)
        if mask is not None:
            x[mask] = 0.0
        return {"mean": torch.mean(x, dim=1)}


def by_name(graph: Graph) -> dict[str, GraphNode]:
    return {node.name: node for node in graph.nodes}


def check_well_formed(graph: Graph) -> None:
    """Check TensorBoard's requirements: unique names, no name that is a scope, inputs defined before."""
    check_message(graph)
    names = [node.name for node in graph.nodes]
    assert len(set(names)) == len(names)
    scopes = {name[:at] for name in names for at in range(len(name)) if name[at] == "/"}
    assert scopes.isdisjoint(names)
    for number, node in enumerate(graph.nodes):
        assert set(node.inputs) <= set(names[:number]), node
        assert len(set(node.inputs)) == len(node.inputs)
    assert "" not in {part for name in names for part in name.split("/")}


def test_leaf_modules_functions_parameters_and_inputs_are_nodes() -> None:
    graph = trace_graph(Block(), torch.zeros(2, 4))
    check_well_formed(graph)
    assert graph.nodes == [
        GraphNode("input/x", "Input", [], [[2, 4]]),
        GraphNode("relu", "ReLU", ["input/x"], [[2, 4]]),
        GraphNode("linear", "Linear", ["relu"], [[2, 4]], {"settings": "in_features=4, out_features=4, bias=True"}),
        GraphNode("relu_1", "ReLU", ["linear"], [[2, 4]]),
        GraphNode("Block/gain", "Parameter", [], [[4]]),
        GraphNode("Block/mul", "mul", ["relu_1", "Block/gain"], [[2, 4]]),
        GraphNode("Block/add", "add", ["input/x", "Block/mul"], [[2, 4]]),
    ]


def test_scopes_are_module_paths() -> None:
    graph = trace_graph(Net(), torch.zeros(2, 4))
    check_well_formed(graph)
    nodes = by_name(graph)
    assert nodes["blocks/1/linear"].inputs == ["blocks/1/relu"]
    assert nodes["blocks/0/add"].inputs[0] == "dropout"
    assert nodes["Net/mean"].inputs == ["blocks/1/add"]
    assert {name.split("/")[0] for name in nodes} == {"input", "first", "dropout", "blocks", "Net"}


def test_an_assignment_to_a_part_is_a_node_that_others_follow() -> None:
    nodes = by_name(trace_graph(Net(), torch.zeros(2, 4), mask=torch.tensor([True, False])))
    assert nodes["Net/setitem"].inputs == ["blocks/1/add", "input/mask"]
    assert nodes["Net/mean"].inputs == ["Net/setitem"]


class Clash(nn.Module):
    """Its function ``add`` bears the name of a child that has children; a child is called ``input``."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Module()
        self.inner.add = nn.Sequential(nn.Identity())
        self.inner.forward = lambda x: self.inner.add(x) + x
        self.input = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.input(x))


def test_no_node_takes_the_name_of_a_scope() -> None:
    graph = trace_graph(Clash(), torch.zeros(1))
    check_well_formed(graph)
    assert {"input/x", "input_1", "inner/add/0", "inner/add_1"} == set(by_name(graph))


def test_a_model_that_is_one_leaf_is_named_by_its_class() -> None:
    graph = trace_graph(nn.Linear(3, 2), torch.zeros(5, 3))
    assert [(node.name, node.inputs) for node in graph.nodes] == [("input/input", []), ("Linear", ["input/input"])]


class Tied(nn.Module):
    """Calls a leaf and also uses the leaf's weight directly."""

    def __init__(self) -> None:
        super().__init__()
        self.word = nn.Embedding(5, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return nn.functional.linear(self.word(tokens), self.word.weight)


def test_a_leafs_parameter_stands_beside_the_leaf() -> None:
    graph = trace_graph(Tied(), torch.zeros(2, dtype=torch.int64))
    check_well_formed(graph)
    assert by_name(graph)["Tied/linear"].inputs == ["word", "word_weight"]


def test_transformer_layers_show_what_is_in_them() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    graph = trace_graph(encoder, torch.rand(2, 3, 8))
    check_well_formed(graph)
    assert {"layers/0/norm1", "layers/1/linear2"} <= set(by_name(graph))
    assert torch.backends.mha.get_fastpath_enabled()


def test_the_whole_model_is_traced_with_few_boxes_at_the_top() -> None:
    brain = Brain(20, embed_dim=16)
    graph = trace_graph(brain, *brain.example_inputs(32))
    check_well_formed(graph)
    nodes = by_name(graph)
    assert {name.split("/")[0] for name in nodes} == {
        "input",
        *("text_encoder", "image_encoder", "audio_encoder"),
        *("text_adapter", "image_adapter", "audio_adapter"),
        "fusion_core",
    }
    assert {"input/tokens", "input/images", "input/waveforms", "input/lengths"} <= set(nodes)
    assert nodes["image_encoder/backbone/conv1"].operation == "Conv2d"
    assert nodes["fusion_core/stack"].inputs == [
        "text_adapter/project",
        "image_adapter/project",
        "audio_adapter/project",
    ]


def test_tracing_changes_nothing() -> None:
    net = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    net.train()
    net[0].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    states = random.getstate(), torch.get_rng_state()
    trace_graph(net, torch.rand(3, 4, generator=torch.Generator()))
    assert [module.training for module in net] == [False, True, True]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


class Noise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 3:
            raise RuntimeError("no room")
        return x + torch.rand_like(x)


def test_random_numbers_drawn_in_a_pass_are_given_back() -> None:
    before = torch.get_rng_state()
    trace_graph(Noise(), torch.zeros(3))
    assert torch.equal(torch.get_rng_state(), before)


def test_what_the_forward_pass_raises_comes_through_and_leaves_no_hooks() -> None:
    noise = Noise().train()
    with pytest.raises(RuntimeError, match="no room"):
        trace_graph(noise, torch.zeros(1, 1, 1))
    assert noise.training
    assert not noise._forward_hooks
    assert torch.is_grad_enabled()


def test_arguments_that_do_not_fit_are_told_by_the_module_itself() -> None:
    with pytest.raises(TypeError):
        trace_graph(Noise(), torch.zeros(1), torch.zeros(1))


class Wide(nn.Module):
    """A function with many inputs, another with many outputs, and a tensor with too many dimensions for a message."""

    def __init__(self) -> None:
        super().__init__()
        self.leaf = nn.ReLU()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        stacked = torch.stack([self.leaf(x) for _ in range(300)])
        return (*stacked.unbind(), x.reshape([1] * 9 + [4]))


def test_a_model_of_many_links_is_kept_within_the_limits() -> None:
    nodes = by_name(trace_graph(Wide(), torch.zeros(4)))
    check_message(Graph(list(nodes.values())))
    assert len(nodes["Wide/stack"].inputs) == len(nodes["Wide/unbind"].output_shapes) == 256
    assert nodes["Wide/reshape"].output_shapes == []
