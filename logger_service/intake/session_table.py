"""Who is connected: sessions by stream and by peer, so many at most."""

from collections import OrderedDict
from collections.abc import Iterator

from tensorboard_sidecar.logger_service.intake.receive_session import ReceiveSession
from tensorboard_sidecar.logger_service.limits import STREAMS_A_KEY_MAX


class SessionTable:
    """At most ``sessions_max``, and ``owner_sessions_max`` of one key; what is too many tells :meth:`surplus`.

    To forget a session costs its peer a HELLO more, nothing else.
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
        """Return the session of a peer that speaks now."""
        session = self._by_peer.get(peer)
        if session is not None:
            self._by_stream.move_to_end(session.stream.id)
        return session

    def add(self, session: ReceiveSession) -> None:
        """Keep a session that is new."""
        self._by_stream[session.stream.id] = self._by_peer[session.peer] = session

    def hand_over(self, session: ReceiveSession, peer: bytes) -> None:
        """Let ``peer`` speak for a stream from now on."""
        del self._by_peer[session.peer]
        session.peer = peer
        self._by_peer[peer] = session

    def remove(self, session: ReceiveSession) -> None:
        """Forget a session."""
        del self._by_stream[session.stream.id], self._by_peer[session.peer]

    def surplus(self, owner: str) -> ReceiveSession | None:
        """Return the session to forget, if there are too many: the one of ``owner``, or of all, silent for longest."""
        own = [session for session in self if session.owner == owner] if owner else []
        if len(own) > self._owner_sessions_max:
            return own[0]
        return next(iter(self)) if len(self) > self._sessions_max else None
