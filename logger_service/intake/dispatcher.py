"""Dispatches the messages of all peers: one case per kind of wire message; the network is injected.

A message that breaks the protocol, or that cannot be handled, is answered with REJECT and the reason, and counted. Its
peer must begin again with a HELLO; no other peer notices. A fault on the disk costs no more than that either.
"""

import logging
from typing import Final, assert_never

from tensorboard_sidecar.logger_service.intake.credit import CreditExceeded
from tensorboard_sidecar.logger_service.intake.open_streams import IntakeCounts, OpenStreams, Replies
from tensorboard_sidecar.protocol.errors import Malformed, ProtocolError
from tensorboard_sidecar.protocol.frame import Buffer
from tensorboard_sidecar.protocol.printable import printable
from tensorboard_sidecar.protocol.wire import Ack, Bye, Data, Hello, Nak, Reject, Welcome, WireMessage, decode_wire

_REASON_MAX_CHARACTERS: Final = 500
_LOG_INTERVAL_SECONDS: Final = 1.0

_log = logging.getLogger(__name__)


class Dispatcher:
    """Hands messages to ``streams``, refuses bad messages by ``replies``. ``now_seconds`` is a monotonic time."""

    def __init__(self, streams: OpenStreams, replies: Replies, counts: IntakeCounts) -> None:
        self.streams, self.replies, self.counts = streams, replies, counts
        self._refusal_logged_at = float("-inf")

    def __repr__(self) -> str:
        return f"<Dispatcher of {self.streams!r}: {self.counts}>"

    def handle(self, peer: bytes, data: Buffer, now_seconds: float, owner: str = "") -> bool:
        """Handle one message of a peer with the key ``owner``; return False when the connection must be cut.

        No error is raised: the peer gets a REJECT.
        """
        try:
            self._dispatch(peer, decode_wire(data), now_seconds, owner)
        except CreditExceeded as error:
            self.refuse(peer, error, now_seconds)
            return False
        except ProtocolError as error:
            self.refuse(peer, error, now_seconds)
        except OSError as error:
            self.counts.journal_failures += 1
            self.refuse(peer, OSError(f"the journal cannot be used: {error}"), now_seconds, retry=True)
        except Exception as error:  # noqa: BLE001 - a bug of the logger: the peer reconnects, and the journal is read anew
            self.refuse(peer, error, now_seconds, retry=True)
        return True

    def refuse(self, peer: bytes, error: Exception, now_seconds: float, *, retry: bool = False) -> None:
        """Refuse a message and close the peer's stream; with ``retry`` the peer may open the stream again later."""
        self.counts.refused += 1
        self._log_refusal(peer, error, now_seconds)
        reason = printable(str(error))[:_REASON_MAX_CHARACTERS]  # a path may hold bytes that msgpack cannot encode
        if self.streams.drop(peer, now_seconds):
            self.replies.send(peer, Reject(reason, retry=retry))
        else:
            self.replies.send_limited(peer, Reject(reason, retry=retry), now_seconds)

    def _dispatch(self, peer: bytes, message: WireMessage, now_seconds: float, owner: str) -> None:
        match message:
            case Hello():
                self.counts.hellos += 1
                self.streams.open(peer, message, now_seconds, owner)
            case Data(frames):
                if not self.streams.receive(peer, frames, now_seconds):
                    self.replies.send_limited(peer, Nak(0), now_seconds)
            case Bye():
                self.streams.finish(peer, now_seconds)
            case Welcome() | Reject() | Ack() | Nak():
                raise Malformed(f"a trainer does not send {type(message).__name__}")
            case _:
                assert_never(message)

    def _log_refusal(self, peer: bytes, error: Exception, now_seconds: float) -> None:
        """Log a refusal, at most once a second; with a traceback when the error is a bug of the logger."""
        if now_seconds - self._refusal_logged_at < _LOG_INTERVAL_SECONDS:
            return
        self._refusal_logged_at = now_seconds
        stream = self.streams.stream_of(peer)
        _log.warning(
            "%s: message refused: %.500s (%d refused so far)",
            f"run {stream.run}" if stream else f"peer {peer.hex()}",
            error,
            self.counts.refused,
            exc_info=None if isinstance(error, ProtocolError | OSError) else error,
        )
