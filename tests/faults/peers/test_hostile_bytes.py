"""Ten thousand bad frames, bombs, oversize and messages without an end: no crash, little memory, all of it counted."""

import random
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from faults.harness.diary import Returned
from faults.harness.effort import rounds
from faults.harness.hostile import Memory, draw_everything, judge, served, wait_for_events
from faults.harness.wrong_frames import BOMB, HELLO, STREAM, wrong_frame
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from msgpack import packb
from support.logger.peer import Peer, make_record
from support.logger.zmtp import GREETING, connect, ends, speak_zmtp
from support.machine.waiting import wait_until
from support.records.strategies import plain
from support.running.metrics import count, read_counts, wait_for_count
from support.running.programs import LoggerProcess

from tensorboard_sidecar.protocol.limits import WIRE_MESSAGE_SIZE_MAX_BYTES
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import Data, Hello, Welcome

BAD_FRAMES = 10_000
FRAMES_A_LOOK = 16
BODIES = rounds(quick=200, full=10_000)
BODIES_A_RUN = 20
KINDS = [kind for kind in Kind if kind != Kind.SEGMENT]
MORE_MEMORY_MAX_KIB = 64 * 2**10
# What a connection says after the handshake, and whether it is hung up for that.
FRAMES = [
    (b"\x02" + struct.pack(">Q", WIRE_MESSAGE_SIZE_MAX_BYTES + 1), True),
    (b"\x02" + struct.pack(">Q", 2**63 - 1) + b"x", True),
    (b"\x02" + struct.pack(">Q", 2**64 - 1) + b"x", True),
    (b"\x06" + struct.pack(">Q", 2**40), True),
    (b"\x04\xff" + bytes(255), False),  # a command without a name
    (b"\xf8\x01x", False),  # flags that mean nothing
]
NO_ZEROMQ = (b"GET / HTTP/1.1\r\n\r\n", bytes(200), b"\xff" * 200, GREETING[:12], GREETING + b"\xff" * 200)


class Harmed:
    """A logger that has drawn everything once; ``promised`` are those to whom it was to keep its word."""

    def __init__(self, logger: LoggerProcess) -> None:
        self.logger = logger
        count(logger)
        logger.start()
        self.promised = [served(logger), draw_everything(logger)]
        self._memory = Memory(logger)

    def serve(self) -> None:
        """See that an honest peer is served."""
        self.promised.append(served(self.logger))

    def end(self) -> None:
        """See that it is well, has taken little more memory, and has kept all it was given and nothing else."""
        self.serve()
        receiver_kib, projection_kib = self._memory.more_kib()
        print(f"{receiver_kib} KiB more, {projection_kib} KiB more of the projection")
        assert max(receiver_kib, projection_kib) < MORE_MEMORY_MAX_KIB
        assert self.logger.stop() == 0
        assert "the projection ended" not in self.logger.log.read_text()
        judge(self.logger, self.promised)


@pytest.fixture
def harmed(logger: LoggerProcess) -> Iterator[Harmed]:
    """Return a logger that must be well at the end."""
    harmed = Harmed(logger)
    yield harmed
    harmed.end()


def test_ten_thousand_bad_frames(harmed: Harmed, chance: random.Random) -> None:
    """Each is refused, most of them deep inside, and each is counted."""
    families: Counter[str] = Counter()
    with Peer(harmed.logger.endpoint, Stream("bad", 0, 0, STREAM)) as peer:
        for _ in range(BAD_FRAMES // FRAMES_A_LOOK):
            frames = [wrong_frame(chance) for _ in range(FRAMES_A_LOOK)]
            families.update(family for family, _ in frames)
            for family, frame in frames:
                if family == "data":
                    peer.send(Hello(**HELLO))
                peer.send_raw(frame)
            peer.send(Hello(**HELLO))
            for _ in range(sum(family == "data" for family, _ in frames) + 1):
                while not isinstance(peer.receive(), Welcome):  # the answers between are refusals
                    continue
        peer.bye()
    print(dict(families))
    assert families["hello"] + families["data"] > BAD_FRAMES * 0.8
    wait_for_count(harmed.logger, "refused", BAD_FRAMES)


def test_frames_that_zeromq_knows_nothing_of(harmed: Harmed) -> None:
    """Who sends what is too large is hung up on, and that is counted."""
    with ExitStack() as held:
        for data, is_end in FRAMES:
            with speak_zmtp(harmed.logger.endpoint) as connection:
                connection.sendall(data)
                if is_end:
                    assert ends(connection)
                    held.enter_context(connection.dup())
                harmed.serve()
        wait_until_nobody_is_connected(harmed.logger)


def wait_until_nobody_is_connected(logger: LoggerProcess) -> None:
    """See that all connections that were begun are counted as ended, also those that are not ended at this side."""
    accepted = read_counts(logger)["connections_accepted"]

    def all_ended() -> bool:
        counts = read_counts(logger)
        return counts["connections_accepted"] == counts["connections_ended"] > accepted

    with connect(logger.endpoint):  # one more, so that the page is not an old one
        pass
    wait_until(all_ended, seconds=30, what="no connection")


def test_what_is_no_zeromq(harmed: Harmed) -> None:
    for data in NO_ZEROMQ:
        with connect(harmed.logger.endpoint) as connection:
            connection.sendall(data)
            harmed.serve()
    wait_until_nobody_is_connected(harmed.logger)


@pytest.mark.parametrize(
    "frame", [b"\x01\x01x", b"\x01\xff" + bytes(255), b"\x03" + struct.pack(">Q", 2**20) + bytes(2**20)]
)
def test_a_message_without_an_end(harmed: Harmed, frame: bytes) -> None:
    """Frame after frame, and always one more, as fast as it goes: it is cut, and counted."""
    frames = frame * max(1, 2**18 // len(frame))
    with speak_zmtp(harmed.logger.endpoint) as connection:
        connection.settimeout(2)
        while sent(connection, frames):
            continue
    wait_for_count(harmed.logger, "connections_hoarding", 1)


def sent(connection: socket.socket, data: bytes) -> bool:
    """Send; tell whether the other side is still there."""
    try:
        connection.sendall(data)
    except OSError:  # hung up, or nothing is read any more
        return False
    return True


def test_bodies_of_any_shape(harmed: Harmed, chance: random.Random) -> None:
    """Records in order whose bodies are anything: journalled, and each an event that says nothing at worst."""
    bodies = st.tuples(st.sampled_from(KINDS), plain.map(packb) | st.binary(max_size=60) | st.just(BOMB))
    with Peer(harmed.logger.endpoint, Stream("hostile")) as peer:
        peer.hello()

        @seed(chance.getrandbits(32))
        @settings(max_examples=BODIES // BODIES_A_RUN, database=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(bodies, min_size=BODIES_A_RUN, max_size=BODIES_A_RUN))
        def send(bodies: list[tuple[int, bytes]]) -> None:
            first = peer.acked_sequence
            records = (make_record(first + at, kind=kind, body=body) for at, (kind, body) in enumerate(bodies))
            peer.send(Data(memoryview(b"".join(records))))
            peer.wait_acked(first + BODIES_A_RUN)

        send()
        harmed.promised.append(Returned.up_to(peer.stream.id, peer.acked_sequence - 1, hostile=True))
        wait_for_events(harmed.logger, "hostile", peer.acked_sequence - 1)
    wait_until(lambda: read_counts(harmed.logger)["projection_malformed"] > BODIES / 2, what="malformed records")
