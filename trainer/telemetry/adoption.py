"""Outboxes whose trainers are gone, shipped by the next trainer, on its sender thread, when that has nothing to send.

One outbox at a time, a small run a turn, so that training never waits for it. When this trainer ends it lets go; the
outbox stays for the next one. A logger on the same host, and ``drain``, may adopt the same outbox: its lock decides.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from protocol.errors import ProtocolError
from protocol.orphan import OrphanedOutbox
from protocol.run import Run
from trainer.telemetry.link import LoggerLink, Source
from trainer.telemetry.session import State

LOOK_INTERVAL_SECONDS: Final = 30.0
# Without an acknowledgement for as long, somebody else may have it: a logger that refuses it here may be the wrong one.
_PATIENCE_SECONDS: Final = 30.0
# What a turn reads and ships: about a millisecond of the interpreter's time where records are small.
_RUN_SIZE_MAX_BYTES: Final = 2**16
_logger = logging.getLogger(__name__)


class Adoption:
    """Ships what ``find`` finds to the logger that ``connect`` links it to; used by one thread."""

    def __init__(self, find: Callable[[], list[Path]], connect: Callable[[Source], LoggerLink]) -> None:
        self._find, self._connect = find, connect
        self._look_at = float("-inf")
        self._left: set[Path] = set()
        self._adopted: _Adopted | None = None

    def __repr__(self) -> str:
        return f"<Adoption {self._adopted!r} left {len(self._left)}>"

    def step(self, now: float) -> None:
        """Take one turn of shipping, or look for something to ship when that is due."""
        if self._adopted is None:
            if now >= self._look_at:
                self._look_at = now + LOOK_INTERVAL_SECONDS
                self._adopted = self._adopt(now)
            return
        adopted, reason = self._adopted, ""
        try:
            adopted.link.step(now)
        except OSError as error:
            reason = str(error)
        if adopted.link.session.state is State.REFUSED:
            reason = adopted.link.session.reason
        if adopted.shipped:
            _logger.info("shipped what run %s left in %s", adopted.orphan.stream.run, adopted.orphan.folder)
            self._let_go(keep=False)
            self._look_at = now
        elif reason:
            self._leave(adopted.orphan.folder, reason)
            self._let_go(keep=True)
        elif adopted.stuck(now):
            self._let_go(keep=True)

    def close(self) -> None:
        """Let go of what is being shipped; the rest of it stays."""
        self._let_go(keep=True)

    def disown(self) -> None:
        """Let go of the lock in a forked child, which would else keep it. Not to be used again."""
        if self._adopted is not None:
            self._adopted.orphan.disown()

    def _adopt(self, now: float) -> "_Adopted | None":
        """Return the first outbox whose trainer is gone and that nobody else has adopted."""
        try:
            found = self._find()
        except OSError as error:
            _logger.info("cannot look for what trainers left behind: %s", error)
            return None
        for folder in found:
            if folder in self._left:
                continue
            try:
                orphan = OrphanedOutbox(folder)
            except BlockingIOError:
                continue
            except (ProtocolError, OSError) as error:
                if folder.exists():  # else somebody has shipped it meanwhile
                    self._leave(folder, str(error))
                continue
            try:
                return _Adopted(orphan, self._connect(_InPieces(orphan)), now)
            except BaseException:
                orphan.close(keep=True)
                raise
        return None

    def _leave(self, folder: Path, reason: str) -> None:
        self._left.add(folder)
        _logger.warning("%s, which a trainer left behind, is left there: %s", folder, reason)

    def _let_go(self, *, keep: bool) -> None:
        if self._adopted is not None:
            self._adopted.link.close()
            self._adopted.orphan.close(keep=keep)
            self._adopted = None


class _Adopted:
    """An outbox and the link that ships it."""

    def __init__(self, orphan: OrphanedOutbox, link: LoggerLink, now: float) -> None:
        self.orphan, self.link = orphan, link
        self._acked_sequence, self._progress_at = 1, now

    def __repr__(self) -> str:
        return f"<{self.orphan.folder.name} of run {self.orphan.stream.run} {self.link!r}>"

    @property
    def shipped(self) -> bool:
        """Tell whether all of it is on the logger's disk."""
        return self.link.session.acked_sequence >= self.orphan.next_sequence

    def stuck(self, now: float) -> bool:
        """Tell whether nothing was acknowledged for long."""
        if self.link.session.acked_sequence > self._acked_sequence:
            self._acked_sequence, self._progress_at = self.link.session.acked_sequence, now
        return now - self._progress_at > _PATIENCE_SECONDS


class _InPieces:
    """An orphan that gives small runs, whatever the logger would take."""

    def __init__(self, orphan: OrphanedOutbox) -> None:
        self.stream = orphan.stream
        self.first_sequence, self.next_sequence = orphan.first_sequence, orphan.next_sequence
        self._orphan = orphan

    def read(self, sequence: int, size_max_bytes: int) -> Run | None:
        """Return records as :meth:`OrphanedOutbox.read` does."""
        return self._orphan.read(sequence, min(size_max_bytes, _RUN_SIZE_MAX_BYTES))
