"""What becomes of the messages of all peers: sessions, the journal, and the answers, with the network injected.

A message that breaks the protocol, or that cannot be dealt with, is refused with its reason and counted; its peer must
begin again with a HELLO, and nobody else notices. Whatever is found on the disk on its way costs no more than that. A
peer that never said HELLO is answered once a second at most.
"""

import logging
from collections.abc import Callable
from time import monotonic
from typing import Final, TypeAlias

from tensorboard_sidecar.logger_service.intake.counts import IntakeCounts
from tensorboard_sidecar.logger_service.intake.durations import Durations
from tensorboard_sidecar.logger_service.intake.journal import Journal
from tensorboard_sidecar.logger_service.intake.receive_session import CreditExceeded, ReceiveSession
from tensorboard_sidecar.logger_service.intake.reply_limiter import SAY_INTERVAL_SECONDS, ReplyLimiter
from tensorboard_sidecar.logger_service.intake.session_table import SessionTable
from tensorboard_sidecar.logger_service.limits import CREDIT_TOTAL_BYTES
from tensorboard_sidecar.protocol.batch import FrameBatch
from tensorboard_sidecar.protocol.errors import Malformed, ProtocolError
from tensorboard_sidecar.protocol.frame import Buffer
from tensorboard_sidecar.protocol.limits import BATCH_SIZE_MAX_BYTES, CREDIT_BYTES
from tensorboard_sidecar.protocol.printable import printable
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import Bye, Data, Hello, Nak, Reject, WireMessage, decode_wire

Send: TypeAlias = Callable[[bytes, WireMessage], bool]
"""Sends to a peer, as far as that goes without waiting; returns False when there is no such peer any more."""

_REASON_MAX_CHARACTERS: Final = 500

_log = logging.getLogger(__name__)


