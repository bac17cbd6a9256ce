"""The examples in the docstrings of the package, each run as a doctest."""

import ast
import inspect
from collections.abc import Iterator
from doctest import DocTestParser, DocTestRunner
from importlib import import_module
from pathlib import Path

import pytest
from support.source import PACKAGE, ROOMS, Function, sources

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.telemetry.values.model_graph import trace_graph
from tensorboard_sidecar.telemetry.writer.methods import WriterMethods

PROMPT = ">>> "
# Their examples need a package that the tests do not have.
WITHOUT_EXAMPLE = {"add_onnx_graph"}


def examples() -> Iterator[tuple[str, str, str]]:
    """Yield the module, the name and the docstring of each docstring with examples."""
    for source in sources():
        if source.top in ROOMS and PROMPT in source.text:
            module = f"{PACKAGE}.{source.path.removesuffix('.py').removesuffix('/__init__').replace('/', '.')}"
            for node in source.nodes:
                if isinstance(node, ast.Module | ast.ClassDef | Function) and PROMPT in (ast.get_docstring(node) or ""):
                    yield module, getattr(node, "name", "module"), ast.get_docstring(node) or ""


EXAMPLES = list(examples())


@pytest.mark.parametrize(("module", "name", "text"), EXAMPLES, ids=[f"{module}.{name}" for module, name, _ in EXAMPLES])
def test_an_example_prints_what_it_says(
    module: str,
    name: str,
    text: str,
    outboxes: Path,  # noqa: ARG001 - the example's telemetry keeps its records there
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An example may use ``telemetry``, which is open, and its ``writer``; relative paths lie in a temporary folder."""
    monkeypatch.chdir(tmp_path)
    with Telemetry("team/first-try", endpoint=None, record="given", strict=True) as telemetry:
        names = {**vars(import_module(module)), "telemetry": telemetry, "writer": telemetry.writer}
        report: list[str] = []
        failed, tried = DocTestRunner(verbose=False).run(
            DocTestParser().get_doctest(text, names, f"{module}.{name}", None, None), out=report.append
        )
    assert tried == text.count(PROMPT)
    assert not failed, "".join(report)


@pytest.mark.parametrize("shown", [Telemetry, WriterMethods, trace_graph], ids=lambda shown: shown.__name__)
def test_everything_that_users_call_has_an_example(shown: object) -> None:
    places = [place for place in inspect.getmro(shown) if place is not object] if inspect.isclass(shown) else []
    methods = {name: method for place in places for name, method in vars(place).items() if name[0] != "_"}
    missing = {name for name, method in methods.items() if PROMPT not in (inspect.getdoc(method) or "")}
    assert missing - WITHOUT_EXAMPLE == set()
    assert PROMPT in (inspect.getdoc(shown) or "")
