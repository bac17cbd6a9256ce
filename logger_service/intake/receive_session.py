"""One stream and the peer that sends it, decided without I/O.

Rule 1: records are taken in order, each once. What came before is dropped without a word; for a hole the peer is asked
once, and again only after something was taken.
Rule 2: while the journal cannot be written the session is held: all data are dropped, the peer gets no credit and is
told to begin again at what is durable. When the pause is over it gets credit for one batch, and all of it again after a
commit that succeeded. The pause doubles with every failure. A disk that is nearly full is no failure: then what comes
is taken, and there is no credit for more.
Rule 3: one stream, one peer. A trainer that connects anew is a new peer to ZeroMQ, so another one may take the stream
over when the first can no longer be reached or was silent for ``SILENCE_SECONDS``. Until then it is told to ask again,
which trainers do. A stream's id is random and secret to its trainer, and where there are keys a stream belongs to the
one that opened it, so nobody else gets in between.
Rule 4: credit is a bound. Counted in bytes from a WELCOME on, a peer may send up to the farthest that any answer with
its credit has reached: it may know less than the last one, when the credit shrinks while data are on their way. One run
may be larger, when nothing is on its way and there was credit. More breaks the protocol. What is dropped or comes again
does not count.
"""

from collections import deque
from typing import Final

from tensorboard_sidecar.protocol.batch import FrameBatch, Hole, check_batch
from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.limits import BATCH_SIZE_MAX_BYTES, CREDIT_BYTES
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import Ack, Nak, Welcome

SILENCE_SECONDS: Final = 10.0
HOLD_MIN_SECONDS: Final = 0.5
HOLD_MAX_SECONDS: Final = 10.0


class CreditExceeded(ProtocolError):
    """A peer sends more than it was ever allowed to."""


class ReceiveSession:
    """What is known of ``stream`` while ``peer`` sends it, with the key ``owner``; ``now`` in steady seconds."""

    def __init__(self, stream: Stream, peer: bytes, now: float, owner: str = "") -> None:
        self.stream, self.owner = stream, owner
        self.peer = peer
        self.retry_at: float | None = None
        self._heard_at = now
        self._asked_for = 0
        self._hold_seconds = 0.0
        # Counted from the last WELCOME on: how far the peer may send, how much was taken, and how much was durable when
        # that was told; of what is not, the number behind each run, and the count with it.
        self._allowed_bytes = self._taken_bytes = self._durable_bytes = 0
        self._taken: deque[tuple[int, int]] = deque()

    def __repr__(self) -> str:
        state = "held" if self.retry_at is not None else "recovering" if self.troubled else "open"
        return f"<ReceiveSession {self.stream.run} rank {self.stream.rank} attempt {self.stream.attempt} {state}>"

    @property
    def troubled(self) -> bool:
        """Tell whether no commit has succeeded since the journal failed."""
        return self._hold_seconds > 0

    @property
    def credit_bytes(self) -> int:
        """How many bytes the peer may have on their way."""
        if self.retry_at is not None:
            return 0
        return BATCH_SIZE_MAX_BYTES if self.troubled else CREDIT_BYTES

    def silent(self, now: float) -> bool:
        """Tell whether the peer has said nothing for so long that another one may speak for the stream."""
        return now - self._heard_at >= SILENCE_SECONDS

    def welcome(self, peer: bytes, durable_sequence: int, now: float, credit_max_bytes: int = CREDIT_BYTES) -> Welcome:
        """Begin with ``peer``, or begin again, at what is durable."""
        self.peer, self._heard_at, self._asked_for = peer, now, 0
        self._allowed_bytes = self._taken_bytes = self._durable_bytes = 0
        self._taken.clear()
        return Welcome(durable_sequence, self._grant(durable_sequence, credit_max_bytes))

    def take(self, frames: memoryview, expected_sequence: int, now: float) -> FrameBatch | Nak | None:
        """Return the run to append, the answer to send, or None.

        Raises Malformed, UnsupportedVersion, CreditExceeded.
        """
        self._heard_at = now
        if self.retry_at is not None:
            return None
        found = check_batch(frames, expected_sequence)
        if isinstance(found, Hole):
            if self._asked_for == expected_sequence:
                return None
            self._asked_for = expected_sequence
            return Nak(expected_sequence)
        if not found.frames:
            return None
        self._spend(len(found.frames))
        self._taken.append((found.next_sequence, self._taken_bytes))
        self._asked_for = 0
        return found

    def acknowledge(self, durable_sequence: int, credit_max_bytes: int = CREDIT_BYTES) -> Ack:
        """Say what is durable, and how much may come."""
        return Ack(durable_sequence, self._grant(durable_sequence, credit_max_bytes))

    def committed(self) -> bool:
        """Account for a commit that succeeded; tell whether that is the end of a trouble."""
        recovered, self._hold_seconds = self.troubled, 0.0
        return recovered

    def hold(self, now: float) -> None:
        """Account for an append or a commit that failed: take nothing for a while."""
        self._hold_seconds = min(max(HOLD_MIN_SECONDS, 2 * self._hold_seconds), HOLD_MAX_SECONDS)
        self.retry_at = now + self._hold_seconds

    def resume(self) -> None:
        """Try again: take what comes."""
        self.retry_at, self._asked_for = None, 0

    def _spend(self, size_bytes: int) -> None:
        """Account for a run that is taken; raise CreditExceeded."""
        alone = self._taken_bytes == self._durable_bytes < self._allowed_bytes
        if self._taken_bytes + size_bytes > self._allowed_bytes and not alone:
            raise CreditExceeded(
                f"more came than the credit allows: {self._taken_bytes + size_bytes:,} bytes since the WELCOME, where"
                f" {self._allowed_bytes:,} may"
            )
        self._taken_bytes += size_bytes

    def _grant(self, durable_sequence: int, credit_max_bytes: int) -> int:
        """Return the credit, and remember how far it lets the peer send."""
        while self._taken and self._taken[0][0] <= durable_sequence:
            self._durable_bytes = self._taken.popleft()[1]
        if self.retry_at is not None:  # the rest is dropped, and comes again
            self._taken.clear()
            self._taken_bytes = self._durable_bytes
        credit_bytes = min(self.credit_bytes, credit_max_bytes)
        self._allowed_bytes = max(self._allowed_bytes, self._durable_bytes + credit_bytes)
        return credit_bytes
