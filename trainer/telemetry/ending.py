"""How a run ended, as its last record tells it."""

from typing import Literal, TypeAlias

Status: TypeAlias = Literal["completed", "failed", "interrupted"]


def status_after(error: BaseException | None) -> Status:
    """Return how a run ended that ``error`` went through; None is a good end."""
    if error is None:
        return "completed"
    return "failed" if isinstance(error, Exception) else "interrupted"
