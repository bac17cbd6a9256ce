"""The receiving side of one stream, and the table of all: accepts batches in order and answers the peer.

Pure: no I/O, time is passed in.

Rule 1: records are accepted in order, each once. Records that came before are dropped without an answer. A hole is
answered with one NAK; the next NAK is sent only after a batch was accepted.
Rule 2: after a failure of the journal the session is paused: all data are dropped, and the peer is told to go back to
the first record that is not durable. The pause doubles with every failure. A disk that is nearly full is no failure:
data on their way are accepted, and there is no credit for more.
Rule 3: one stream has one peer. A trainer that reconnects is a new peer to ZeroMQ. The new peer takes the stream over
when the old peer cannot be reached, or was silent for ``SILENCE_SECONDS``; until then the new peer is told to ask again
later. Nobody else can take a stream over: the id of a stream is random and known to its trainer alone, and where keys
are in use a stream belongs to the key that opened the stream.
Rule 4: a peer that sends more than its credit breaks the protocol; see ``credit``.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from tensorboard_sidecar.logger_service.intake.credit import CreditAccount
from tensorboard_sidecar.logger_service.limits import STREAMS_A_KEY_MAX, STREAMS_NAMED_MAX
from tensorboard_sidecar.protocol.limits import BATCH_SIZE_MAX_BYTES, CREDIT_BYTES
from tensorboard_sidecar.protocol.record import FrameBatch, Hole, check_batch
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import Ack, Nak, Welcome

SILENCE_SECONDS: Final = 10.0
PAUSE_MIN_SECONDS: Final = 0.5
PAUSE_MAX_SECONDS: Final = 10.0


class ReceiveSession:
    """The state of ``stream`` while ``peer`` sends it; ``owner`` is the name of the peer's key, empty without keys.

    ``takes_findings``: the last HELLO asks for findings. ``retry_at`` is the end of the pause after a failure of the
    journal, None outside of a pause. ``now_seconds`` is a monotonic time.
    """

    def __init__(self, stream: Stream, peer: bytes, now_seconds: float, owner: str = "") -> None:
        self.stream, self.owner = stream, owner
        self.peer = peer
        self.takes_findings = False
        self.retry_at: float | None = None
        self._last_heard_at = now_seconds
        self._nak_sequence = 0  # the last NAK, 0 after a batch was accepted
        self._pause_seconds = 0.0  # the last pause, 0 after a commit succeeded
        self._account = CreditAccount()

    @property
    def failing(self) -> bool:
        """Tell whether no commit has succeeded since the journal failed."""
        return self._pause_seconds > 0

    def credit_bytes(self, share_bytes: int = CREDIT_BYTES) -> int:
        """Return how many bytes the peer may have on their way, given the stream's share."""
        if self.retry_at is not None:
            return 0
        return min(BATCH_SIZE_MAX_BYTES, share_bytes) if self.failing else share_bytes

    def silent(self, now_seconds: float) -> bool:
        """Tell whether the peer was silent long enough for another peer to take the stream over."""
        return now_seconds - self._last_heard_at >= SILENCE_SECONDS

    def welcome(
        self, peer: bytes, durable_sequence: int, now_seconds: float, share_bytes: int = CREDIT_BYTES
    ) -> Welcome:
        """Begin, or begin again, with ``peer`` at the first record that is not durable."""
        self.peer, self._last_heard_at, self._nak_sequence = peer, now_seconds, 0
        self._account.reset()
        return Welcome(durable_sequence, self._grant(durable_sequence, share_bytes))

    def receive(self, frames: memoryview, expected_sequence: int, now_seconds: float) -> FrameBatch | Nak | None:
        """Return the batch to append, or the NAK to send, or None: nothing to do.

        Raises Malformed, UnsupportedVersion, CreditExceeded.
        """
        self._last_heard_at = now_seconds
        if self.retry_at is not None:
            return None
        batch = check_batch(frames, expected_sequence)
        if isinstance(batch, Hole):
            if self._nak_sequence == expected_sequence:
                return None
            self._nak_sequence = expected_sequence
            return Nak(expected_sequence)
        if not batch.frames:
            return None
        self._account.spend(len(batch.frames), batch.next_sequence)
        self._nak_sequence = 0
        return batch

    def acknowledge(self, durable_sequence: int, share_bytes: int = CREDIT_BYTES) -> Ack:
        """Return the ACK for all records before ``durable_sequence``, with the credit from there on."""
        return Ack(durable_sequence, self._grant(durable_sequence, share_bytes))

    def committed(self) -> bool:
        """Note a commit that succeeded; tell whether the commit is the first since a failure."""
        recovered, self._pause_seconds = self.failing, 0.0
        return recovered

    def pause(self, now_seconds: float) -> None:
        """Note an append or a commit that failed: drop all data until ``retry_at``."""
        self._pause_seconds = min(max(PAUSE_MIN_SECONDS, 2 * self._pause_seconds), PAUSE_MAX_SECONDS)
        self.retry_at = now_seconds + self._pause_seconds

    def resume(self) -> None:
        """End the pause: accept data again."""
        self.retry_at, self._nak_sequence = None, 0

    def _grant(self, durable_sequence: int, share_bytes: int) -> int:
        """Return the credit for the next answer, and note the credit in the account."""
        self._account.settle(durable_sequence)
        if self.retry_at is not None:
            self._account.drop_pending()
        credit_bytes = self.credit_bytes(share_bytes)
        self._account.grant(credit_bytes)
        return credit_bytes


