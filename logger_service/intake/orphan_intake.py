"""Adopts the outboxes of trainers on this machine that were killed, or that ended without their logger.

:class:`OrphanWorker` finds, claims, retries and deletes outboxes. A :class:`LocalPeer` sends an adopted outbox to the
dispatcher as if the trainer had come back: order, deduplication, credit and journal errors are those of the network.

Rule 1: an outbox for this logger, or for no named logger, is adopted ``GRACE_SECONDS`` after its owner is gone. An
outbox for another logger on this machine is left to that logger for ``OTHERS_GRACE_SECONDS``. An outbox for another
machine, and an outbox that is only to be recorded, is never adopted.
Rule 2: one outbox at a time and a bounded number of bytes a turn, so that live trainers do not wait.
Rule 3: an outbox whose first record lies after the end of this journal was acknowledged by another logger, and is left.
Rule 4: where trainers have keys, an outbox names the public key of its trainer, and is adopted while that key is on the
allow list, in the name of that key.
"""

import socket
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from secrets import token_bytes
from typing import Final

from tensorboard_sidecar.logger_service.access.allow_list import AllowList
from tensorboard_sidecar.logger_service.intake.open_streams import Dispatcher
from tensorboard_sidecar.protocol.limits import BATCH_SIZE_MAX_BYTES, SEQUENCE_MAX
from tensorboard_sidecar.protocol.outbox import orphan_delivery
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox, find_outboxes
from tensorboard_sidecar.protocol.outbox.orphan_delivery import NEVER, OrphanWorker, Refused, Sink, TryLater
from tensorboard_sidecar.protocol.outbox.outbox_files import NO_LOGGER, Destination, is_elsewhere, is_for
from tensorboard_sidecar.protocol.outbox.send_session import SendSession, SendState
from tensorboard_sidecar.protocol.printable import printable
from tensorboard_sidecar.protocol.storage.key_files import KEY_CHARACTERS
from tensorboard_sidecar.protocol.wire import Bye, Data, WireMessage, encode_wire

LOOK_SECONDS: Final = 2.0
GRACE_SECONDS: Final = 3.0
OTHERS_GRACE_SECONDS: Final = 60.0
# The limit before an acknowledgement: some 20 MB/s, which leaves most of the disk's bandwidth to live trainers.
TURN_SIZE_BYTES: Final = 2**20


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

    def _open(self, orphan: OrphanedOutbox, now_seconds: float) -> orphan_delivery.SessionDelivery:
        key = orphan.destination.public_key
        peer = LocalPeer(orphan, self._dispatcher, now_seconds, lambda now: self._owner_name(key, now))
        return orphan_delivery.SessionDelivery(orphan, peer, now_seconds)

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


class LocalPeer:
    """A link from ``orphan`` to ``dispatcher``.

    ``owner_name`` is called with a monotonic time at each step. It returns the current name of the trainer's key, empty
    where trainers have no keys, and raises TryLater when the key is not allowed.
    """

    def __init__(
        self, orphan: OrphanedOutbox, dispatcher: Dispatcher, now_seconds: float, owner_name: Callable[[float], str]
    ) -> None:
        self.session = SendSession(orphan.stream, SEQUENCE_MAX)  # the journal may hold more than the orphan
        self.endpoint = "this process"
        self._orphan, self._dispatcher, self._owner_name = orphan, dispatcher, owner_name
        self._owner = owner_name(now_seconds)
        self._peer = b"\0" + token_bytes(16)  # no peer of the network has, or can guess, this name
        self._answers: deque[WireMessage] = deque()
        self._now_seconds = now_seconds
        dispatcher.replies.join(self._peer, self._take_answer)
        self.session.opened()
        self._greet()

    def step(self, now_seconds: float) -> bool:
        """Take the answers, then send up to TURN_SIZE_BYTES; return whether data were sent."""
        session, first_sequence = self.session, self._orphan.first_sequence
        self._now_seconds = now_seconds
        if self._owner_name(now_seconds) != self._owner:
            raise TryLater("its trainer's key has another name now")
        while self._answers:
            session.receive(self._answers.popleft(), now_seconds)
        if session.state is SendState.PAUSED:
            raise TryLater(session.reason)
        if session.state is SendState.OPENING:
            self._greet()
        if session.state is SendState.STREAMING and session.acked_sequence < first_sequence:
            raise Refused(
                f"its records before {first_sequence} were acknowledged by another logger; this one has those before"
                f" {session.acked_sequence}"
            )
        return self._send()

    def close(self) -> None:
        """Leave the stream to other peers."""
        self._dispatcher.handle(self._peer, encode_wire(Bye()), self._now_seconds, self._owner)
        self._dispatcher.replies.leave(self._peer)

    def _take_answer(self, message: WireMessage) -> bool:
        self._answers.append(message)
        return True

    def _greet(self) -> None:
        hello = self.session.hello(self._orphan.first_sequence)
        self._dispatcher.handle(self._peer, encode_wire(hello), self._now_seconds, self._owner)
        self.session.greeted(self._now_seconds)

    def _send(self) -> bool:
        window, sent = self.session.window, False
        while window.next_sequence < self._orphan.next_sequence:
            room_bytes = min(self.session.size_max_bytes, TURN_SIZE_BYTES - window.in_flight_bytes)
            if room_bytes <= 0:
                break
            try:
                batch = self._orphan.read(window.next_sequence, min(BATCH_SIZE_MAX_BYTES, room_bytes))
            except OSError as error:
                raise TryLater(str(error)) from error
            if batch is None or (not window.idle and len(batch.frames) > room_bytes):
                break
            self._dispatcher.handle(self._peer, encode_wire(Data(batch.frames)), self._now_seconds, self._owner)
            self.session.sent(batch, self._now_seconds)
            sent = True
            if self._answers:  # an answer before the commit is a NAK or a REJECT
                break
        return sent


def is_own_host(host: str) -> bool:
    """Return whether ``host`` is this machine's name or address (without brackets); no DNS: a lookup could block."""
    name = socket.gethostname().lower()
    if host.lower() in (name, name.partition(".")[0]):
        return True
    with suppress(ValueError, OSError):
        family = socket.AF_INET if ip_address(host).version == 4 else socket.AF_INET6
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))  # the kernel binds only addresses of this machine
        return True
    return False
