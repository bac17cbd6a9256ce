"""Waiting for a condition with a deadline, instead of a fixed sleep."""

from collections.abc import Callable
from time import monotonic, sleep
from typing import Final

_LOOK_INTERVAL_SECONDS: Final = 0.002


def wait_until(condition: Callable[[], object], *, seconds: float = 20.0, what: str = "") -> None:
    """Return as soon as ``condition()`` is true. Raises TimeoutError, naming ``what``, after the deadline."""
    deadline = monotonic() + seconds
    while not condition():
        if monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what or condition}")
        sleep(_LOOK_INTERVAL_SECONDS)
