"""The environment of a program whose ``SummaryWriter`` is replaced, and of helpers whose imports stay untouched."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tensorboard_sidecar.telemetry.replacement.startup import sitecustomize
from tensorboard_sidecar.telemetry.replacement.startup.sitecustomize import VARIABLE

PATH: Final = "PYTHONPATH"
STARTUP_FOLDER: Final = str(Path(sitecustomize.__file__).absolute().parent)


def with_replacement(environment: Mapping[str, str]) -> dict[str, str]:
    """Return ``environment`` with the hook: the folder first in PYTHONPATH, and the variable.

    Raises ValueError when the folder's path cannot stand in PYTHONPATH.

    >>> with_replacement({"PYTHONPATH": "libs"})["PYTHONPATH"].endswith(":libs")
    True
    """
    if os.pathsep in STARTUP_FOLDER:
        raise ValueError(f"{PATH} separates folders by {os.pathsep!r}, and {STARTUP_FOLDER} has that in its name")
    changed = without_replacement(environment)
    given = changed.get(PATH)
    # An empty part of PYTHONPATH would be the current folder; an empty PYTHONPATH is none.
    return {**changed, VARIABLE: "1", PATH: os.pathsep.join([STARTUP_FOLDER, *([given] if given else [])])}


def without_replacement(environment: Mapping[str, str]) -> dict[str, str]:
    """Return ``environment`` as it was before :func:`with_replacement`, for processes of this project.

    >>> without_replacement(with_replacement({"HOME": "/", "PYTHONPATH": "libs"}))
    {'HOME': '/', 'PYTHONPATH': 'libs'}
    """
    changed = {name: value for name, value in environment.items() if name != VARIABLE}
    folders = changed.get(PATH, "").split(os.pathsep)
    if STARTUP_FOLDER in folders:
        left = os.pathsep.join(folder for folder in folders if folder != STARTUP_FOLDER)
        changed.pop(PATH)
        changed |= {PATH: left} if left else {}
    return changed
