"""Finds orphaned outboxes and delivers them to one sink, one outbox at a time.

Rule 1: an outbox with an owner is left alone. The owner's lock decides between the trainer, the next trainer, the
logger and ``drain``.
Rule 2: an outbox is claimed when its owner has been gone for a grace period that depends on the destination.
Rule 3: a delivery that may succeed later is released, and tried again after ``RETRY_SECONDS``. A delivery that failed
for good is not tried again. Each reason is logged once per outbox.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.outbox.destination import Destination, read_destination
from tensorboard_sidecar.protocol.outbox.orphan_delivery import (
    NotDelivered,
    OrphanDelivery,
    Outcome,
    Sink,
    Unclaimed,
    claim,
)
from tensorboard_sidecar.protocol.outbox.owner_lock import read_owner

RETRY_SECONDS: Final = 30.0
NEVER: Final = float("inf")
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Candidate:
    """An outbox without an owner: when to claim it, and why the latest attempt failed."""

    try_at_seconds: float
    failure: str = ""


class OrphanWorker:
    """Delivers the outboxes that ``find`` returns to ``sink``; used by one thread. No method raises.

    ``grace_seconds`` returns how long an outbox with this destination is left alone: NEVER when the outbox is not for
    ``sink``. It raises NotDelivered with a reason to log. ``delivered`` counts outboxes, ``records`` their records.
    """

    def __init__(
        self,
        find: Callable[[], list[Path]],
        sink: Sink,
        grace_seconds: Callable[[Destination], float],
        *,
        look_interval_seconds: float,
    ) -> None:
        self.delivered = self.records = 0
        self._find, self._sink, self._grace_seconds = find, sink, grace_seconds
        self._look_interval_seconds = look_interval_seconds
        self._look_at_seconds = float("-inf")
        self._candidates: dict[Path, _Candidate] = {}
        self._current: OrphanDelivery | None = None

    def __repr__(self) -> str:
        return f"<OrphanWorker: {self.delivered} delivered, {self.failed} failed, now {self._current!r}>"

    @property
    def failed(self) -> int:
        """The number of outboxes without an owner whose delivery failed."""
        return sum(bool(candidate.failure) for candidate in self._candidates.values())

    def step(self, now_seconds: float) -> bool:
        """Look for orphans, claim an orphan, or deliver a part; return whether more can be done at once."""
        if self._current is None:
            folder = self._next_due(now_seconds)
            if folder is None:
                return False
            self._look_at_seconds = now_seconds  # look again as soon as this delivery has ended
            self._current = self._claim(folder, now_seconds)
            if self._current is None:
                return True
        busy = self._current.step(now_seconds)
        if self._current.ended:
            self._finish(self._current, now_seconds)
        return busy

    def close(self) -> None:
        """Release the orphan that is being delivered. The orphan stays, and another process can continue."""
        if self._current is not None:
            self._current.close()
            self._current = None

    def disown(self) -> None:
        """Release the locks in a forked child, which would keep them otherwise. The worker cannot be used again."""
        if self._current is not None:
            self._current.orphan.disown()

    def _next_due(self, now_seconds: float) -> Path | None:
        if now_seconds < self._look_at_seconds:
            return None
        self._look_at_seconds = now_seconds + self._look_interval_seconds
        try:
            folders = self._find()
        except OSError as error:
            _log.warning("cannot look for orphaned outboxes: %s", error)
            return None
        known, self._candidates = self._candidates, {}
        for folder in folders:
            if _has_owner(folder):
                continue
            self._candidates[folder] = known.get(folder) or _Candidate(NEVER)
            if folder not in known:
                self._plan(folder, now_seconds)
        due = (folder for folder, found in self._candidates.items() if now_seconds >= found.try_at_seconds)
        return next(due, None)

    def _plan(self, folder: Path, now_seconds: float) -> None:
        try:
            self._candidates[folder].try_at_seconds = now_seconds + self._grace_seconds(read_destination(folder))
        except NotDelivered as error:
            self._fail(folder, Outcome(str(error), retry=error.retry), now_seconds)

    def _claim(self, folder: Path, now_seconds: float) -> OrphanDelivery | None:
        try:
            return OrphanDelivery(claim(folder, private=True), [self._sink])
        except Unclaimed:
            self._candidates[folder].try_at_seconds = now_seconds + self._look_interval_seconds
        except Exception as error:  # noqa: BLE001 - as in OrphanDelivery.step
            self._fail(folder, Outcome(str(error)), now_seconds)
        return None

    def _finish(self, ended: OrphanDelivery, now_seconds: float) -> None:
        self._current = None
        ended.close()
        folder = ended.orphan.folder
        outcome = ended.outcomes[0] if ended.outcomes else Outcome("it has another destination")
        if not outcome.delivered:
            self._fail(folder, outcome, now_seconds)
            return
        del self._candidates[folder]
        self.delivered += 1
        self.records += ended.records
        stays = "" if ended.settled else ", and stays for its other destination"
        _log.info("run %s: %s %s%s", ended.orphan.stream.run, folder, outcome.text, stays)

    def _fail(self, folder: Path, outcome: Outcome, now_seconds: float) -> None:
        candidate = self._candidates[folder]
        if candidate.failure != outcome.text:
            _log.warning(
                "%s is not adopted: %.500s (logged once%s; to deliver it by hand: tensorboard-sidecar drain %s"
                " [--endpoint ADDRESS])",
                folder,
                outcome.text,
                f", tried again every {RETRY_SECONDS:g} s" if outcome.retry else "",
                folder,
            )
        candidate.failure = outcome.text
        candidate.try_at_seconds = now_seconds + (RETRY_SECONDS if outcome.retry else NEVER)


def _has_owner(folder: Path) -> bool:
    """Return whether a process holds the lock. An outbox that cannot be looked at counts as owned."""
    try:
        return read_owner(folder).holds
    except OSError:
        return True
