"""The connections in the order in which they were last heard of, so that a crowd of idle ones keeps nobody out.

What "full" means: every connection is an open file, and there are only so many. When one more comes than may be, the
one that said nothing for longest has to go. A trainer that is cut so, since it had nothing to say, connects anew when
it has; one that speaks is never the last in the row.
"""

import resource

from tensorboard_sidecar.logger_service.limits import CONNECTIONS_FILES_DIVISOR, CONNECTIONS_MAX


class ConnectionLru:
    """Connections by their file descriptors; a descriptor that comes again is another connection."""

    def __init__(self, connections_max: int) -> None:
        self._connections_max = connections_max
        self._connections: dict[int, None] = {}

    def __repr__(self) -> str:
        return f"<ConnectionLru of {len(self)}, {self._connections_max} may be>"

    def __len__(self) -> int:
        return len(self._connections)

    def come(self, descriptor: int) -> int | None:
        """Take in a connection; return the one that has to go for it, if there is one too many."""
        self._connections.pop(descriptor, None)
        self._connections[descriptor] = None
        if len(self._connections) <= self._connections_max:
            return None
        longest_silent = next(iter(self._connections))
        del self._connections[longest_silent]
        return longest_silent

    def heard(self, descriptor: int) -> None:
        """Note that a connection said something."""
        if descriptor in self._connections:
            del self._connections[descriptor]
            self._connections[descriptor] = None

    def gone(self, descriptor: int) -> None:
        """Forget a connection."""
        self._connections.pop(descriptor, None)


def connections_limit() -> int:
    """Return how many connections this process has room for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return min(CONNECTIONS_MAX, max(1, soft // CONNECTIONS_FILES_DIVISOR))
