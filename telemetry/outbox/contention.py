"""Who goes first where threads come in each other's way."""

from threading import get_ident
from time import sleep
from typing import Final

# A thread that others came before so often, or once when its record is large, has the right of way.
_TRIES_MAX: Final = 3
_LARGE_BYTES: Final = 2**18
# How long others wait for it, and so much longer for each such a part of its record: it may be interrupted.
_PATIENCE_MS: Final = 100
_PART_BYTES: Final = 2**17


class Contention:
    """Lets a thread pass whose record is so large that others come in between whenever it is prepared.

    It is no lock: who waited long enough goes on, and whoever interrupts the thread that has it waits for nothing.
    ``holder`` is the thread that has it, or 0.
    """

    def __init__(self) -> None:
        self.holder = 0
        self._patience_ms = _PATIENCE_MS

    def __repr__(self) -> str:
        return f"<Contention of {self.holder or 'nobody'}>"

    def take(self, tries: int, size_bytes: int) -> None:
        """Have it from now on, if so many ``tries`` in vain are too many for a record of this size."""
        if tries >= _TRIES_MAX or size_bytes >= _LARGE_BYTES:
            self._patience_ms = _PATIENCE_MS + size_bytes // _PART_BYTES
            self.holder = get_ident()

    def give(self) -> None:
        """Wait for whoever has it, for a moment."""
        own = get_ident()
        for _ in range(self._patience_ms):
            if self.holder in (0, own):
                return
            sleep(0.001)
        self.holder = 0

    def end(self) -> None:
        """Have it no longer."""
        if self.holder == get_ident():
            self.holder = 0
