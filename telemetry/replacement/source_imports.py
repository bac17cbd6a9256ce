"""Which imports in the source of a program lead to a ``SummaryWriter``. Reads the source; executes nothing."""

import ast
import os
import tokenize
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

from tensorboard_sidecar.telemetry.replacement.startup.sitecustomize import REPLACED

FILES_MAX: Final = 500
FRAMEWORKS: Final = ("lightning", "pytorch_lightning", "transformers", "accelerate", "ignite", "stable_baselines3")
"""Libraries whose own TensorBoard logger imports a ``SummaryWriter`` at its first use."""

_IMPORTING_CALLS: Final = ("import_module", "__import__")
_OTHER_WRITERS: Final = ("FileWriter", "RecordWriter", "TorchVis")
_INSTALLED: Final = {"site-packages", "dist-packages"}


class FoundImport(NamedTuple):
    """An import that leads to a writer: its file and line, its text, and what happens to the writer."""

    path: Path
    line: int
    text: str
    effect: str


class Program(NamedTuple):
    """The file where a program begins, and the folder from which the program imports its own modules.

    ``top`` is the name of the only module that is the program's own, empty for all modules in the folder.
    """

    path: Path
    folder: Path
    top: str = ""


class Look(NamedTuple):
    """The imports that were found in ``files`` files of a program; not ``complete`` when there are too many files."""

    found: list[FoundImport]
    files: int
    complete: bool


def find_program(script: str, *, is_module: bool) -> Program:
    """Return the program that ``python SCRIPT`` or ``python -m SCRIPT`` starts. Raises FileNotFoundError.

    A package is found by its folder: importing the package would execute a part of the program.
    """
    if is_module:
        return _find_module(script)
    path = Path(script)
    if path.is_dir():
        path /= "__main__.py"
    if not path.exists():
        raise FileNotFoundError(f"no such script: {path}")
    return Program(path, path.parent)


def look_at(program: Program) -> Look:
    """Return the imports in a program's first file, and in those of its own files that it imports, one by another.

    Raises OSError, SyntaxError, or ValueError when the first file cannot be read; other files are left out then.
    """
    waiting, seen, found = [program.path], {program.path.resolve()}, list[FoundImport]()
    files = 0
    while waiting and files < FILES_MAX:
        path = waiting.pop(0)
        try:
            tree = _parse(path)
        except (OSError, SyntaxError, ValueError):
            if path == program.path:
                raise
            continue
        files += 1
        for node in ast.walk(tree):
            found += (FoundImport(path, *each) for each in _leading_to_a_writer(node))
            for imported in _own_files(node, path, program):
                if imported.resolve() not in seen:
                    seen.add(imported.resolve())
                    waiting.append(imported)
    return Look(sorted(found, key=lambda each: (each.path != program.path, each.path, each.line)), files, not waiting)


def _find_module(name: str) -> Program:
    top, *below = name.split(".")
    # The current folder comes first, as with python -m. Finding a module without a dot in its name imports nothing.
    spec = PathFinder.find_spec(top, [os.getcwd()]) or find_spec(top)  # noqa: PTH109 - a part of a path of modules
    folders = [Path(folder) for folder in _locations(spec)]
    folder = folders[0].parent if folders else Path(str(spec and spec.origin)).parent
    for part in below:
        spec = PathFinder.find_spec(part, _locations(spec))
    if spec is None:
        raise FileNotFoundError(f"no module named {name}")
    path = Path(_locations(spec)[0]) / "__main__.py" if _locations(spec) else Path(str(spec.origin))
    if not path.is_file():
        raise FileNotFoundError(f"module {name} has no file {path}")
    return Program(path, folder, top if _INSTALLED.intersection(folder.parts) else "")


def _locations(spec: ModuleSpec | None) -> list[str]:
    """Return the folders of a package, none for a module."""
    return list(spec.submodule_search_locations or ()) if spec is not None else []


def _parse(path: Path) -> ast.Module:
    with tokenize.open(path) as file:
        return ast.parse(file.read(), str(path))


def _leading_to_a_writer(node: ast.AST) -> Iterator[tuple[int, str, str]]:
    """Yield the line, the text and the effect of the imports in a statement."""
    match node:
        case ast.Import(names):
            for name in (alias.name for alias in names):
                if effect := _effect_of(name):
                    yield node.lineno, f"import {name}", effect
        case ast.ImportFrom(str(module), names, 0):
            for name in (alias.name for alias in names):
                if effect := _effect_of(f"{module}.{name}"):
                    yield node.lineno, f"from {module} import {name}", effect
        case ast.Call(ast.Name(called) | ast.Attribute(_, called), [ast.Constant(str(module)), *_]):
            if called in _IMPORTING_CALLS and (effect := _effect_of(module)):
                yield node.lineno, f"{called}({module!r})", effect


def _effect_of(name: str) -> str:
    """Return what happens to a module, or to a name in a module; an empty text if neither leads to a writer."""
    module, _, last = name.rpartition(".")
    if name in REPLACED or (module in REPLACED and last in (*REPLACED[module], "*")):
        return "replaced"
    if module in REPLACED and last in _OTHER_WRITERS:
        return "not replaced: only SummaryWriter is"
    return "the SummaryWriter of its TensorBoard logger is replaced" if name.partition(".")[0] in FRAMEWORKS else ""


def _own_files(node: ast.AST, path: Path, program: Program) -> Iterator[Path]:
    """Yield those of the program's own files that a statement in the file ``path`` imports."""
    names: list[str] = []
    folder = program.folder
    match node:
        case ast.Import(aliases):
            names = [alias.name for alias in aliases]
        case ast.ImportFrom(module, aliases, level):
            names = [f"{module}.{alias.name}" if module else alias.name for alias in aliases]
            folder = path.parents[level - 1] if 0 < level <= len(path.parents) else folder
    for name in names:
        if not program.top or folder != program.folder or name.partition(".")[0] == program.top:
            yield from _files_of(name, folder)


def _files_of(name: str, folder: Path) -> Iterator[Path]:
    """Yield the files of a module and of the packages above it; the last part may be a name in a module."""
    for part in name.split("."):
        if (file := folder / f"{part}.py").is_file():
            yield file
            return
        folder /= part
        if (file := folder / "__init__.py").is_file():
            yield file
