"""A dispatcher with a real journal, a network that records sent messages, and a clock that only tests advance."""

from collections import defaultdict
from pathlib import Path
from typing import Final

from support.logger.peer import make_run

from tensorboard_sidecar.logger_service.folders.low_water import DiskSpace, LowWater
from tensorboard_sidecar.logger_service.intake.journal import Journal
from tensorboard_sidecar.logger_service.intake.open_streams import Dispatcher, IntakeCounts, OpenStreams, Replies
from tensorboard_sidecar.protocol.record import parse_sequence
from tensorboard_sidecar.protocol.storage.recording_reader import RecordingReader
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import Data, Hello, Reject, WireMessage, encode_wire

INTERVAL_SECONDS: Final = 0.05
# The time between the request for an acknowledgement and its departure.
ACK_SECONDS: Final = 0.001


class NotedNetwork:
    """Records the messages sent to each peer; peers in ``gone`` are unreachable."""

    def __init__(self) -> None:
        self.sent: defaultdict[bytes, list[WireMessage]] = defaultdict(list)
        self.gone: set[bytes] = set()

    def send(self, peer: bytes, message: WireMessage) -> bool:
        if peer in self.gone:
            return False
        self.sent[peer].append(message)
        return True

    def take(self, peer: bytes) -> list[WireMessage]:
        """Return the messages sent to the peer since the last call."""
        return self.sent.pop(peer, [])


class NotedLogger:
    """A dispatcher with a journal in ``folder`` and a clock that only tests advance."""

    def __init__(self, folder: Path, *, streams_max: int = 16) -> None:
        self.folder, self.now = folder, 1000.0
        self.network = NotedNetwork()
        self.space = DiskSpace(2**40, 2**41)
        self.journal = Journal(
            folder, lambda: 10**18, commit_interval_seconds=INTERVAL_SECONDS, commit_size_bytes=10_000
        )
        self.journal.low_water = LowWater(lambda: self.space)
        counts, replies = IntakeCounts(), Replies(self.network.send)
        self.streams = OpenStreams(
            self.journal, replies, counts, streams_max=streams_max, clock=lambda: self.now + ACK_SECONDS
        )
        self.dispatcher = Dispatcher(self.streams, replies, counts)

    def say(self, peer: bytes, message: WireMessage | bytes) -> list[WireMessage]:
        """Deliver a message of a peer; return the immediate answers."""
        self.network.take(peer)
        data = message if isinstance(message, bytes) else encode_wire(message)
        self.dispatcher.handle(peer, data, self.now)
        return self.network.take(peer)

    def hello(self, peer: bytes, stream: Stream, next_sequence: int = 1) -> list[WireMessage]:
        return self.say(peer, Hello(stream.id, stream.run, stream.rank, stream.attempt, next_sequence))

    def data(self, peer: bytes, first_sequence: int, next_sequence: int) -> list[WireMessage]:
        return self.say(peer, Data(memoryview(make_run(first_sequence, next_sequence))))

    def wait(self, seconds: float = INTERVAL_SECONDS) -> None:
        """Advance the clock."""
        self.now += seconds
        self.streams.tick(self.now)

    def records(self, stream: Stream) -> list[int]:
        """Return the sequence numbers in the journal of a stream."""
        reader = RecordingReader(self.folder / stream.run / stream.folder_name)
        found = []
        while payloads := reader.read_payloads():
            found += [parse_sequence(payload)[1] for payload in payloads]
        reader.close()
        return found


def refused(answers: list[WireMessage], reason: str, *, retry: bool = False) -> bool:
    """Tell whether the answers are a single REJECT with this reason."""
    (answer,) = answers
    assert isinstance(answer, Reject), answer
    return reason in answer.reason and answer.retry == retry
