"""Replies to peers: over the network, or within this process for an orphaned outbox.

A peer without a stream gets one reply a second at most, so that a flood of bad messages costs no flood of replies.
What "full" means: the limiter forgets the peer that was answered longest ago, and may answer that peer again at once.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, TypeAlias

from tensorboard_sidecar.logger_service.limits import PEERS_WITHOUT_STREAM_MAX
from tensorboard_sidecar.protocol.wire import WireMessage

REPLY_INTERVAL_SECONDS: Final = 1.0

Send: TypeAlias = Callable[[bytes, WireMessage], bool]
"""Sends a message to a peer without waiting; returns False when the peer is gone."""


class ReplyLimiter:
    """Limits replies to one per peer in ``REPLY_INTERVAL_SECONDS``; remembers at most ``peers_max`` peers."""

    def __init__(self, peers_max: int = PEERS_WITHOUT_STREAM_MAX) -> None:
        self._peers_max = peers_max
        self._answered_at: OrderedDict[bytes, float] = OrderedDict()

    def __repr__(self) -> str:
        return f"<ReplyLimiter: {len(self._answered_at)}>"

    def may_answer(self, peer: bytes, now_seconds: float) -> bool:
        """Tell whether a peer may get a reply now, and count the reply as sent."""
        if now_seconds - self._answered_at.get(peer, float("-inf")) < REPLY_INTERVAL_SECONDS:
            return False
        self._answered_at[peer] = now_seconds
        self._answered_at.move_to_end(peer)
        if len(self._answered_at) > self._peers_max:
            self._answered_at.popitem(last=False)
        return True

    def forget(self, peer: bytes) -> None:
        """Forget a peer: its next reply is not limited."""
        self._answered_at.pop(peer, None)


class Replies:
    """Sends replies: to peers of this process by their own function, to all others by ``network``."""

    def __init__(self, network: Send) -> None:
        self._network = network
        self._local_peers: dict[bytes, Callable[[WireMessage], bool]] = {}
        self._limiter = ReplyLimiter()

    def __repr__(self) -> str:
        return f"<Replies: {len(self._local_peers)} peers in this process, {self._limiter!r}>"

    def join(self, peer: bytes, deliver: Callable[[WireMessage], bool]) -> None:
        """Add a peer of this process; ``peer`` must be an id that the network gives to nobody."""
        self._local_peers[peer] = deliver

    def leave(self, peer: bytes) -> None:
        """Remove a peer of this process."""
        del self._local_peers[peer]

    def send(self, peer: bytes, message: WireMessage) -> bool:
        """Send a message to a peer; return False when the peer is gone."""
        deliver = self._local_peers.get(peer)
        return self._network(peer, message) if deliver is None else deliver(message)

    def send_limited(self, peer: bytes, message: WireMessage, now_seconds: float) -> None:
        """Send a message to a peer without a stream, unless that peer had a reply within the last second."""
        if self._limiter.may_answer(peer, now_seconds):
            self.send(peer, message)

    def stream_opened(self, peer: bytes) -> None:
        """Note that a peer has a stream: when the stream is closed, the next reply is not limited."""
        self._limiter.forget(peer)
