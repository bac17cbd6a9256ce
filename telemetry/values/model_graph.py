"""A model's architecture as a compact message, traced from one forward pass.

Four things become nodes: a call of a leaf module, a call of a torch function in a module that has children, an input,
and a parameter used by such a function. A node's scope is the path of its module. Edges follow the identity of tensor
objects: an edge leads to a node from the node that returned the tensor last.

TensorBoard requires unique node names, no node name that is also a scope, and inputs that name existing nodes. A graph
is readable with few boxes at the top level; functions that the outermost module calls directly therefore share one box
with the name of its class.
"""

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tensorboard_sidecar.protocol.limits import ARRAY_DIMENSIONS_MAX, GRAPH_NODE_LINKS_MAX
from tensorboard_sidecar.protocol.messages import Graph, GraphNode

SETTINGS_MAX_CHARACTERS: Final = 400
"""Cap for the settings of a module (``kernel_size=(3, 3), ...``), which TensorBoard shows in its side panel."""


def trace_graph(module: nn.Module, *inputs: Any, **keywords: Any) -> Graph:
    """Run ``module`` once on the inputs, in eval mode and without gradients, and return its graph.

    Parameters, training mode and random states are unchanged afterwards. Trace a model before ``torch.compile``.
    Raises the errors of the forward pass.

    >>> graph = trace_graph(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), torch.zeros(1, 3))
    >>> for node in graph.nodes:
    ...     print(node.name, node.operation, node.inputs, node.output_shapes)
    input/input Input [] [[1, 3]]
    0 Linear ['input/input'] [[1, 4]]
    1 ReLU ['0'] [[1, 4]]
    """
    trace = _Trace(module)
    trace.add_inputs(_argument_names(module, inputs, keywords))
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.random.fork_rng(devices=_cuda_devices(module)))
        for child in module.modules():
            stack.callback(setattr, child, "training", child.training)
        module.eval()
        # The fused fast path of transformer layers would show a whole layer as a single call.
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        trace.hook(module, stack)
        stack.enter_context(trace)
        module(*inputs, **keywords)
    return Graph(trace.nodes)


