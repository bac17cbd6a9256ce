"""Where a stream's events go: a folder under the log directory, never outside of it."""

from pathlib import Path
from typing import Final

from protocol.names import check_run
from protocol.stream import Stream

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


def late_directory(logdir: Path, stream: Stream) -> Path:
    """Return the folder, in the run's, for what an attempt said before the next one began, and comes after that."""
    return inside(logdir, run_directory(logdir, stream) / f"{_LATE_PREFIX}{stream.attempt}")


def comes_late(directory: Path) -> bool:
    """Tell whether a folder has the name of one for what comes late."""
    return directory.name.startswith(_LATE_PREFIX) and directory.name.removeprefix(_LATE_PREFIX).isdecimal()


def inside(root: Path, path: Path) -> Path:
    """Return ``path`` when it lies under ``root`` with every symbolic link followed; raise PermissionError."""
    if not path.resolve().is_relative_to(root.resolve()):
        raise PermissionError(f"{path} leads to {path.resolve()}, outside of {root}; nothing is written there")
    return path
