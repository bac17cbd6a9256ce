"""Outboxes of the tests lie in shared memory, but not among those of programs that run."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def shared_folder() -> Iterator[Path]:
    """Make an empty folder in shared memory, where there is some, for a while."""
    base = "/dev/shm" if Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="test-", dir=base))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
