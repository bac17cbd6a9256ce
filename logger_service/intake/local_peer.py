"""Delivers an orphaned outbox into the journal: plays the trainer's side of the wire protocol inside this process."""

from collections import deque
from collections.abc import Callable
from secrets import token_bytes
from typing import Final, assert_never

from tensorboard_sidecar.logger_service.intake.dispatcher import Dispatcher
from tensorboard_sidecar.protocol.limits import BATCH_SIZE_MAX_BYTES
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox
from tensorboard_sidecar.protocol.outbox.orphan_delivery import NotDelivered
from tensorboard_sidecar.protocol.outbox.send_window import SendWindow
from tensorboard_sidecar.protocol.wire import Ack, Bye, Data, Hello, Nak, Reject, Welcome, WireMessage, encode_wire

# The limit before an acknowledgement: some 20 MB/s, which leaves most of the disk's bandwidth to live trainers.
TURN_SIZE_BYTES: Final = 2**20
PATIENCE_SECONDS: Final = 30.0


class LocalPeer:
    """Sends ``orphan`` to ``dispatcher``, like a peer of the network with the key that ``owner_name`` names.

    ``owner_name`` is called with a monotonic time at each step. It returns the current name of the trainer's key, empty
    where trainers have no keys, and raises NotDelivered when the key is not allowed. The next batches are sent when
    the journal has acknowledged all batches before.
    """

    def __init__(
        self, orphan: OrphanedOutbox, dispatcher: Dispatcher, now_seconds: float, owner_name: Callable[[float], str]
    ) -> None:
        self.records = 0
        self._orphan, self._dispatcher, self._owner_name = orphan, dispatcher, owner_name
        self._owner = owner_name(now_seconds)
        self._peer = b"\0" + token_bytes(16)  # no peer of the network has, or can guess, this name
        self._answers: deque[WireMessage] = deque()
        self._window = SendWindow(acked_sequence=0)
        self._progress_at_seconds = now_seconds
        dispatcher.join(self._peer, self._deliver)
        self._greet(now_seconds)

    def __repr__(self) -> str:
        return f"<LocalPeer: {self._window.acked_sequence} of {self._orphan.next_sequence}>"

    @property
    def result(self) -> str:
        """A phrase for the report when the journal holds all records durably, empty before."""
        done = self._window.acked_sequence >= self._orphan.next_sequence
        return f"adopted: {self.records} records its trainer left" if done else ""

    def step(self, now_seconds: float) -> bool:
        """Take the answers, then send up to TURN_SIZE_BYTES; return whether data were sent. Raises NotDelivered."""
        if self._owner_name(now_seconds) != self._owner:
            raise NotDelivered("its trainer's key has another name now", retry=True)
        while self._answers:
            self._receive(self._answers.popleft(), now_seconds)
        if self.result:
            return False
        if self._window.credit_bytes > 0 and self._window.acked_sequence == self._window.next_sequence:
            return self._send(now_seconds)
        if now_seconds - self._progress_at_seconds >= PATIENCE_SECONDS:
            raise NotDelivered(f"nothing of it was acknowledged for {PATIENCE_SECONDS:g} s", retry=True)
        return False

    def close(self) -> None:
        """Leave the stream to other peers."""
        self._dispatcher.handle(self._peer, encode_wire(Bye()), self._progress_at_seconds, self._owner)
        self._dispatcher.leave(self._peer)

    def _deliver(self, message: WireMessage) -> bool:
        self._answers.append(message)
        return True

    def _greet(self, now_seconds: float) -> None:
        stream = self._orphan.stream
        hello = Hello(stream.id, stream.run, stream.rank, stream.attempt, self._orphan.first_sequence)
        self._dispatcher.handle(self._peer, encode_wire(hello), now_seconds, self._owner)

    def _receive(self, answer: WireMessage, now_seconds: float) -> None:
        match answer:
            case Welcome(sequence, credit_bytes):
                if sequence < self._orphan.first_sequence:
                    raise NotDelivered(
                        f"its records before {self._orphan.first_sequence} were acknowledged by another logger; this"
                        f" one has those before {sequence}",
                        retry=False,
                    )
                if not self._window.acked_sequence:
                    self.records = max(0, self._orphan.next_sequence - sequence)
                self._window.restart(sequence, credit_bytes)
                self._progress_at_seconds = now_seconds
            case Ack(sequence, credit_bytes):
                if self._window.acknowledge(sequence, credit_bytes):
                    self._progress_at_seconds = now_seconds
            case Nak(0):
                self._greet(now_seconds)
            case Nak(sequence):
                self._window.go_back(sequence)
            case Reject(reason, retry):
                raise NotDelivered(reason, retry=retry)
            case Hello() | Data() | Bye():
                pass  # the dispatcher sends none of these
            case _:
                assert_never(answer)

    def _send(self, now_seconds: float) -> bool:
        """Send batches of the size that a trainer sends, up to the credit and TURN_SIZE_BYTES."""
        window, size_max_bytes = self._window, min(TURN_SIZE_BYTES, self._window.credit_bytes)
        while window.in_flight_bytes < size_max_bytes and window.next_sequence < self._orphan.next_sequence:
            size_bytes = min(BATCH_SIZE_MAX_BYTES, size_max_bytes - window.in_flight_bytes)
            try:
                batch = self._orphan.read(window.next_sequence, size_bytes)
            except OSError as error:
                raise NotDelivered(str(error), retry=True) from error
            if batch is None or (not window.idle and window.in_flight_bytes + len(batch.frames) > size_max_bytes):
                break
            self._dispatcher.handle(self._peer, encode_wire(Data(batch.frames)), now_seconds, self._owner)
            window.send(batch.next_sequence, len(batch.frames))
            if self._answers:  # an answer before the commit is a NAK or a REJECT
                break
        return not window.idle
