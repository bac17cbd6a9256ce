"""What runs in the projection's process.

Its lifeline is a pipe to its parent. A byte in it says: bring the event files up to date and end. The pipe's end says
that the parent is gone, however it went: this process ends at once, as it may at any moment without losing anything.
What it has done it says through another pipe, ``logger_service.projection.report``.

Its memory is bounded: a record that takes more than ``MEMORY_MAX_BYTES`` is not drawn, and the machine's memory is left
to the trainer.
"""

import os
import resource
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from tensorboard_sidecar.logger_service.projection.quarantine import Quarantine
from tensorboard_sidecar.logger_service.projection.report import ReportWriter

MEMORY_MAX_BYTES: Final = 5 * 2**28
"""Beyond what the programs take by themselves: 20,000 full summaries in a record take 1.0 GB, pictures of 64 MB 0.6."""


def run_projection(
    recordings: Path, logdir: Path, *, lifeline: int, reports: int, disk_reserve_bytes: int | None, lock: int | None
) -> bool:
    """Project until told to finish; tell whether the event files are up to date.

    Raises as ``logger_service.projection.follower.follow``.
    """
    finish, suspects = threading.Event(), Quarantine()

    def watch() -> None:
        while os.read(lifeline, 1):
            finish.set()
        suspects.pardon()
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
    from tensorboard_sidecar.logger_service.projection.follower import Follower, follow  # noqa: PLC0415 - takes seconds, in which the parent may go

    limit_memory(MEMORY_MAX_BYTES)
    writer = ReportWriter(reports)

    def tell(projection: Follower, now_seconds: float) -> None:
        if writer.due(now_seconds):
            writer.tell(now_seconds, projection.counts, projection.positions(), projection.state())

    projection = follow(
        recordings,
        logdir,
        finish.is_set,
        disk_reserve_bytes=disk_reserve_bytes,
        tell=tell,
        wait=finish.wait,
        suspects=suspects,
        lock=lock,
    )
    return not projection.waits


def limit_memory(size_bytes: int) -> None:
    """Let this process take so much more than it has; beyond that, what it does raises MemoryError.

    Counted is what is its own and may be written (RLIMIT_DATA), not files and libraries that are mapped. A system that
    has no such limit has none.
    """
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[5])
        limit_bytes = pages * resource.getpagesize() + size_bytes
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if hard == resource.RLIM_INFINITY or limit_bytes < hard:
            resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, hard))
