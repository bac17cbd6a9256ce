"""Adopts the outboxes of trainers on this machine that were killed, or that ended without their logger.

A :class:`LocalPeer` sends an adopted outbox to the dispatcher as if the trainer had come back. Order, deduplication,
credit and journal errors are handled as for the network. :class:`OrphanWorker` finds, claims, retries and deletes.

Rule 1: an outbox for this logger, or for no named logger, is adopted ``GRACE_SECONDS`` after its owner is gone. An
outbox for another logger on this machine is left to that logger for ``OTHERS_GRACE_SECONDS``. An outbox for another
machine, and an outbox that is only to be recorded, is never adopted.
Rule 2: one outbox at a time and a bounded number of bytes a turn, so that live trainers do not wait.
Rule 3: an outbox whose first record lies after the end of this journal was acknowledged by another logger, and is left.
Rule 4: where trainers have keys, an outbox names the public key of its trainer, and is adopted while that key is on the
allow list, in the name of that key.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from tensorboard_sidecar.logger_service.access.allow_list import AllowList
from tensorboard_sidecar.logger_service.intake.dispatcher import Dispatcher
from tensorboard_sidecar.logger_service.intake.local_peer import LocalPeer
from tensorboard_sidecar.logger_service.intake.own_host import is_own_host
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox, find_outboxes
from tensorboard_sidecar.protocol.outbox.orphan_delivery import (
    NEVER,
    OrphanWorker,
    Refused,
    SessionDelivery,
    Sink,
    TryLater,
)
from tensorboard_sidecar.protocol.outbox.outbox_files import NO_LOGGER, Destination, is_elsewhere, is_for
from tensorboard_sidecar.protocol.printable import printable
from tensorboard_sidecar.protocol.storage.key_files import KEY_CHARACTERS

LOOK_SECONDS: Final = 2.0
GRACE_SECONDS: Final = 3.0
OTHERS_GRACE_SECONDS: Final = 60.0


class OrphanIntake(OrphanWorker):
    """Adopts the orphans below ``roots`` (absolute paths).

    ``endpoints`` are the addresses of this logger, and other names that trainers use for this logger. ``allowed`` lists
    the keys that may send, None where trainers have no keys.
    """

    def __init__(
        self, roots: Sequence[Path], dispatcher: Dispatcher, endpoints: Iterable[str], allowed: AllowList | None = None
    ) -> None:
        self._dispatcher, self._endpoints, self._allowed = dispatcher, tuple(endpoints), allowed
        super().__init__(lambda: find_outboxes(*roots), Sink(self._open, self._grace_seconds), LOOK_SECONDS)

    def _grace_seconds(self, destination: Destination) -> float:
        endpoint = destination.endpoint
        if endpoint == NO_LOGGER:
            return NEVER
        if not endpoint or any(is_for(endpoint, own, is_own_host) for own in self._endpoints):
            return GRACE_SECONDS
        if is_elsewhere(endpoint):
            raise Refused(f"it is for the logger at {printable(endpoint):.200}")
        return OTHERS_GRACE_SECONDS

    def _open(self, orphan: OrphanedOutbox, now_seconds: float) -> SessionDelivery:
        key = orphan.destination.public_key
        peer = LocalPeer(orphan, self._dispatcher, now_seconds, lambda now: self._owner_name(key, now))
        return SessionDelivery(orphan, peer, now_seconds)

    def _owner_name(self, public_key: str, now_seconds: float) -> str:
        """Return the name of a trainer's key, empty where trainers have no keys; raise TryLater."""
        if self._allowed is None:
            return ""
        self._allowed.refresh(now_seconds)
        name = self._allowed.name_of(public_key)
        if name is None:
            key = printable(public_key)[:KEY_CHARACTERS]
            raise TryLater(f"its trainer's key {key} is not allowed" if key else "its trainer had no key")
        return name
