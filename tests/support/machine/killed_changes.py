"""A kill between two changes on disk, for code that changes files through ``Path``."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


class Killed(Exception):
    """Stands for a kill between two changes on disk."""


def kill_after(changes: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Allow a number of renames and deletions, and fail every later call; return the changes that are left."""
    left = iter(range(changes))

    def counted(change: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*arguments: object, **options: object) -> object:
            if next(left, None) is None:
                raise Killed
            return change(*arguments, **options)

        return wrapper

    for name in ("replace", "unlink", "rmdir", "mkdir"):
        monkeypatch.setattr(Path, name, counted(getattr(Path, name)))
    return left
