"""One orphaned outbox on its way into the journal: a trainer's end of the conversation, held within this process."""

from collections import deque
from enum import Enum
from secrets import token_bytes
from typing import Final

from tensorboard_sidecar.logger_service.intake.dispatcher import Dispatcher
from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.limits import BATCH_SIZE_MAX_BYTES
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox
from tensorboard_sidecar.protocol.wire import Ack, Bye, Data, Hello, Nak, Reject, Welcome, WireMessage, encode_wire

# What is sent before an acknowledgement: some 20 MB/s, which leaves the disk to trainers that are alive.
TURN_SIZE_BYTES: Final = 2**20
PATIENCE_SECONDS: Final = 30.0


class Outcome(Enum):
    """How a shipment ended."""

    DONE = "all of it is on disk"
    LATER = "not now"
    LEFT = "not by this logger"


class LocalPeer:
    """Sends ``outbox`` to ``reception`` as a peer with the key ``owner`` does.

    ``now`` is a steady time in seconds everywhere. ``outcome`` is None until it ends, ``reason`` says why it did not go
    well, ``records`` how many there were to send.
    """

    def __init__(self, outbox: OrphanedOutbox, reception: Dispatcher, now: float, owner: str = "") -> None:
        self.outbox, self.owner = outbox, owner
        self.outcome: Outcome | None = None
        self.reason = ""
        self.records = 0
        self._reception = reception
        # A name that nobody on the network has, or can guess.
        self._peer = b"\0" + token_bytes(16)
        self._answers: deque[WireMessage] = deque()
        self._next_sequence = self._acked_sequence = 0
        self._credit_bytes = 0
        self._progress_at = now
        reception.join(self._peer, self._deliver)
        self._greet(now)

    def __repr__(self) -> str:
        return f"<LocalPeer of {self.outbox.folder.name}: {self._acked_sequence} of {self.outbox.next_sequence}>"

    def step(self, now: float) -> bool:
        """Take the answers that came, and send what may be sent; tell whether anything was sent."""
        while self._answers and self.outcome is None:
            self._receive(self._answers.popleft(), now)
        if self.outcome is not None:
            return False
        if self._acked_sequence >= self.outbox.next_sequence:
            self._end(Outcome.DONE)
        elif self._credit_bytes > 0 and self._acked_sequence == self._next_sequence:
            return self._send(now)
        elif now - self._progress_at >= PATIENCE_SECONDS:
            self._end(Outcome.LATER, f"nothing of it was acknowledged for {PATIENCE_SECONDS:g} s")
        return False

    def close(self, *, keep: bool) -> None:
        """Let go of the stream and of the outbox; delete that unless it is to ``keep``."""
        self._reception.handle(self._peer, encode_wire(Bye()), self._progress_at, self.owner)
        self._reception.leave(self._peer)
        self.outbox.close(keep=keep)

    def _deliver(self, message: WireMessage) -> bool:
        self._answers.append(message)
        return True

    def _greet(self, now: float) -> None:
        stream = self.outbox.stream
        hello = Hello(stream.id, stream.run, stream.rank, stream.attempt, self.outbox.first_sequence)
        self._reception.handle(self._peer, encode_wire(hello), now, self.owner)

    def _receive(self, answer: WireMessage, now: float) -> None:
        match answer:
            case Welcome(sequence, credit_bytes) if sequence < self.outbox.first_sequence:
                self._end(
                    Outcome.LEFT,
                    f"its records before {self.outbox.first_sequence} were acknowledged by another logger; this one has"
                    f" those before {sequence}",
                )
            case Welcome(sequence, credit_bytes):
                if not self._next_sequence:
                    self.records = max(0, self.outbox.next_sequence - sequence)
                self._next_sequence = self._acked_sequence = sequence
                self._credit_bytes, self._progress_at = credit_bytes, now
            case Ack(sequence, credit_bytes):
                if sequence > self._acked_sequence:
                    self._acked_sequence, self._progress_at = sequence, now
                self._credit_bytes = credit_bytes
            case Nak(0):
                self._greet(now)
            case Nak(sequence):
                self._next_sequence = sequence
            case Reject(reason, retry):
                self._end(Outcome.LATER if retry else Outcome.LEFT, reason)
            case _:
                pass

    def _send(self, now: float) -> bool:
        """Send what one turn may, in runs as a trainer sends them."""
        end_bytes = min(TURN_SIZE_BYTES, self._credit_bytes)
        sent_bytes = 0
        try:
            while sent_bytes < end_bytes and self._next_sequence < self.outbox.next_sequence:
                run = self.outbox.read(self._next_sequence, min(BATCH_SIZE_MAX_BYTES, end_bytes - sent_bytes))
                if run is None or (sent_bytes and sent_bytes + len(run.frames) > end_bytes):
                    break
                self._reception.handle(self._peer, encode_wire(Data(run.frames)), now, self.owner)
                self._next_sequence = run.next_sequence
                sent_bytes += len(run.frames)
                if self._answers:  # nothing good comes at once
                    break
        except OSError as error:
            self._end(Outcome.LATER, str(error))
        except (ProtocolError, LookupError) as error:
            self._end(Outcome.LEFT, str(error))
        return sent_bytes > 0

    def _end(self, outcome: Outcome, reason: str = "") -> None:
        self.outcome, self.reason = outcome, reason