class Dispatcher:
    """Takes messages, fills the journal, answers through ``send``. ``now`` is a steady time in seconds everywhere.

    ``ack_durations`` says how long data wait for their acknowledgement, by ``clock``, which is that of ``now``;
    ``progress`` by stream id, until somebody takes it away, which runs have come how far.
    """

    def __init__(
        self, journal: Journal, send: Send, *, streams_max: int, clock: Callable[[], float] = monotonic
    ) -> None:
        self.counts = IntakeCounts()
        self.ack_durations = Durations()
        self.progress: dict[bytes, tuple[str, int]] = {}
        self._journal, self._network, self._clock = journal, send, clock
        self._local_peers: dict[bytes, Callable[[WireMessage], bool]] = {}
        self._arrivals: dict[bytes, list[float]] = {}
        self._sessions = SessionTable(streams_max)
        self._held: dict[bytes, ReceiveSession] = {}
        self._strangers = ReplyLimiter()
        self._refusal_said_at = float("-inf")
        self._failure = ""

    def __repr__(self) -> str:
        return f"<Dispatcher of {len(self._sessions)} streams, {len(self._held)} held: {self.counts}>"

    def handle(self, peer: bytes, data: Buffer, now: float, owner: str = "") -> bool:
        """Take one message of a peer with the key ``owner``; tell whether its connection may stay.

        Nothing that a message leads to is raised: it is its sender's trouble alone.
        """
        try:
            self._take(peer, decode_wire(data), now, owner)
        except CreditExceeded as error:
            self.refuse(peer, error, now)
            return False
        except ProtocolError as error:
            self.refuse(peer, error, now)
        except OSError as error:
            self.counts.journal_failures += 1
            self.refuse(peer, OSError(f"the journal cannot be used: {error}"), now, retry=True)
        except Exception as error:  # noqa: BLE001 - a fault of ours: the peer comes again, and what is on disk is read anew
            self.refuse(peer, error, now, retry=True)
        return True

    def refuse(self, peer: bytes, error: Exception, now: float, *, retry: bool = False) -> None:
        """Refuse a peer's message, for good unless it may ``retry``; its stream must be opened anew."""
        self.counts.refused += 1
        session = self._sessions.of_peer(peer)
        if now - self._refusal_said_at >= SAY_INTERVAL_SECONDS:
            self._refusal_said_at = now
            whose = f"run {session.stream.run}" if session else f"peer {peer.hex()}"
            said = "%s: message refused: %.500s (%d refused so far)"
            ours = None if isinstance(error, ProtocolError | OSError) else error
            _log.warning(said, whose, error, self.counts.refused, exc_info=ours)
        if session is not None:
            self._release(session, now)
        elif not self._strangers.may_answer(peer, now):
            return
        reason = printable(str(error))  # a path may hold what no message can say
        self._send(peer, Reject(reason[:_REASON_MAX_CHARACTERS], retry=retry))

    def join(self, peer: bytes, deliver: Callable[[WireMessage], bool]) -> None:
        """Let a peer of this process take its answers; its name must be one that the network gives to nobody."""
        self._local_peers[peer] = deliver

    def leave(self, peer: bytes) -> None:
        """Forget a peer of this process."""
        del self._local_peers[peer]

    def knows(self, peer: bytes) -> bool:
        """Tell whether a stream is open for a peer."""
        return self._sessions.of_peer(peer) is not None

    @property
    def credit_held_back_bytes(self) -> int:
        """How much less than they might all streams together may have on their way."""
        credit_max_bytes = self._credit_max_bytes
        return sum(CREDIT_BYTES - min(session.credit_bytes, credit_max_bytes) for session in self._sessions)

    @property
    def streams(self) -> int:
        """How many streams are spoken for."""
        return len(self._sessions)

    def trouble(self, now: float) -> str:
        """Return what keeps the journal from being written for a trainer that is there, or nothing."""
        failing = any(session.troubled and not session.silent(now) for session in self._sessions)
        return self._failure if failing else ""

    @property
    def due_at(self) -> float:
        """When :meth:`tick` has something to do next (infinity: nothing to wait for)."""
        return min([self._journal.commit_at, *(session.retry_at or 0.0 for session in self._held.values())])

    def tick(self, now: float) -> None:
        """Commit what is due, try again where a pause is over, and see how much room there is."""
        self._look(now)
        if now >= self._journal.commit_at:
            self.commit(now)
        for session in [session for session in self._held.values() if now >= (session.retry_at or 0.0)]:
            del self._held[session.stream.id]
            session.resume()
            self._acknowledge(session)

    def commit(self, now: float) -> None:
        """Make durable what came, and acknowledge it."""
        for stream, error in self._journal.commit():
            arrivals = self._arrivals.pop(stream.id, ())
            if error is None:
                self.progress[stream.id] = (stream.run, self._journal.durable_sequence(stream))
                acked_at = self._clock()
                for arrived_at in arrivals:
                    self.ack_durations.add(acked_at - arrived_at)
            session = self._sessions.of_stream(stream.id)
            if session is None:
                continue
            if error is not None:
                self._hold(session, error, now)
                continue
            if session.committed():
                _log.info("%s: the journal is written again", _name(stream))
            self._acknowledge(session)

    def _take(self, peer: bytes, message: WireMessage, now: float, owner: str) -> None:
        match message:
            case Data(frames):
                self._data(peer, frames, now)
            case Hello() as hello:
                self._hello(peer, hello, now, owner)
            case Bye():
                self._bye(peer, now)
            case other:
                raise Malformed(f"a trainer does not send {type(other).__name__}")

    def _data(self, peer: bytes, frames: memoryview, now: float) -> None:
        session = self._sessions.of_peer(peer)
        if session is None:
            if self._strangers.may_answer(peer, now):
                self._send(peer, Nak(0))
            return
        taken = session.take(frames, self._journal.next_sequence(session.stream), now)
        if isinstance(taken, FrameBatch):
            try:
                self._journal.append(session.stream, taken, now, session.owner)
            except OSError as error:
                self._hold(session, error, now)
                return
            self.counts.records += taken.next_sequence - taken.first_sequence
            self.counts.record_bytes += len(taken.frames)
            self._arrivals.setdefault(session.stream.id, []).append(now)
        elif taken is not None:
            self.counts.holes += 1
            self._send(peer, taken)

    def _hello(self, peer: bytes, hello: Hello, now: float, owner: str) -> None:
        self.counts.hellos += 1
        self._look(now)
        stream = hello.identity()
        session = self._sessions.of_stream(stream.id)
        if session is not None and session.stream != stream:
            raise Malformed(f"stream {stream.id.hex()} is known as {session.stream}, not {stream}")
        self._journal.check_owner(stream, owner, session.owner if session else "")
        if session is not None and session.peer != peer and not session.silent(now) and self._acknowledge(session):
            self._send(peer, Reject("another peer sends this stream, and it is there", retry=True))
            return
        if session is not None:
            self.commit(now)  # so that it need not send again what has come
        self._journal.open(stream, hello.next_sequence, owner)
        session = self._bind(session or ReceiveSession(stream, peer, now, owner), peer, now)
        session.owner = session.owner or owner
        sequence = self._journal.durable_sequence(stream)
        if hello.next_sequence > sequence:
            _log.warning(
                "%s: records %d to %d are not in this journal", _name(stream), sequence, hello.next_sequence - 1
            )
        self._send(peer, session.welcome(peer, sequence, now, self._credit_max_bytes))

    def _bind(self, session: ReceiveSession, peer: bytes, now: float) -> ReceiveSession:
        """Let ``peer`` speak for a stream, and for no other."""
        previous = self._sessions.of_peer(peer)
        if previous is not None and previous is not session:
            self._release(previous, now)
        self._strangers.forget(peer)
        if self._sessions.of_stream(session.stream.id) is session:
            if session.peer != peer:
                self._sessions.hand_over(session, peer)
            return session
        self._sessions.add(session)
        if (surplus := self._sessions.surplus(session.owner)) is not None:
            self._release(surplus, now)
        _log.info("%s: connected%s", _name(session.stream), session.owner and f", key {session.owner}")
        return session

    def _bye(self, peer: bytes, now: float) -> None:
        session = self._sessions.of_peer(peer)
        if session is not None:
            self._release(session, now)
            _log.info("%s: finished", _name(session.stream))

    def _release(self, session: ReceiveSession, now: float) -> None:
        self.commit(now)
        self._sessions.remove(session)
        self._held.pop(session.stream.id, None)
        self._journal.forget(session.stream)

    def _hold(self, session: ReceiveSession, error: OSError, now: float) -> None:
        self.counts.journal_failures += 1
        self._failure = f"the journal cannot be written: {error}"
        self._arrivals.pop(session.stream.id, None)
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

    def _acknowledge(self, session: ReceiveSession) -> bool:
        sequence = self._journal.durable_sequence(session.stream)
        return self._send(session.peer, session.acknowledge(sequence, self._credit_max_bytes))

    def _send(self, peer: bytes, message: WireMessage) -> bool:
        deliver = self._local_peers.get(peer)
        return self._network(peer, message) if deliver is None else deliver(message)

    @property
    def _credit_max_bytes(self) -> int:
        streams = len(self._sessions)
        share_bytes = max(BATCH_SIZE_MAX_BYTES, CREDIT_TOTAL_BYTES // max(1, streams))
        return min(share_bytes, self._journal.low_water.credit_max_bytes(streams))

    def _look(self, now: float) -> None:
        """Look at the journal's disk; tell all peers when it is nearly full now, or no longer."""
        low_water = self._journal.low_water
        if not low_water.look(now, self.counts.record_bytes):
            return
        if low_water.low:
            _log.error("%s: trainers are asked to keep what they have until there is room", low_water)
        else:
            _log.info("%s: there is room again, trainers go on", low_water)
        for session in list(self._sessions):
            self._acknowledge(session)


def _name(stream: Stream) -> str:
    return f"run {stream.run}, attempt {stream.attempt}, rank {stream.rank}"
