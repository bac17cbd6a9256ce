"""Where a stream's events go: a folder under the log directory, never outside of it."""

import os
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.names import check_run
from tensorboard_sidecar.protocol.stream import Stream

_LATE_PREFIX: Final = "attempt-"


def run_directory(logdir: Path, stream: Stream) -> Path:
    """Return ``<logdir>/<run>`` for rank 0, ``<logdir>/<run>/rank-<n>`` for others; makes nothing.

    Raises Malformed or TooLarge for a run that is no safe relative path, PermissionError when a symbolic link leads
    out of the log directory.
    """
    parts = check_run(stream.run).split("/")
    if stream.rank:
        parts.append(f"rank-{stream.rank}")
    return inside(logdir, logdir.joinpath(*parts))


def late_directory(logdir: Path, stream: Stream, depth: int = 1) -> Path:
    """Return the folder, in the run's, for what an attempt says when a later one has begun; deeper, when there too."""
    names = [f"{_LATE_PREFIX}{stream.attempt}"] * depth
    return inside(logdir, run_directory(logdir, stream).joinpath(*names))


def late_directories(directory: Path) -> list[Path]:
    """Return the folders in one that hold what came late there."""
    return sorted(path for path in directory.glob(f"{_LATE_PREFIX}*") if comes_late(path) and path.is_dir())


def comes_late(directory: Path) -> bool:
    """Tell whether a folder has the name of one for what comes late."""
    return directory.name.startswith(_LATE_PREFIX) and directory.name.removeprefix(_LATE_PREFIX).isdecimal()


def inside(root: Path, path: Path) -> Path:
    """Return ``path`` when it lies under ``root`` with every symbolic link followed; raise PermissionError."""
    # Not Path.resolve: links that lead in a circle are a RuntimeError there.
    leads_to = Path(os.path.realpath(path))
    if not leads_to.is_relative_to(os.path.realpath(root)):
        raise PermissionError(f"{path} leads to {leads_to}, outside of {root}; nothing is written there")
    return path
