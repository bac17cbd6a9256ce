"""What becomes of the messages of all peers: sessions, the journal, and the answers, with the network injected.

A message that breaks the protocol is refused with its reason and counted; its peer must begin again with a HELLO, and
nobody else notices. A peer that never said HELLO is answered once a second at most.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from logger_service.journal import Journal
from logger_service.session import StreamSession
from logger_service.sessions import Sessions
from protocol.errors import Malformed, ProtocolError
from protocol.frame import Buffer
from protocol.run import Run
from protocol.stream import Stream
from protocol.wire import Bye, Data, Hello, Nak, Reject, WireMessage, decode_wire

Send: TypeAlias = Callable[[bytes, WireMessage], bool]
"""Sends to a peer, as far as that goes without waiting; returns False when there is no such peer any more."""

_STRANGERS_MAX: Final = 1024
_STRANGER_INTERVAL_SECONDS: Final = 1.0
_REASON_MAX_CHARACTERS: Final = 500

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class ReceptionCounts:
    """Numbers since the start; they only grow."""

    records: int = 0
    record_bytes: int = 0
    hellos: int = 0
    holes: int = 0
    refused: int = 0
    journal_failures: int = 0

    def __str__(self) -> str:
        return (
            f"{self.records:,} records, {self.record_bytes:,} bytes, {self.refused:,} messages refused,"
            f" {self.journal_failures:,} failures of the journal"
        )


class Reception:
    """Takes messages, fills the journal, answers through ``send``. ``now`` is a steady time in seconds everywhere."""

    def __init__(self, journal: Journal, send: Send, *, streams_max: int) -> None:
        self.counts = ReceptionCounts()
        self._journal, self._send = journal, send
        self._sessions = Sessions(streams_max)
        self._held: dict[bytes, StreamSession] = {}
        self._strangers: OrderedDict[bytes, float] = OrderedDict()
        self._refusal_said_at = float("-inf")

    def __repr__(self) -> str:
        return f"<Reception of {len(self._sessions)} streams, {len(self._held)} held: {self.counts}>"

    def handle(self, peer: bytes, data: Buffer, now: float) -> None:
        """Take one message."""
        try:
            match decode_wire(data):
                case Data(frames):
                    self._data(peer, frames, now)
                case Hello() as hello:
                    self._hello(peer, hello, now)
                case Bye():
                    self._bye(peer, now)
                case other:
                    raise Malformed(f"a trainer does not send {type(other).__name__}")
        except ProtocolError as error:
            self.refuse(peer, error, now)

    def refuse(self, peer: bytes, error: ProtocolError, now: float) -> None:
        """Refuse a peer's message for good; its stream must be opened anew."""
        self.counts.refused += 1
        session = self._sessions.of_peer(peer)
        if now - self._refusal_said_at >= _STRANGER_INTERVAL_SECONDS:
            self._refusal_said_at = now
            whose = f"run {session.stream.run}" if session else f"peer {peer.hex()}"
            _log.warning("%s: message refused: %.500s (%d refused so far)", whose, error, self.counts.refused)
        if session is not None:
            self._release(session, now)
        elif not self._may_answer(peer, now):
            return
        self._send(peer, Reject(str(error)[:_REASON_MAX_CHARACTERS], retry=False))

    @property
    def due_at(self) -> float:
        """When :meth:`tick` has something to do next (infinity: nothing to wait for)."""
        return min([self._journal.commit_at, *(session.retry_at or 0.0 for session in self._held.values())])

    def tick(self, now: float) -> None:
        """Commit what is due, and try again where a pause is over."""
        if now >= self._journal.commit_at:
            self.commit(now)
        for session in [session for session in self._held.values() if now >= (session.retry_at or 0.0)]:
            del self._held[session.stream.id]
            session.resume()
            self._acknowledge(session)

    def commit(self, now: float) -> None:
        """Make durable what came, and acknowledge it."""
        for stream, error in self._journal.commit():
            session = self._sessions.of_stream(stream.id)
            if session is None:
                continue
            if error is not None:
                self._hold(session, error, now)
                continue
            if session.committed():
                _log.info("%s: the journal is written again", _name(stream))
            self._acknowledge(session)

    def _data(self, peer: bytes, frames: memoryview, now: float) -> None:
        session = self._sessions.of_peer(peer)
        if session is None:
            if self._may_answer(peer, now):
                self._send(peer, Nak(0))
            return
        taken = session.take(frames, self._journal.next_sequence(session.stream), now)
        if isinstance(taken, Run):
            try:
                self._journal.append(session.stream, taken, now)
            except OSError as error:
                self._hold(session, error, now)
                return
            self.counts.records += taken.next_sequence - taken.first_sequence
            self.counts.record_bytes += len(taken.frames)
        elif taken is not None:
            self.counts.holes += 1
            self._send(peer, taken)

    def _hello(self, peer: bytes, hello: Hello, now: float) -> None:
        self.counts.hellos += 1
        stream = hello.identity()
        session = self._sessions.of_stream(stream.id)
        if session is not None and session.stream != stream:
            raise Malformed(f"stream {stream.id.hex()} is known as {session.stream}, not {stream}")
        if session is not None and session.peer != peer and not session.silent(now) and self._acknowledge(session):
            self._send(peer, Reject("another peer sends this stream, and it is there", retry=True))
            return
        if session is not None:
            self.commit(now)  # so that it need not send again what has come
        try:
            self._journal.open(stream, hello.next_sequence)
        except OSError as error:
            self.counts.journal_failures += 1
            self._send(peer, Reject(f"the journal cannot be read: {error}"[:_REASON_MAX_CHARACTERS], retry=True))
            return
        session = self._bind(session, stream, peer, now)
        sequence = self._journal.durable_sequence(stream)
        if hello.next_sequence > sequence:
            _log.warning(
                "%s: records %d to %d are not in this journal", _name(stream), sequence, hello.next_sequence - 1
            )
        self._send(peer, session.welcome(peer, sequence, now))

    def _bind(self, session: StreamSession | None, stream: Stream, peer: bytes, now: float) -> StreamSession:
        """Let ``peer`` speak for ``stream``, and for no other."""
        previous = self._sessions.of_peer(peer)
        if previous is not None and previous is not session:
            self._release(previous, now)
        self._strangers.pop(peer, None)
        if session is not None:
            if session.peer != peer:
                self._sessions.hand_over(session, peer)
            return session
        session = StreamSession(stream, peer, now)
        self._sessions.add(session)
        if (surplus := self._sessions.surplus) is not None:
            self._release(surplus, now)
        _log.info("%s: connected", _name(stream))
        return session

    def _bye(self, peer: bytes, now: float) -> None:
        session = self._sessions.of_peer(peer)
        if session is not None:
            self._release(session, now)
            _log.info("%s: finished", _name(session.stream))

    def _release(self, session: StreamSession, now: float) -> None:
        self.commit(now)
        self._sessions.remove(session)
        self._held.pop(session.stream.id, None)
        self._journal.forget(session.stream)

    def _hold(self, session: StreamSession, error: OSError, now: float) -> None:
        self.counts.journal_failures += 1
        if not session.troubled:
            _log.error(
                "%s: the journal cannot be written: %s; nothing is acknowledged until it can, and the trainer keeps it",
                _name(session.stream),
                error,
            )
        session.hold(now)
        self._held[session.stream.id] = session
        self._acknowledge(session)
        self._send(session.peer, Nak(self._journal.durable_sequence(session.stream)))

    def _acknowledge(self, session: StreamSession) -> bool:
        return self._send(session.peer, session.acknowledge(self._journal.durable_sequence(session.stream)))

    def _may_answer(self, peer: bytes, now: float) -> bool:
        """Tell whether a peer without a stream may be answered now."""
        if now - self._strangers.get(peer, float("-inf")) < _STRANGER_INTERVAL_SECONDS:
            return False
        self._strangers[peer] = now
        self._strangers.move_to_end(peer)
        if len(self._strangers) > _STRANGERS_MAX:
            self._strangers.popitem(last=False)
        return True


def _name(stream: Stream) -> str:
    return f"run {stream.run}, attempt {stream.attempt}, rank {stream.rank}"
