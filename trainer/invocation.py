"""How this program's commands are typed where it runs: a hint that does not work as it stands is none."""

import os
import shutil
import sys
from pathlib import Path


def how_to_run(module: str) -> str:
    """Return ``python -m module``, with the path of this interpreter where ``python`` is another one, or none."""
    found = shutil.which("python")
    if found is not None and Path(found).absolute() == Path(sys.executable).absolute():
        return f"python -m {module}"
    return f"{min(sys.executable, os.path.relpath(sys.executable), key=len)} -m {module}"
