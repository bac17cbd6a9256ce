"""What trainers on this machine left behind is taken over: they were killed, or ended without their logger.

An outbox is adopted as if its trainer had come back: a peer of ``dispatcher.Reception`` says HELLO
for its stream and sends what the journal lacks. So order, deduplication, credit and a journal that cannot be written
are what they are for the network, and an outbox is deleted only when all of it is on disk.

Rule 1: an outbox is left alone until its owner has been gone for ``GRACE_SECONDS``; its lock decides between us, the
trainer's next start and ``drain``. What is for another logger on this machine is left to that one for
``OTHERS_GRACE_SECONDS``, and what is for one on another machine for good. What is to be recorded by its trainer, and
nothing else, is no logger's business; where both were wanted, the outbox stays for that.
Rule 2: one outbox at a time, and so much a turn, that trainers that are alive do not wait. The next run of records goes
out when all before it is acknowledged.
Rule 3: what begins behind the end of this journal was acknowledged by another logger, and is left to that one. So is
what cannot be read. Both are said once.
Rule 4: an outbox that this logger cannot take now is let go of, and tried again later.
Rule 5: where trainers are known by their keys, an outbox names the key of its own, and is adopted while that is on the
list, in its name.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tensorboard_sidecar.logger_service.access.allow_list import AllowList
from tensorboard_sidecar.logger_service.intake.dispatcher import Dispatcher
from tensorboard_sidecar.logger_service.intake.local_peer import LocalPeer, Outcome
from tensorboard_sidecar.logger_service.intake.own_host import is_own_host
from tensorboard_sidecar.protocol.outbox.destination import NO_LOGGER, is_elsewhere, is_for, read_destination
from tensorboard_sidecar.protocol.outbox.location import check_private
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox, find_outboxes
from tensorboard_sidecar.protocol.outbox.owner_lock import OWNER_LOCK, read_owner
from tensorboard_sidecar.protocol.printable import printable
from tensorboard_sidecar.protocol.storage.key_files import KEY_CHARACTERS

LOOK_SECONDS: Final = 2.0
GRACE_SECONDS: Final = 3.0
OTHERS_GRACE_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 30.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Found:
    """What is known of an outbox: how long it is left alone, since when its owner is gone, when it may be tried."""

    grace_seconds: float = GRACE_SECONDS

    gone_since: float | None = None
    try_at: float = 0.0
    failure: str = ""


class OrphanIntake:
    """Adopts the outboxes under each of ``roots``, absolute paths, as they become orphans.

    ``endpoints`` is where their logger listens, and what else trainers call that. ``allowed`` tells whose keys may
    send, None where nobody needs one. ``now`` is a steady time in seconds everywhere. Nothing of it raises.
    ``adopted`` counts outboxes that are done, ``records`` what was still in them.
    """

    def __init__(
        self, roots: Sequence[Path], reception: Dispatcher, endpoints: Iterable[str], allowed: AllowList | None = None
    ) -> None:
        self.adopted = self.records = 0
        self._roots, self._reception = roots, reception
        self._endpoints, self._allowed = tuple(endpoints), allowed
        self._found: dict[Path, _Found] = {}
        self._look_at = float("-inf")
        self._shipment: LocalPeer | None = None

    def __repr__(self) -> str:
        return f"<OrphanIntake below {self._where}: {self.adopted} adopted, {self.left} left, now {self._shipment}>"

    @property
    def _where(self) -> str:
        return " and ".join(map(str, self._roots))

    @property
    def left(self) -> int:
        """How many outboxes are there, without an owner, that could not be adopted so far."""
        return sum(bool(found.failure) for found in self._found.values())

    def turn(self, now: float) -> bool:
        """Do a bounded amount of work; tell whether there is more to do at once."""
        if self._shipment is None:
            folder = self._next_orphan(now)
            self._shipment = self._begin(folder, now) if folder is not None else None
            return self._shipment is not None
        busy = self._step(self._shipment, now)
        if self._shipment.outcome is not None:
            self._finish(self._shipment, now)
        return busy

    def close(self) -> None:
        """Let go of what is not done; the next start, or a trainer's, goes on with it."""
        if self._shipment is not None:
            self._shipment.close(keep=True)
            self._shipment = None

    def _next_orphan(self, now: float) -> Path | None:
        """Look around, if it is time to; return an outbox to adopt now."""
        if now < self._look_at:
            return None
        self._look_at = now + LOOK_SECONDS
        try:
            folders = find_outboxes(*self._roots)
        except OSError as error:
            _log.warning("outboxes below %s cannot be looked for: %s", self._where, error)
            return None
        self._found = {folder: self._found.get(folder, _Found()) for folder in folders}
        for folder, found in self._found.items():
            if _is_owned(folder):
                self._found[folder] = _Found()
            elif found.gone_since is None:
                found.gone_since, found.grace_seconds = now, self._grace_seconds(folder)
        due = (
            folder
            for folder, found in self._found.items()
            if found.gone_since is not None and now - found.gone_since >= found.grace_seconds and now >= found.try_at
        )
        return next(due, None)

    def _grace_seconds(self, folder: Path) -> float:
        endpoint = read_destination(folder).endpoint
        if endpoint == NO_LOGGER:
            return float("inf")
        if not endpoint or any(is_for(endpoint, ours, is_own_host) for ours in self._endpoints):
            return GRACE_SECONDS
        if not is_elsewhere(endpoint):
            return OTHERS_GRACE_SECONDS
        self._leave(folder, f"it is for the logger at {printable(endpoint):.200}", float("inf"))
        return float("inf")

    def _begin(self, folder: Path, now: float) -> LocalPeer | None:
        self._look_at = now  # there may be another one
        try:
            check_private(folder)
            outbox = OrphanedOutbox(folder)
        except Exception as error:  # noqa: BLE001 - whatever lies there must not end the logger, again at every start
            if isinstance(error, BlockingIOError) or not (folder / OWNER_LOCK).exists():  # somebody else was faster
                self._found.pop(folder, None)
            else:
                self._leave(folder, str(error), float("inf"))
            return None
        owner = self._owner(outbox, now)
        if owner is None:
            outbox.close(keep=True)
            self._leave(folder, self._not_allowed(outbox), now + RETRY_SECONDS)
            return None
        return LocalPeer(outbox, self._reception, now, owner)

    def _owner(self, outbox: OrphanedOutbox, now: float) -> str | None:
        """Return the name of the key that an outbox's trainer has; None when that may not send, or has none."""
        if self._allowed is None:
            return ""
        self._allowed.refresh(now)
        return self._allowed.name_of(outbox.destination.public_key)

    @staticmethod
    def _not_allowed(outbox: OrphanedOutbox) -> str:
        key = printable(outbox.destination.public_key)[:KEY_CHARACTERS]
        return f"its trainer's key {key} is not allowed" if key else "its trainer had no key"

    def _step(self, shipment: LocalPeer, now: float) -> bool:
        if self._owner(shipment.outbox, now) != shipment.owner:
            shipment.outcome, shipment.reason = Outcome.LATER, self._not_allowed(shipment.outbox)
            return False
        try:
            return shipment.step(now)
        except Exception as error:  # noqa: BLE001 - as in _begin
            shipment.outcome, shipment.reason = Outcome.LEFT, repr(error)
            return False

    def _finish(self, shipment: LocalPeer, now: float) -> None:
        self._shipment = None
        folder, stream = shipment.outbox.folder, shipment.outbox.stream
        try:
            keep = shipment.outcome is not Outcome.DONE or not shipment.outbox.settle(shipped=True)
        except OSError as error:
            keep, shipment.outcome, shipment.reason = True, Outcome.LATER, str(error)
        shipment.close(keep=keep)
        match shipment.outcome:
            case Outcome.DONE:
                self.adopted += 1
                self.records += shipment.records
                self._found.pop(folder, None)
                told = ", and it stays for its recording" if keep else ""
                _log.info(
                    "run %s: %s adopted: %d records its trainer left%s", stream.run, folder, shipment.records, told
                )
            case Outcome.LATER:
                self._leave(folder, shipment.reason, now + RETRY_SECONDS)
            case _:
                self._leave(folder, shipment.reason, float("inf"))

    def _leave(self, folder: Path, failure: str, try_at: float) -> None:
        """Try again at ``try_at``, and say once what is wrong."""
        found = self._found.setdefault(folder, _Found())
        if found.failure != failure:
            _log.warning(
                "%s is not adopted: %.500s (said once%s; ship it by hand: tensorboard-sidecar drain %s"
                " --endpoint ENDPOINT)",
                folder,
                failure,
                "" if try_at == float("inf") else f"; tried again every {RETRY_SECONDS:g} s",
                folder,
            )
        found.failure, found.try_at = failure, try_at


def _is_owned(folder: Path) -> bool:
    """Tell whether an outbox has an owner; one that cannot be looked at is left to its own."""
    try:
        return read_owner(folder).holds
    except OSError:
        return True
