"""The open streams, and the dispatch of their peers' messages; the network is injected.

Each stream has a session with its peer, and a recording in the journal. A commit makes the records of all streams
durable together; then each peer gets an ACK. When the journal of a stream fails, the session is paused and the other
streams go on.

A message that breaks the protocol, or that cannot be handled, is answered with REJECT and the reason, and counted. Its
peer must begin again with a HELLO; no other peer notices. A fault on the disk costs no more than that either.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final, TypeAlias, assert_never

from tensorboard_sidecar.logger_service.counters import Counters, Durations, counter
from tensorboard_sidecar.logger_service.intake.credit import CreditExceeded, equal_share_bytes, held_back_bytes
from tensorboard_sidecar.logger_service.intake.journal import Journal
from tensorboard_sidecar.logger_service.intake.receive_session import ReceiveSession, SessionTable
from tensorboard_sidecar.logger_service.limits import PEERS_WITHOUT_STREAM_MAX
from tensorboard_sidecar.protocol.errors import Malformed, ProtocolError
from tensorboard_sidecar.protocol.frame import Buffer
from tensorboard_sidecar.protocol.printable import printable
from tensorboard_sidecar.protocol.record import FrameBatch
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import (
    Ack,
    Bye,
    Data,
    Findings,
    Hello,
    Nak,
    Reject,
    Welcome,
    WireMessage,
    decode_wire,
)

REPLY_INTERVAL_SECONDS: Final = 1.0
_REASON_MAX_CHARACTERS: Final = 500
_LOG_INTERVAL_SECONDS: Final = 1.0

Send: TypeAlias = Callable[[bytes, WireMessage], bool]
"""Sends a message to a peer without waiting; returns False when the peer is gone. FINDINGS: when they are not sent."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class IntakeCounts(Counters):
    """Counters since the start of the logger."""

    records: int = counter("records written to the journal")
    record_bytes: int = counter("bytes of these records")
    hellos: int = counter("streams opened, or opened again")
    holes: int = counter("batches that arrived out of order; the trainer sends the missing ones again")
    refused: int = counter("messages refused")
    findings: int = counter("findings told to trainers; a finding is told again after a new connection")
    journal_failures: int = counter("failed writes and fsyncs of the journal; their records are not acknowledged")


class Replies:
    """Sends replies: to peers of this process by their own function, to all others by ``network``.

    A peer without a stream gets one reply in ``REPLY_INTERVAL_SECONDS``, so that a flood of bad messages costs no flood
    of replies. LRU: at ``peers_max``, forget the peer that was answered longest ago; its next reply is not limited.
    """

    def __init__(self, network: Send, peers_max: int = PEERS_WITHOUT_STREAM_MAX) -> None:
        self._network, self._peers_max = network, peers_max
        self._local_peers: dict[bytes, Callable[[WireMessage], bool]] = {}
        self._answered_at: OrderedDict[bytes, float] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Replies: {len(self._local_peers)} peers in this process, {len(self._answered_at)} limited>"

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
        if now_seconds - self._answered_at.get(peer, float("-inf")) < REPLY_INTERVAL_SECONDS:
            return
        self._answered_at[peer] = now_seconds
        self._answered_at.move_to_end(peer)
        if len(self._answered_at) > self._peers_max:
            self._answered_at.popitem(last=False)
        self.send(peer, message)

    def stream_opened(self, peer: bytes) -> None:
        """Note that a peer has a stream: when the stream is closed, the next reply is not limited."""
        self._answered_at.pop(peer, None)


