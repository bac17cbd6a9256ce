"""The hook of ``tensorboard-sidecar run``: replaces ``SummaryWriter`` in torch's and tensorboardX's modules.

``tensorboard-sidecar run`` puts the folder of this file on PYTHONPATH, where the program and its children inherit the
folder. Python imports ``sitecustomize`` when an interpreter starts, before any line of the program. This module then

1. removes its folder from ``sys.path``, so that the program sees the path that it would have without the command,
2. installs a finder for the modules in ``REPLACED``, which replaces names after such a module was executed,
3. imports the next ``sitecustomize`` on the path, which takes the place of this module.

The interpreter pays for each import at its start. Therefore this module imports nothing that is not loaded already, and
loads ``tensorboard_sidecar`` only when the program imports a ``SummaryWriter``. The hook raises nothing: when a name
cannot be replaced, one line on stderr says so, and the program goes on with its own writer.
"""

import os
import sys
from _thread import get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from importlib.machinery import ModuleSpec
    from types import ModuleType

VARIABLE = "TENSORBOARD_SIDECAR_REPLACE"
"""The environment variable that turns the hook on; ``tensorboard-sidecar run`` sets the variable to 1."""

REPLACED = {
    "torch.utils.tensorboard.writer": ("SummaryWriter",),
    "torch.utils.tensorboard": ("SummaryWriter",),
    "tensorboardX.writer": ("SummaryWriter",),
    "tensorboardX.global_writer": ("GlobalSummaryWriter",),
    "tensorboardX": ("SummaryWriter", "GlobalSummaryWriter"),
}
"""The names to replace, by module: where a class is defined, and where the package exports the class."""


class ReplacingFinder:
    """A meta path finder that finds the modules in ``REPLACED`` with the other finders, and watches their execution."""

    def __init__(self) -> None:
        self._searches: set[tuple[str, int]] = set()

    def find_spec(self, name: str, path: object = None, target: object = None) -> "ModuleSpec | None":
        """Return the spec of a module in ``REPLACED``, None for other modules."""
        search = name, get_ident()
        if name not in REPLACED or search in self._searches:
            return None
        self._searches.add(search)  # another finder of this kind may ask all finders too
        try:
            spec = next(filter(None, self._ask_others(name, path, target)), None)
        finally:
            self._searches.discard(search)
        if spec is not None and spec.loader is not None:
            _watch(name, spec.loader)
        return spec

    def _ask_others(self, *search: object) -> "Iterator[ModuleSpec | None]":
        for finder in list(sys.meta_path):
            find_spec = getattr(finder, "find_spec", None)
            if finder is not self and find_spec is not None:
                yield find_spec(*search)


class ReplacingExecution:
    """A loader's ``exec_module`` that replaces names in the module after its execution."""

    def __init__(self, execute: "Callable[[ModuleType], object]") -> None:
        self._execute = execute

    def __call__(self, module: "ModuleType") -> None:
        """Execute a module, then replace names in it."""
        self._execute(module)
        replace_names(module)


def replace_names(module: "ModuleType") -> None:
    """Replace the names of ``REPLACED`` that a module has. A failure is told once; raises nothing."""
    if sys.modules.get("torch", module) is None:
        return  # torch is blocked: the logger imports tensorboardX for itself (logger_service/events/without_torch.py)
    names = [name for name in REPLACED.get(module.__name__, ()) if name in vars(module)]
    try:
        for name in names:
            setattr(module, name, _ours(name))
    except Exception as error:  # noqa: BLE001 - no error of any type may end the program
        _tell(module.__name__, names, error)


def install() -> None:
    """Install the finder; replace names in the modules that are loaded already."""
    if not any(isinstance(finder, ReplacingFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, ReplacingFinder())
        for name in REPLACED:
            if sys.modules.get(name) is not None:
                replace_names(sys.modules[name])


def remove_folder(path: "list[str]") -> None:
    """Remove the folder of this file from a path of modules, once."""
    folder = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - importing pathlib takes milliseconds
    if folder in path:
        path.remove(folder)


def _watch(name: str, loader: object) -> None:
    """Let a loader replace names after the execution of a module."""
    try:
        execute = loader.exec_module  # type: ignore[attr-defined]
        if not isinstance(execute, ReplacingExecution):  # the modules of a zip file share a loader
            # The loader stays the object that it was: libraries look at the loaders of modules.
            loader.exec_module = ReplacingExecution(execute)  # type: ignore[attr-defined]
    except Exception as error:  # noqa: BLE001 - no error of any type may end the program
        _tell(name, REPLACED[name], error)


def _ours(name: str) -> object:
    from importlib import import_module  # noqa: PLC0415 - loads tensorboard_sidecar, and torch, at the first use

    return getattr(import_module("tensorboard_sidecar"), name)


_told: "list[str]" = []


def _tell(module: str, names: "tuple[str, ...] | list[str]", error: Exception) -> None:
    """Write a line to stderr, once in a process."""
    if _told or sys.stderr is None:
        return
    what = " ".join(f"{type(error).__name__}: {error}".split())
    _told.append(f"tensorboard-sidecar: the program uses {module}'s own {' and '.join(names)}: {what}\n")
    try:
        sys.stderr.write(_told[0])
    except (OSError, ValueError):
        return  # stderr is closed


def _start() -> None:
    """Do what the docstring of the module says, up to the next ``sitecustomize``."""
    try:
        remove_folder(sys.path)
        if os.environ.get(VARIABLE):
            install()
    except Exception as error:  # noqa: BLE001 - no error of any type may end the program
        _tell("torch.utils.tensorboard", ["SummaryWriter"], error)


if __name__ == "sitecustomize":
    _start()
    del sys.modules["sitecustomize"]
    # When no other is there, this raises the ImportError that Python expects from an interpreter without the module.
    import sitecustomize  # type: ignore[import-not-found]

    _in_its_place = sitecustomize
