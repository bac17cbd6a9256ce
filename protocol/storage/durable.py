"""Files and folders that survive a power loss. All functions raise OSError."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tensorboard_sidecar.protocol.frame import Buffer


@contextmanager
def opened(path: Path, flags: int, mode: int = 0o600) -> Iterator[int]:
    """Open a file or a folder for the duration of the block; yield its descriptor."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, mode)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def make_folder(folder: Path, root: Path | None = None) -> None:
    """Make a folder and its missing parents; their names are durable on return.

    ``root`` is a parent of ``folder``. Names below ``root`` are made durable also when they exist already: the process
    that made the folders may have been killed before the sync.
    """
    to_sync = [path for path in (folder, *folder.parents) if root in path.parents or not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in to_sync:
        sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Make the content of a file durable."""
    with opened(path, os.O_WRONLY | os.O_NOFOLLOW) as descriptor:
        os.fdatasync(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    with opened(folder, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        os.fsync(descriptor)


def write_file(path: Path, data: Buffer) -> None:
    """Write a file that appears under its name complete and durable, or not at all; an old file is replaced."""
    unfinished = path.with_name(f"{path.name}.new")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with opened(unfinished, flags) as descriptor, memoryview(data) as view:
            written = 0
            while written < len(view):
                written += os.write(descriptor, view[written:])
            os.fdatasync(descriptor)
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
