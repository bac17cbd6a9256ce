"""The Python files of this project, parsed once, with queries on their syntax trees."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = "tensorboard_sidecar"
ROOMS: Final = ("protocol", "telemetry", "trainer", "logger_service")
PACKAGES: Final = ("src", *ROOMS, "benchmarks")
Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """A file; ``path`` is relative to the root, ``nodes`` are all nodes of its tree."""

    path: str
    text: str
    tree: ast.Module
    nodes: tuple[ast.AST, ...]

    @classmethod
    def parse(cls, path: str, text: str) -> "Source":
        """Parse a file's text."""
        tree = ast.parse(text, path)
        return cls(path, text, tree, tuple(ast.walk(tree)))

    @property
    def top(self) -> str:
        """The top folder of the path."""
        return self.path.partition("/")[0]

    @property
    def room(self) -> str:
        """The room of the file, like ``telemetry.values``; "" for the package itself."""
        folders = self.path.split("/")[:-1]
        return ".".join(folders[2:] if self.top == "src" else folders)

    def imports(self) -> Iterator[tuple[int, str]]:
        """Yield the line and full name of each import: modules, and names from modules."""
        for node in self.nodes:
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)

    def calls(self) -> Iterator[tuple[int, str]]:
        """Yield the line and dotted name of each call."""
        yield from ((node.lineno, dotted_name(node.func)) for node in self.nodes if isinstance(node, ast.Call))


@cache
def sources() -> tuple[Source, ...]:
    """Return all Python files of the packages and tests, without duplicates: ``src`` has links to the rooms."""
    paths = sorted(path for top in (*PACKAGES, "tests") for path in (ROOT / top).rglob("*.py"))
    return tuple(Source.parse(path.relative_to(ROOT).as_posix(), path.read_text("utf-8")) for path in paths)


def room_of(module: str) -> str:
    """Return the room of a module of the package, or of a name in a module."""
    parts = module.split(".")
    while parts and not (ROOT / "/".join(parts)).is_dir():
        parts.pop()
    return ".".join(parts)


def dotted_name(node: ast.expr) -> str:
    """Return ``a.b.c`` for a chain of attributes, otherwise an empty string."""
    match node:
        case ast.Name(name):
            return name
        case ast.Attribute(value, attribute) if inner := dotted_name(value):
            return f"{inner}.{attribute}"
    return ""
