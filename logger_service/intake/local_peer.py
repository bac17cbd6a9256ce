"""Sends an orphaned outbox to the dispatcher as a peer of the network does, inside this process."""

from collections import deque
from collections.abc import Callable
from secrets import token_bytes
from typing import Final

from tensorboard_sidecar.logger_service.intake.dispatcher import Dispatcher
from tensorboard_sidecar.protocol.limits import BATCH_SIZE_MAX_BYTES, SEQUENCE_MAX
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox
from tensorboard_sidecar.protocol.outbox.orphan_delivery import Refused, TryLater
from tensorboard_sidecar.protocol.outbox.send_session import SendSession, SendState
from tensorboard_sidecar.protocol.wire import Bye, Data, WireMessage, encode_wire

# The limit before an acknowledgement: some 20 MB/s, which leaves most of the disk's bandwidth to live trainers.
TURN_SIZE_BYTES: Final = 2**20


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
        dispatcher.join(self._peer, self._take_answer)
        self.session.opened()
        self._greet()

    def __repr__(self) -> str:
        return f"<LocalPeer {self.session!r}>"

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
        self._dispatcher.leave(self._peer)

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
