"""How this project's commands are typed in this environment, for hints that can be copied as they stand."""

import os
import shutil
import sys
from pathlib import Path


def how_to_run(command: str) -> str:
    """Return ``tensorboard-sidecar COMMAND`` if the shell finds this environment's; else start it by the interpreter.

    >>> how_to_run("replay").endswith(" replay")
    True
    """
    found = shutil.which("tensorboard-sidecar")
    if found is not None and Path(found).absolute().parent == Path(sys.executable).absolute().parent:
        return f"tensorboard-sidecar {command}"
    return f"{min(sys.executable, os.path.relpath(sys.executable), key=len)} -m tensorboard_sidecar {command}"
