"""How this project's commands are typed where it runs: a hint that does not work as it stands is none."""

import os
import shutil
import sys
from pathlib import Path


def how_to_run(command: str) -> str:
    """Return ``tensorboard-sidecar command``, or the same by this interpreter's path where the shell finds another.

    >>> how_to_run("replay").endswith(" replay")
    True
    """
    found = shutil.which("tensorboard-sidecar")
    if found is not None and Path(found).absolute().parent == Path(sys.executable).absolute().parent:
        return f"tensorboard-sidecar {command}"
    return f"{min(sys.executable, os.path.relpath(sys.executable), key=len)} -m tensorboard_sidecar {command}"
