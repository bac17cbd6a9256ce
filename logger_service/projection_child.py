"""What runs in the projection's process.

Its lifeline is a pipe to its parent. A byte in it says: bring the event files up to date and end. The pipe's end says
that the parent is gone, however it went: this process ends at once, as it may at any moment without losing anything.
What it has done it says through another pipe, :mod:`logger_service.projection_report`.
"""

import os
import threading
from pathlib import Path

from logger_service.projection_report import ReportWriter


def run_projection(
    recordings: Path, logdir: Path, *, lifeline: int, reports: int, disk_reserve_bytes: int | None
) -> bool:
    """Project until told to finish; tell whether the event files are up to date.

    Raises as :func:`logger_service.projection.follow`.
    """
    finish = threading.Event()

    def watch() -> None:
        while os.read(lifeline, 1):
            finish.set()
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
    from logger_service.projection import Projection, follow  # noqa: PLC0415 - takes seconds, in which the parent may go

    writer = ReportWriter(reports)

    def tell(projection: Projection, now_seconds: float) -> None:
        if writer.due(now_seconds):
            writer.tell(now_seconds, projection.counts, projection.positions(), projection.state())

    projection = follow(
        recordings, logdir, finish.is_set, disk_reserve_bytes=disk_reserve_bytes, tell=tell, wait=finish.wait
    )
    return not projection.waits
