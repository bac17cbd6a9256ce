"""The command ``run``: start a program with its ``SummaryWriter`` replaced, or tell what would be replaced."""

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.printable import printable
from tensorboard_sidecar.telemetry.replacement.environment import with_replacement

_WRONG: Final = 2


def run(options: argparse.Namespace) -> int:
    """Replace this process by the program; return 2 when that cannot be, with --check the exit code of the check."""
    given = options.program
    script, *arguments = given[1:] if given[0] == "--" and given[1:] else given  # newer Pythons remove the "--"
    try:
        if options.check:
            # Only the check reads what is installed: a program starts without these imports.
            from tensorboard_sidecar.telemetry.replacement.check import check  # noqa: PLC0415 - see above

            return check(script, is_module=options.module)
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
