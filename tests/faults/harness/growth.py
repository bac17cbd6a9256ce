"""How much more memory processes hold than before, while they still run."""

from pathlib import Path
from typing import Final

# What gathers while nothing can be sent lies in the outbox, which has its bound, and is no process's own memory.
GROWTH_MAX_BYTES: Final = 64 * 2**20


class Growth:
    """Of processes, since this was made."""

    def __init__(self, *pids: int | None) -> None:
        self._held = {pid: _resident_bytes(pid) for pid in pids if pid is not None}

    def check(self) -> None:
        """See that it is bounded; raises AssertionError."""
        for pid, held_bytes in self._held.items():
            assert _resident_bytes(pid) - held_bytes < GROWTH_MAX_BYTES


def _resident_bytes(pid: int) -> int:
    """Return what a process holds of memory that is its own."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024