class SessionTable:
    """The open sessions by stream and by peer: at most ``sessions_max``, and ``owner_sessions_max`` of one key.

    LRU: the sessions are in the order in which their peers spoke last. After :meth:`add`, the caller removes
    :meth:`surplus`; the peer of a removed session says HELLO again, and loses nothing.
    """

    def __init__(self, sessions_max: int, owner_sessions_max: int = STREAMS_A_KEY_MAX) -> None:
        self._sessions_max, self._owner_sessions_max = sessions_max, owner_sessions_max
        self._by_stream: OrderedDict[bytes, ReceiveSession] = OrderedDict()
        self._by_peer: dict[bytes, ReceiveSession] = {}
        self._streams: OrderedDict[bytes, Stream] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_stream)

    def __iter__(self) -> Iterator[ReceiveSession]:
        return iter(self._by_stream.values())

    def of_stream(self, stream_id: bytes) -> ReceiveSession | None:
        """Return the session of a stream."""
        return self._by_stream.get(stream_id)

    def of_peer(self, peer: bytes) -> ReceiveSession | None:
        """Return the session of a peer that speaks now: the session becomes the most recent."""
        session = self._by_peer.get(peer)
        if session is not None:
            self._by_stream.move_to_end(session.stream.id)
        return session

    def stream(self, stream_id: bytes) -> Stream | None:
        """Return a stream that has a session, or had one lately."""
        return self._streams.get(stream_id)

    def add(self, session: ReceiveSession) -> None:
        """Add a new session."""
        self._streams[session.stream.id] = session.stream
        self._streams.move_to_end(session.stream.id)
        if len(self._streams) > STREAMS_NAMED_MAX:
            self._streams.popitem(last=False)
        self._by_stream[session.stream.id] = self._by_peer[session.peer] = session

    def hand_over(self, session: ReceiveSession, peer: bytes) -> None:
        """Give the stream of a session to ``peer``; the old peer has no stream any more."""
        del self._by_peer[session.peer]
        session.peer = peer
        self._by_peer[peer] = session

    def remove(self, session: ReceiveSession) -> None:
        """Remove a session."""
        del self._by_stream[session.stream.id], self._by_peer[session.peer]

    def surplus(self, owner: str) -> ReceiveSession | None:
        """Return the session to remove when there are too many: the least recent of ``owner``, else of all."""
        own = [session for session in self if session.owner == owner] if owner else []
        if len(own) > self._owner_sessions_max:
            return own[0]
        return next(iter(self)) if len(self) > self._sessions_max else None
