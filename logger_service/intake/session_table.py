"""The open sessions, found by stream and by peer, in the order in which their peers spoke last (LRU)."""

from collections import OrderedDict
from collections.abc import Iterator

from tensorboard_sidecar.logger_service.intake.receive_session import ReceiveSession
from tensorboard_sidecar.logger_service.limits import STREAMS_A_KEY_MAX


class SessionTable:
    """Holds at most ``sessions_max`` sessions, and ``owner_sessions_max`` of one key.

    The table does not remove a session by itself: after :meth:`add`, the caller removes :meth:`surplus`. A peer whose
    session was removed says HELLO again, and loses nothing.
    """

    def __init__(self, sessions_max: int, owner_sessions_max: int = STREAMS_A_KEY_MAX) -> None:
        self._sessions_max, self._owner_sessions_max = sessions_max, owner_sessions_max
        self._by_stream: OrderedDict[bytes, ReceiveSession] = OrderedDict()
        self._by_peer: dict[bytes, ReceiveSession] = {}

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

    def add(self, session: ReceiveSession) -> None:
        """Add a new session."""
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
