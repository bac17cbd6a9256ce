"""How a run ended, as its last record tells it."""

from typing import Literal, TypeAlias

Status: TypeAlias = Literal["completed", "failed", "interrupted"]


def status_after(error: BaseException | None) -> Status:
    """Return how a run ended that ``error`` went through; None, and an exit with code 0, are a good end."""
    match error:
        case None | SystemExit(code=None | 0):
            return "completed"
        case Exception() | SystemExit():
            return "failed"
        case _:
            return "interrupted"