class OpenStreams:
    """Opens streams, appends their batches to ``journal``, commits, and answers by ``replies``.

    At most ``streams_max`` streams are open; beyond that, the stream whose peer was silent longest is closed.
    ``progress`` maps a stream id to its run and durable sequence; a reader clears the dictionary. ``ack_durations``
    counts how long each batch waits for its ACK. ``now_seconds`` is a monotonic time everywhere, of ``clock``.
    """

    def __init__(
        self,
        journal: Journal,
        replies: Replies,
        counts: IntakeCounts,
        *,
        streams_max: int,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.ack_durations = Durations()
        self._clock = clock
        self._received_at: dict[bytes, list[float]] = {}  # by stream id: arrivals of the batches without an ACK
        self.progress: dict[bytes, tuple[str, int]] = {}
        self._journal, self._replies, self._counts = journal, replies, counts
        self._sessions = SessionTable(streams_max)
        self._paused: dict[bytes, ReceiveSession] = {}
        self._failure = ""

    def __len__(self) -> int:
        return len(self._sessions)

    def stream_of(self, peer: bytes) -> Stream | None:
        """Return the open stream of a peer that speaks now."""
        session = self._sessions.of_peer(peer)
        return None if session is None else session.stream

    def stream_with_id(self, stream_id: bytes) -> Stream | None:
        """Return a stream that is open, or was open lately."""
        return self._sessions.stream(stream_id)

    def peer_for_findings(self, stream_id: bytes) -> bytes | None:
        """Return the peer of a stream if the stream is open and its trainer takes findings."""
        session = self._sessions.of_stream(stream_id)
        return session.peer if session is not None and session.takes_findings else None

    @property
    def credit_held_back_bytes(self) -> int:
        """Bytes of credit that the streams lack because of many streams, a failing journal or a full disk."""
        share = self._share_bytes
        return held_back_bytes(session.credit_bytes(share) for session in self._sessions)

    @property
    def due_at(self) -> float:
        """The time at which :meth:`tick` has something to do; infinity: nothing to do."""
        return min([self._journal.commit_at, *(session.retry_at or 0.0 for session in self._paused.values())])

    def failure(self, now_seconds: float) -> str:
        """Return why the journal cannot be written, empty unless a trainer that is not silent waits for it."""
        waiting = any(session.failing and not session.silent(now_seconds) for session in self._sessions)
        return self._failure if waiting else ""

    def tick(self, now_seconds: float) -> None:
        """Do what is due: measure the disk, commit, end pauses."""
        self.measure_disk(now_seconds)
        if now_seconds >= self._journal.commit_at:
            self.commit(now_seconds)
        for session in [session for session in self._paused.values() if now_seconds >= (session.retry_at or 0.0)]:
            del self._paused[session.stream.id]
            session.resume()
            self._acknowledge(session)

    def measure_disk(self, now_seconds: float) -> None:
        """Measure the disk of the journal, if that is due; at the low-water mark, tell all peers their credit."""
        low_water = self._journal.low_water
        if not low_water.look(now_seconds, self._counts.record_bytes):
            return
        if low_water.low:
            _log.error("%s: trainers keep their records until there is room", low_water)
        else:
            _log.info("%s: there is room again, trainers send their records", low_water)
        for session in list(self._sessions):
            self._acknowledge(session)

    def open(self, peer: bytes, hello: Hello, now_seconds: float, owner: str) -> None:
        """Open a stream, or open it anew, for a peer with the key ``owner``; answer with WELCOME.

        The answer is REJECT while another peer sends the stream. Raises Malformed, NotItsOwner, UnsupportedVersion,
        OSError.
        """
        self.measure_disk(now_seconds)
        stream = hello.identity()
        session = self._sessions.of_stream(stream.id)
        if session is not None and session.stream != stream:
            raise Malformed(f"stream {stream.id.hex()} is known as {session.stream}, not {stream}")
        self._journal.check_owner(stream, owner, session.owner if session else "")
        if session is not None and self._has_another_peer(session, peer, now_seconds):
            self._replies.send(peer, Reject("another peer sends this stream, and is connected", retry=True))
            return
        if session is not None:
            self.commit(now_seconds)  # the trainer need not send again what has come
        self._journal.open(stream, hello.next_sequence, owner)
        session = self._bind(session or ReceiveSession(stream, peer, now_seconds, owner), peer, now_seconds)
        session.owner = session.owner or owner
        session.takes_findings = hello.findings
        sequence = self._journal.durable_sequence(stream)
        if hello.next_sequence > sequence:
            _log.warning(
                "%s: records %d to %d are not in this journal", _name(stream), sequence, hello.next_sequence - 1
            )
        self._replies.send(peer, session.welcome(peer, sequence, now_seconds, self._share_bytes))

    def receive(self, peer: bytes, frames: memoryview, now_seconds: float) -> bool:
        """Append the new records of a DATA message; return False when the peer has no open stream.

        Raises Malformed, UnsupportedVersion, CreditExceeded.
        """
        session = self._sessions.of_peer(peer)
        if session is None:
            return False
        answer = session.receive(frames, self._journal.next_sequence(session.stream), now_seconds)
        match answer:
            case FrameBatch() as batch:
                self._append(session, batch, now_seconds)
            case Nak() as nak:
                self._counts.holes += 1
                self._replies.send(peer, nak)
            case None:
                pass
            case _:
                assert_never(answer)
        return True

    def finish(self, peer: bytes, now_seconds: float) -> None:
        """Close the stream of a peer that says that all its records are acknowledged."""
        session = self._sessions.of_peer(peer)
        if session is not None:
            self._close(session, now_seconds)
            _log.info("%s: finished", _name(session.stream))

    def drop(self, peer: bytes, now_seconds: float) -> bool:
        """Close the stream of a peer that broke the protocol; return False when the peer has no open stream."""
        session = self._sessions.of_peer(peer)
        if session is not None:
            self._close(session, now_seconds)
        return session is not None

    def commit(self, now_seconds: float) -> None:
        """Make all appended records durable, and acknowledge them."""
        for stream, error in self._journal.commit():
            session = self._sessions.of_stream(stream.id)
            if error is None:
                self.progress[stream.id] = (stream.run, self._journal.durable_sequence(stream))
                acked_at = self._clock()
                for received_at in self._received_at.pop(stream.id, ()):
                    self.ack_durations.add(acked_at - received_at)
                if session is not None:
                    if session.committed():
                        _log.info("%s: the journal is written again", _name(stream))
                    self._acknowledge(session)
            else:
                self._received_at.pop(stream.id, None)
                if session is not None:
                    self._pause(session, error, now_seconds)

    def _append(self, session: ReceiveSession, batch: FrameBatch, now_seconds: float) -> None:
        try:
            self._journal.append(session.stream, batch, now_seconds, session.owner)
        except OSError as error:
            self._pause(session, error, now_seconds)
            return
        self._counts.records += batch.next_sequence - batch.first_sequence
        self._counts.record_bytes += len(batch.frames)
        self._received_at.setdefault(session.stream.id, []).append(now_seconds)

    def _has_another_peer(self, session: ReceiveSession, peer: bytes, now_seconds: float) -> bool:
        """Tell whether another peer sends the stream: a peer that is not silent, and that an ACK reaches."""
        return session.peer != peer and not session.silent(now_seconds) and self._acknowledge(session)

    def _bind(self, session: ReceiveSession, peer: bytes, now_seconds: float) -> ReceiveSession:
        """Make ``peer`` the peer of a session, and close the stream that the peer sent before."""
        previous = self._sessions.of_peer(peer)
        if previous is not None and previous is not session:
            self._close(previous, now_seconds)
        self._replies.stream_opened(peer)
        if self._sessions.of_stream(session.stream.id) is session:
            if session.peer != peer:
                self._sessions.hand_over(session, peer)
            return session
        self._sessions.add(session)
        if (surplus := self._sessions.surplus(session.owner)) is not None:
            self._close(surplus, now_seconds)
        _log.info("%s: connected%s", _name(session.stream), session.owner and f", key {session.owner}")
        return session

    def _close(self, session: ReceiveSession, now_seconds: float) -> None:
        self.commit(now_seconds)
        self._sessions.remove(session)
        self._paused.pop(session.stream.id, None)
        self._journal.forget(session.stream)

    def _pause(self, session: ReceiveSession, error: OSError, now_seconds: float) -> None:
        """Pause a session whose journal failed, and send its peer back to the first record that is not durable."""
        self._counts.journal_failures += 1
        self._failure = f"the journal cannot be written: {error}"
        self._received_at.pop(session.stream.id, None)
        if not session.failing:
            _log.error(
                "%s: the journal cannot be written: %s; nothing is acknowledged until the journal can be written again,"
                " and the trainer keeps its records",
                _name(session.stream),
                error,
            )
        session.pause(now_seconds)
        self._paused[session.stream.id] = session
        self._acknowledge(session)
        self._replies.send(session.peer, Nak(self._journal.durable_sequence(session.stream)))

    def _acknowledge(self, session: ReceiveSession) -> bool:
        """Send an ACK with the credit; return False when the peer is gone."""
        sequence = self._journal.durable_sequence(session.stream)
        return self._replies.send(session.peer, session.acknowledge(sequence, self._share_bytes))

    @property
    def _share_bytes(self) -> int:
        low_water = self._journal.low_water
        return equal_share_bytes(len(self._sessions), low_water.room_bytes, disk_is_low=low_water.low)


class Dispatcher:
    """Hands messages to ``streams``, refuses bad messages by ``replies``. ``now_seconds`` is a monotonic time."""

    def __init__(self, streams: OpenStreams, replies: Replies, counts: IntakeCounts) -> None:
        self.streams, self.replies, self.counts = streams, replies, counts
        self._refusal_logged_at = float("-inf")

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
            case Welcome() | Reject() | Ack() | Nak() | Findings():
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


def _name(stream: Stream) -> str:
    return f"run {stream.run}, attempt {stream.attempt}, rank {stream.rank}"