class _Trace(TorchFunctionMode):
    """Intercepts every call of a torch function and, with hooks, every call of a module; adds a node for each."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.nodes: list[GraphNode] = []
        self._root = type(module).__name__
        self._taken = {scope for name, child in module.named_modules() if _has_children(child) for scope in _up(name)}
        self._taken |= {"input", *([self._root] if _has_children(module) else [])}
        self._parameters = dict(_parameter_names(module, self._root))
        # By id of a tensor: the name of the node that returned the tensor, and the tensor, kept alive so that Python
        # gives its id to no other object.
        self._makers: dict[int, tuple[str, Tensor]] = {}
        self._stack: list[str] = []
        self._inside_leaf = 0

    def add_inputs(self, arguments: Mapping[str, Any]) -> None:
        """Add a node ``input/<name>`` for each tensor among the arguments."""
        for name, value in arguments.items():
            for tensor in _tensors(value):
                self._add(f"input/{name}", "Input", (), tensor)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call the function; add a node if the call is outside of all leaf modules and returns tensors."""
        result = func(*args, **(kwargs or {}))
        if not self._inside_leaf and self._stack:
            # An assignment to a slice returns None and changes its first argument.
            returned = args[0] if func is Tensor.__setitem__ else result
            name = _function_name(func)
            scope = self._stack[-1] or self._root
            self._add(f"{scope}/{name}", name, (args, kwargs), returned)
        return result

    def hook(self, module: nn.Module, undo: ExitStack) -> None:
        """Watch, by hooks, the calls of the module and of all its submodules; ``undo`` removes the hooks."""
        for name, child in module.named_modules():
            path, leaf = name.replace(".", "/"), not _has_children(child)
            enter = child.register_forward_pre_hook(partial(self._enter, path, leaf))
            leave = child.register_forward_hook(partial(self._leave, path, leaf), with_kwargs=True)
            undo.callback(enter.remove)
            undo.callback(leave.remove)

    def _enter(self, path: str, leaf: bool, _module: nn.Module, _inputs: Any) -> None:
        self._stack.append(path)
        self._inside_leaf += leaf

    def _leave(self, path: str, leaf: bool, module: nn.Module, inputs: Any, keywords: Any, outputs: Any) -> None:
        self._stack.pop()
        self._inside_leaf -= leaf
        if leaf and not self._inside_leaf:
            self._add(path or self._root, type(module).__name__, (inputs, keywords), outputs, module.extra_repr())

    def _add(self, name: str, operation: str, inputs: Any, outputs: Any, settings: str = "") -> None:
        """Append a node if ``outputs`` holds a tensor, and remember the node as the source of its tensors.

        Links beyond GRAPH_NODE_LINKS_MAX and shapes of more than ARRAY_DIMENSIONS_MAX dimensions are left out.
        """
        tensors = list(_tensors(outputs))
        if not tensors:
            return
        sources = [source for tensor in _tensors(inputs) if (source := self._source(tensor))]
        name = self._unique(name)
        inputs_shown = list(dict.fromkeys(sources))[:GRAPH_NODE_LINKS_MAX]
        shapes = [list(tensor.shape) for tensor in tensors[:GRAPH_NODE_LINKS_MAX]]
        shapes = [shape for shape in shapes if len(shape) <= ARRAY_DIMENSIONS_MAX]
        attributes = {"settings": settings[:SETTINGS_MAX_CHARACTERS]} if settings else {}
        self.nodes.append(GraphNode(name, operation, inputs_shown, shapes, attributes))
        self._makers.update((id(tensor), (name, tensor)) for tensor in tensors)

    def _source(self, tensor: Tensor) -> str | None:
        """Return the name of the node that returned the tensor; add a node for a parameter at its first use."""
        if id(tensor) not in self._makers and id(tensor) in self._parameters:
            self._add(self._parameters[id(tensor)], "Parameter", (), tensor)
        name, _ = self._makers.get(id(tensor), (None, None))
        return name

    def _unique(self, name: str) -> str:
        """Return the name, with a number behind if another node or a scope has that name."""
        numbered = (f"{name}_{number}" for number in itertools.count(1))
        unique = next(candidate for candidate in itertools.chain([name], numbered) if candidate not in self._taken)
        self._taken.add(unique)
        return unique


def _argument_names(module: nn.Module, inputs: Sequence[Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments by the parameter names of ``forward``."""
    try:
        return dict(inspect.signature(module.forward).bind(*inputs, **keywords).arguments)
    except (TypeError, ValueError):  # no signature, or wrong arguments: the forward pass itself raises then
        return {**{str(position): value for position, value in enumerate(inputs)}, **keywords}


def _parameter_names(module: nn.Module, root: str) -> Iterator[tuple[int, str]]:
    """Yield id and name of each parameter.

    A leaf module is a node, so its name cannot be a scope: the parameter's name is joined with ``_`` instead of ``/``.
    """
    for path, child in reversed(list(module.named_modules())):
        scope = path.replace(".", "/") or root
        separator = "/" if _has_children(child) or not path else "_"
        for name, tensor in child.named_parameters(recurse=False):
            yield id(tensor), f"{scope}{separator}{name}"


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)


def _function_name(func: Callable[..., Any]) -> str:
    """Return the name of a torch function: ``relu``, ``T`` for a read of that property, ``add`` for ``__add__``."""
    name = func.__name__
    if name == "__get__":
        name = getattr(getattr(func, "__self__", None), "__name__", name)
    return name.strip("_")


def _has_children(module: nn.Module) -> bool:
    return next(module.children(), None) is not None


def _up(name: str) -> Iterator[str]:
    """Yield ``a/b/c``, ``a/b`` and ``a`` for the module ``a.b.c``."""
    parts = name.split(".")
    return ("/".join(parts[:length]) for length in range(len(parts), 0, -1))


def _cuda_devices(module: nn.Module) -> list[int]:
    return sorted({p.device.index or 0 for p in module.parameters() if p.device.type == "cuda"})
