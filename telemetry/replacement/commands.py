"""The command ``run``: start a program with its ``SummaryWriter`` replaced, or tell what would be replaced."""

import argparse
import os
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.helper.place import LOGGER_VARIABLE, OFF, helper_root
from tensorboard_sidecar.protocol.outbox.outbox_files import outbox_capacity_bytes, outbox_root
from tensorboard_sidecar.protocol.printable import print_line, printable
from tensorboard_sidecar.telemetry.replacement.environment import with_replacement
from tensorboard_sidecar.telemetry.replacement.source_imports import find_program, look_at
from tensorboard_sidecar.telemetry.replacement.startup.sitecustomize import REPLACED

_WRONG: Final = 2
# The libraries that a module, or the writer in its place, needs.
_NEEDS: Final = {"torch.utils.tensorboard": ("torch", "tensorboard"), "tensorboardX": ("tensorboardX", "torch")}
# The libraries of the process that makes event files, and the way to get them.
_HELPER_NEEDS: Final = ("tensorboardX", "matplotlib")
_INSTALL: Final = "pip install 'tensorboard-sidecar[logger]'"


def run(options: argparse.Namespace) -> int:
    """Replace this process by the program; return 2 when that cannot be, with --check the exit code of the check."""
    given = options.program
    script, *arguments = given[1:] if given[0] == "--" and given[1:] else given  # newer Pythons remove the "--"
    try:
        if options.check:
            return _check(script, is_module=options.module)
        if not options.module and script != "-" and not Path(script).exists():
            raise FileNotFoundError(_no_such_script(script, arguments))
        environment = with_replacement(os.environ)
        command = [sys.executable, *(["-m"] if options.module else []), script, *arguments]
        os.execve(sys.executable, command, environment)  # noqa: S606 - the user's own program
    except (OSError, SyntaxError, ValueError) as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return _WRONG


def _no_such_script(script: str, arguments: list[str]) -> str:
    """Return the message about a missing script; a command that is a Python script (``torchrun``) is found in PATH."""
    found = shutil.which(script) if os.sep not in script else None
    try:
        with open(found or os.devnull, "rb") as file:  # noqa: PTH123 - a path, or a device
            is_python = file.read(2) == b"#!" and b"python" in file.readline()
    except OSError:
        is_python = False
    hint = f"; the command {script} is run by: tensorboard-sidecar run {found}" if is_python else ""
    return f"no such script: {script}" + (f"{hint} {' '.join(arguments)}".rstrip() if hint else "")


def _check(script: str, *, is_module: bool) -> int:
    """Print what would be replaced; return 0, or 1 when nothing would be."""
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
    if logger == OFF:
        print_line(f"the writer makes a recording alone, as {LOGGER_VARIABLE} is {OFF}: see tensorboard-sidecar replay")
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
