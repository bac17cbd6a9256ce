"""Who is connected: sessions by stream and by peer, so many at most."""

from collections import OrderedDict
from collections.abc import Iterator

from logger_service.session import StreamSession


class Sessions:
    """At most ``sessions_max``; when full, ``surplus`` is the session that spoke least recently.

    To forget one costs its peer a HELLO more, nothing else.
    """

    def __init__(self, sessions_max: int) -> None:
        self._sessions_max = sessions_max
        self._by_stream: OrderedDict[bytes, StreamSession] = OrderedDict()
        self._by_peer: dict[bytes, StreamSession] = {}

    def __len__(self) -> int:
        return len(self._by_stream)

    def __iter__(self) -> Iterator[StreamSession]:
        return iter(self._by_stream.values())

    def of_stream(self, stream_id: bytes) -> StreamSession | None:
        """Return the session of a stream."""
        return self._by_stream.get(stream_id)

    def of_peer(self, peer: bytes) -> StreamSession | None:
        """Return the session of a peer that speaks now."""
        session = self._by_peer.get(peer)
        if session is not None:
            self._by_stream.move_to_end(session.stream.id)
        return session

    def add(self, session: StreamSession) -> None:
        """Keep a session that is new."""
        self._by_stream[session.stream.id] = self._by_peer[session.peer] = session

    def hand_over(self, session: StreamSession, peer: bytes) -> None:
        """Let ``peer`` speak for a stream from now on."""
        del self._by_peer[session.peer]
        session.peer = peer
        self._by_peer[peer] = session

    def remove(self, session: StreamSession) -> None:
        """Forget a session."""
        del self._by_stream[session.stream.id], self._by_peer[session.peer]

    @property
    def surplus(self) -> StreamSession | None:
        """The session to forget, if there are too many."""
        return next(iter(self._by_stream.values())) if len(self._by_stream) > self._sessions_max else None
