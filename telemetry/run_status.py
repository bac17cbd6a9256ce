"""The status in a run's last record: how the run ended."""

from typing import Literal, TypeAlias

Status: TypeAlias = Literal["completed", "failed", "interrupted"]


def status_after(error: BaseException | None) -> Status:
    """Return the status of a run that ``error`` ended: None and ``sys.exit(0)`` mean completed, Ctrl-C interrupted."""
    match error:
        case None | SystemExit(code=None | 0):
            return "completed"
        case Exception() | SystemExit():
            return "failed"
        case _:
            return "interrupted"
