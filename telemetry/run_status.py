"""The status in a run's last record: how the run ended."""

from typing import Literal, TypeAlias

Status: TypeAlias = Literal["completed", "failed", "interrupted", "exited"]


def status_after(error: BaseException | None) -> Status:
    """Return the status of a run that ``error`` ended: None and ``sys.exit(0)`` mean completed, Ctrl-C interrupted."""
    match error:
        case None | SystemExit(code=None | 0):
            return "completed"
        case Exception() | SystemExit():
            return "failed"
        case _:
            return "interrupted"


def status_at_exit(uncaught: BaseException | None) -> Status:
    """Return the status of a run that the end of the process ends; ``uncaught`` is the exception behind that, or None.

    Exit handlers know of an uncaught exception, but not of ``sys.exit(3)``: without an exception nothing says whether
    the loop was complete.
    """
    return "exited" if uncaught is None else status_after(uncaught)
