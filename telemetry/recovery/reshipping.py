"""Outboxes whose trainers are gone, shipped by the next trainer, on its sender thread, when that has nothing to send.

One outbox at a time, a small run a turn, so that training never waits for it. When this trainer ends it lets go; the
outbox stays for the next one. A logger on the same host, and ``drain``, may adopt the same outbox: its lock decides.
Recordings that are to be finished come first.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.batch import FrameBatch
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox
from tensorboard_sidecar.telemetry.recovery.finish_recording import Recovery
from tensorboard_sidecar.telemetry.recovery.orphans import Orphans
from tensorboard_sidecar.telemetry.shipping.link import LoggerLink, Source
from tensorboard_sidecar.telemetry.shipping.send_session import State

LOOK_INTERVAL_SECONDS: Final = 30.0
# Without an acknowledgement for as long, somebody else may have it: a logger that refuses it here may be the wrong one.
_PATIENCE_SECONDS: Final = 30.0
# What a turn reads and ships: about a millisecond of the interpreter's time where records are small.
_RUN_SIZE_MAX_BYTES: Final = 2**16
_logger = logging.getLogger(__name__)


class Reshipping:
    """Ships what ``find`` finds that is for ``endpoint``, or for anybody, to the logger that ``connect`` links it to.

    ``connect`` None: there is no logger, only ``recovery`` has its turns. Used by one thread.
    """

    def __init__(
        self,
        find: Callable[[], list[Path]],
        connect: Callable[[Source], LoggerLink] | None,
        *,
        endpoint: str = "",
        recovery: Recovery | None = None,
    ) -> None:
        self._connect, self._recovery = connect, recovery
        self._orphans = Orphans(find, lambda destination: destination.endpoint in ("", endpoint))
        self._look_at = float("-inf")
        self._adopted: _Adopted | None = None

    def __repr__(self) -> str:
        return f"<Reshipping {self._adopted!r} {self._orphans!r} {self._recovery!r}>"

    def step(self, now: float, *, listening: bool = True) -> None:
        """Take one turn, or look for something to do when that is due; nothing is shipped unless a logger listens."""
        if self._recovery is not None and self._recovery.step(now):
            return
        if not listening or self._connect is None:
            return
        if self._adopted is not None:
            self._ship(self._adopted, now)
        elif now >= self._look_at:
            self._look_at = now + LOOK_INTERVAL_SECONDS
            self._adopted = self._adopt(self._connect, now)

    def close(self) -> None:
        """Let go of what is being shipped; the rest of it stays."""
        if self._recovery is not None:
            self._recovery.close()
        self._let_go(keep=True)

    def disown(self) -> None:
        """Let go of the locks in a forked child, which would else keep them. Not to be used again."""
        if self._recovery is not None:
            self._recovery.disown()
        if self._adopted is not None:
            self._adopted.orphan.disown()

    def _adopt(self, connect: Callable[[Source], LoggerLink], now: float) -> "_Adopted | None":
        orphan = self._orphans.open_next()
        if orphan is None:
            return None
        try:
            return _Adopted(orphan, connect(_InPieces(orphan)), now)
        except BaseException:
            orphan.close(keep=True)
            raise

    def _ship(self, adopted: "_Adopted", now: float) -> None:
        orphan, session, reason = adopted.orphan, adopted.link.session, ""
        try:
            adopted.link.step(now)
            if adopted.shipped:
                self._let_go(keep=not orphan.settle(shipped=True))
                self._look_at = now
                _logger.info("shipped what run %s left in %s", orphan.stream.run, orphan.folder)
                return
        except OSError as error:
            reason = str(error)
        if session.state is State.REFUSED:
            reason = session.reason
        if reason:
            self._orphans.leave(orphan.folder, reason)
        if reason or adopted.stuck(now):
            self._let_go(keep=True)

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

    def read(self, sequence: int, size_max_bytes: int) -> FrameBatch | None:
        """Return records as :meth:`OrphanedOutbox.read` does."""
        return self._orphan.read(sequence, min(size_max_bytes, _RUN_SIZE_MAX_BYTES))
