"""The states of a logger during training."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.logger_process import running_logger

STATES = ("up", "frozen", "absent", "disk full")
_DISK_BYTES = 2**16


@contextmanager
def logger_state(name: str, folder: Path, port: int) -> Iterator[None]:
    """Have a logger at ``port`` that is up, frozen (SIGSTOP), or can write no file beyond 64 KiB; or have none."""
    if name == "absent":
        yield
        return
    with running_logger(folder, port, file_size_max_bytes=_DISK_BYTES if name == "disk full" else None) as (_, process):
        if name == "frozen":
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)
