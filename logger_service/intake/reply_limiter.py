"""Peers without a stream: each is answered once a second at most, so that a flood of rubbish costs no flood of answers.

What "full" means: the one that was answered longest ago is forgotten, and may be answered again at once.
"""

from collections import OrderedDict
from typing import Final

from tensorboard_sidecar.logger_service.limits import PEERS_WITHOUT_STREAM_MAX

SAY_INTERVAL_SECONDS: Final = 1.0


class ReplyLimiter:
    """When each of them was answered last; ``now`` is a steady time in seconds."""

    def __init__(self, strangers_max: int = PEERS_WITHOUT_STREAM_MAX) -> None:
        self._strangers_max = strangers_max
        self._answered_at: OrderedDict[bytes, float] = OrderedDict()

    def __repr__(self) -> str:
        return f"<ReplyLimiter: {len(self._answered_at)}>"

    def may_answer(self, peer: bytes, now: float) -> bool:
        """Tell whether a peer without a stream may be answered now, and take it that it is."""
        if now - self._answered_at.get(peer, float("-inf")) < SAY_INTERVAL_SECONDS:
            return False
        self._answered_at[peer] = now
        self._answered_at.move_to_end(peer)
        if len(self._answered_at) > self._strangers_max:
            self._answered_at.popitem(last=False)
        return True

    def forget(self, peer: bytes) -> None:
        """Take note that a peer has a stream now."""
        self._answered_at.pop(peer, None)
