"""``run --check``: what would be replaced in a program, and what this machine has for a writer."""

import os
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Final

from tensorboard_sidecar.protocol.helper.place import LOGGER_VARIABLE, OFF, helper_root
from tensorboard_sidecar.protocol.outbox.outbox_files import outbox_capacity_bytes, outbox_root
from tensorboard_sidecar.protocol.printable import print_line, printable
from tensorboard_sidecar.telemetry.replacement.source_imports import find_program, look_at
from tensorboard_sidecar.telemetry.replacement.startup.sitecustomize import REPLACED

# The libraries that a module, or the writer in its place, needs.
_NEEDS: Final = {"torch.utils.tensorboard": ("torch", "tensorboard"), "tensorboardX": ("tensorboardX", "torch")}
# The libraries of the process that makes event files, and the way to get them.
_HELPER_NEEDS: Final = ("tensorboardX", "matplotlib")
_INSTALL: Final = "pip install 'tensorboard-sidecar[logger]'"


def check(script: str, *, is_module: bool) -> int:
    """Print what would be replaced; return 0, or 1 when nothing would be.

    Raises OSError, SyntaxError or ValueError for a program that cannot be read.
    """
    program = find_program(script, is_module=is_module)
    look = look_at(program)
    installed = [_tell_library(module, needs) for module, needs in _NEEDS.items()]
    starts = [_tell_writer(), _tell_event_files()]
    for each in look.found:
        shown = printable(os.path.relpath(each.path, program.folder))
        print_line(f"{shown} line {each.line}: {each.text}: {each.effect}")
    more = look.files - 1
    files = f" and {more} more file{'s' * (more > 1)} of the program" if more else ""
    if not look.found:
        print_line(f"{printable(str(program.path))}{files}: no import of a SummaryWriter; a library may import one")
    if not look.complete:
        print_line(f"the check has read the first {look.files} files; the program has more")
    return 0 if any(installed) and all(starts) else 1


def _tell_library(module: str, needs: tuple[str, ...]) -> bool:
    """Print whether the ``SummaryWriter`` of a module is replaced; return the same."""
    versions = {name: _version(name) for name in needs}
    if missing := [name for name, found in versions.items() if not found]:
        print_line(
            f"{module}: nothing to replace: {' and '.join(missing)} {'are' if missing[1:] else 'is'} not installed"
        )
        return False
    having = ", ".join(f"{name} {found}" for name, found in versions.items())
    print_line(f"{module}: {' and '.join(REPLACED[module])} replaced ({having})")
    return True


def _version(library: str) -> str:
    """Return the version of an installed library, an empty text for a library that is not installed."""
    if find_spec(library) is None:
        return ""
    try:
        return version(library)
    except PackageNotFoundError:
        return "of an unknown version"  # its distribution has another name


def _tell_writer() -> bool:
    """Print whether a writer can start on this machine; return the same."""
    try:
        root = outbox_root()
        capacity_bytes = outbox_capacity_bytes(root)
    except OSError as error:
        print_line(f"the writer cannot start: {printable(str(error))}")
        return False
    print_line(f"the writer can start: {capacity_bytes // 2**20:,} MiB for the records of a program in {root}")
    return True


def _tell_event_files() -> bool:
    """Print which process makes the event files; return False when a helper would, and none can be started."""
    logger = os.environ.get(LOGGER_VARIABLE, "").strip()
    if logger.lower() in OFF:
        print_line(
            f"the writer makes a recording alone, as {LOGGER_VARIABLE} is {logger}: see tensorboard-sidecar replay"
        )
    elif logger:
        print_line(f"the logger at {printable(logger)} makes the event files ({LOGGER_VARIABLE})")
    if logger:
        return True
    missing = [library for library in _HELPER_NEEDS if find_spec(library) is None]
    try:
        root = helper_root()
    except OSError as error:
        print_line(f"no event files: a helper process cannot start: {printable(str(error))}")
        return False
    if missing:
        print_line(f"no event files: a helper process needs {' and '.join(missing)}: {_INSTALL}")
        return False
    print_line(f"a helper process makes the event files; its socket lies below {root}")
    return True
