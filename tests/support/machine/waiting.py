"""Waiting for a condition with a deadline, instead of a fixed sleep."""

from collections.abc import Callable
from time import monotonic, sleep
from typing import Final

_LOOK_INTERVAL_SECONDS: Final = 0.002
# A look may read many files, and takes the processor from the programs that are waited for. After this time, looks are
# rarer.
_OFTEN_SECONDS: Final = 0.2
_LATER_INTERVAL_SECONDS: Final = 0.01


def wait_until(condition: Callable[[], object], *, seconds: float = 20.0, what: str = "") -> None:
    """Return as soon as ``condition()`` is true. Raises TimeoutError, naming ``what``, after the deadline."""
    began = monotonic()
    while not condition():
        waited_seconds = monotonic() - began
        if waited_seconds > seconds:
            raise TimeoutError(f"not within {seconds} s: {what or condition}")
        sleep(_LOOK_INTERVAL_SECONDS if waited_seconds < _OFTEN_SECONDS else _LATER_INTERVAL_SECONDS)
