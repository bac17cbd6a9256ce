"""What a forked child does at once with the objects of its parent: it drops locks, sockets and memory of the parent.

``os.register_at_fork`` keeps what it is given until the process ends. One registration therefore serves all objects,
and holds none of them.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final
from weakref import WeakKeyDictionary

_METHODS: Final[WeakKeyDictionary[object, Callable[[Any], object]]] = WeakKeyDictionary()


def call_in_children(method: Any) -> None:
    """Call a bound method, one an object, in each child that is forked as long as the object lives.

    >>> class Connection:
    ...     def __init__(self):
    ...         call_in_children(self.close)
    ...
    ...     def close(self):
    ...         self.is_open = False
    """
    _METHODS[method.__self__] = method.__func__


def _call_all() -> None:
    """Call all methods; what one raises does not keep the others."""
    with ExitStack() as calls:
        for each, function in list(_METHODS.items()):
            calls.callback(function, each)


os.register_at_fork(after_in_child=_call_all)
