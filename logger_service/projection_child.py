"""What runs in the projection's process.

Its lifeline is a pipe to its parent. A byte in it says: bring the event files up to date and end. The pipe's end says
that the parent is gone, however it went: this process ends at once, as it may at any moment without losing anything.
"""

import os
import threading
from pathlib import Path

from logger_service.counts import Counts


def run_projection(recordings: Path, logdir: Path, lifeline: int) -> Counts:
    """Project until told to finish. Raises as :func:`logger_service.projection.follow`."""
    finish = threading.Event()

    def watch() -> None:
        while os.read(lifeline, 1):
            finish.set()
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
    from logger_service.projection import follow  # noqa: PLC0415 - takes seconds, in which the parent may go

    return follow(recordings, logdir, finish.is_set, wait=finish.wait)
