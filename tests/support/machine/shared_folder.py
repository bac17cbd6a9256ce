"""A temporary folder in shared memory, apart from the outboxes of running programs."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def shared_folder() -> Iterator[Path]:
    """Yield an empty folder in shared memory if the host has any; remove the folder afterwards."""
    base = "/dev/shm" if Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="test-", dir=base))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
