"""A disk that fails on demand: wraps system calls of this process."""

import os
from collections.abc import Callable
from typing import Any

import pytest


class SickDisk:
    """While ``error`` is an errno, the given calls (such as ``"write"``, ``"fdatasync"``) fail with that error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *calls: str) -> None:
        self.error = 0
        self.failures = 0
        for call in calls:
            monkeypatch.setattr(os, call, self._in_front_of(getattr(os, call)))

    def _in_front_of(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def failing(*arguments: Any, **options: Any) -> Any:
            if self.error:
                self.failures += 1
                raise OSError(self.error, os.strerror(self.error))
            return call(*arguments, **options)

        return failing
