"""Ten thousand bad frames, bombs, oversize and messages without an end: no crash, little memory, all of it counted."""

import random
import socket
import struct
from collections.abc import Iterator

import pytest
from faults.effort import new_seed, rounds
from faults.event_ids import read_event_ids
from faults.hostile import memory_kib, served
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from msgpack import packb
from support.peer import Peer, make_record
from support.programs import LoggerProcess
from support.strategies import plain
from support.waiting import wait_until
from support.zmtp import GREETING, connect, ends, speak_zmtp

from protocol.limits import WIRE_MESSAGE_SIZE_MAX_BYTES
from protocol.record import Kind
from protocol.stream import Stream
from protocol.wire import Bye, Data, Hello, Welcome, encode_wire

BAD_FRAMES = 10_000
BODIES = rounds(quick=400, full=10_000)
BODIES_A_RUN = 20
KINDS = [kind for kind in Kind if kind != Kind.SEGMENT]
MORE_MEMORY_MAX_KIB = 64 * 2**10
BOMB = b"\x91" * 60_000 + b"\xc0"
MESSAGES = [
    encode_wire(Hello(bytes(range(16)), "demo", 0, 0, 1)),
    encode_wire(Data(memoryview(make_record(1) + make_record(2)))),
    encode_wire(Bye()),
]
# What a connection says after the handshake, and whether it is hung up for that.
FRAMES = [
    (b"\x02" + struct.pack(">Q", WIRE_MESSAGE_SIZE_MAX_BYTES + 1), True),
    (b"\x02" + struct.pack(">Q", 2**63 - 1) + b"x", True),
    (b"\x02" + struct.pack(">Q", 2**64 - 1) + b"x", True),
    (b"\x06" + struct.pack(">Q", 2**40), True),
    (b"\x04\xff" + bytes(255), False),  # a command without a name
    (b"\xf8\x01x", False),  # flags that mean nothing
]


@pytest.fixture
def served_logger(logger: LoggerProcess) -> Iterator[LoggerProcess]:
    """Return a logger that has done all once, must be well at the end, and take little more memory until then."""
    logger.start()
    served(logger, "before")
    before_kib = memory_kib(logger)
    yield logger
    served(logger, "after")
    more_kib = memory_kib(logger) - before_kib
    print(f"{more_kib} KiB more")
    assert more_kib < MORE_MEMORY_MAX_KIB
    assert logger.stop() == 0
    assert "the projection ended" not in logger.log.read_text()


def wrong_bytes(chance: random.Random) -> bytes:
    """Return rubbish, a bomb, or a message with a few bytes changed, which is none any more."""
    data = bytearray(chance.choice([*MESSAGES, b"\x01\x04", b"\x01\x01" + BOMB[:2000], b"\x01\x01"]))
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        data[at : at + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 6))
    return b"\xff" + data[: chance.randrange(len(data) + 40)]


def test_ten_thousand_bad_frames(logger: LoggerProcess, chance: random.Random) -> None:
    logger.start()
    served(logger, "before")
    before_kib = memory_kib(logger)
    with Peer(logger.endpoint, Stream("bad")) as peer:
        for _ in range(BAD_FRAMES):
            peer.send_raw(wrong_bytes(chance))
        while not isinstance(peer.hello(), Welcome):  # answers to the others come before
            pass
    served(logger, "after")
    assert memory_kib(logger) - before_kib < MORE_MEMORY_MAX_KIB
    assert logger.stop() == 0
    assert f"{BAD_FRAMES:,} messages refused" in logger.log.read_text()


def test_frames_that_zeromq_knows_nothing_of(served_logger: LoggerProcess) -> None:
    for data, is_end in FRAMES:
        with speak_zmtp(served_logger.endpoint) as connection:
            connection.sendall(data)
            assert not is_end or ends(connection)
        served(served_logger)


def test_what_is_no_zeromq(served_logger: LoggerProcess) -> None:
    for data in (b"GET / HTTP/1.1\r\n\r\n", bytes(200), b"\xff" * 200, GREETING[:12], GREETING + b"\xff" * 200):
        with connect(served_logger.endpoint) as connection:
            connection.sendall(data)
            served(served_logger)


@pytest.mark.parametrize(
    "frame", [b"\x01\x01x", b"\x01\xff" + bytes(255), b"\x03" + struct.pack(">Q", 2**20) + bytes(2**20)]
)
def test_a_message_without_an_end(served_logger: LoggerProcess, frame: bytes) -> None:
    """Frame after frame, and always one more, as fast as it goes: it is cut."""
    frames = frame * max(1, 2**18 // len(frame))
    with speak_zmtp(served_logger.endpoint) as connection:
        connection.settimeout(2)
        while sent(connection, frames):
            continue
    assert "its message never ends" in served_logger.log.read_text()


def sent(connection: socket.socket, data: bytes) -> bool:
    """Send; tell whether the other side is still there."""
    try:
        connection.sendall(data)
    except OSError:  # hung up, or nothing is read any more
        return False
    return True


def test_bodies_of_any_shape(served_logger: LoggerProcess) -> None:
    """Records in order whose bodies are anything: journalled, and each an event that says nothing at worst."""
    number = new_seed()
    print(f"seed {number}")
    bodies = st.tuples(st.sampled_from(KINDS), plain.map(packb) | st.binary(max_size=60) | st.just(BOMB))
    with Peer(served_logger.endpoint, Stream("hostile")) as peer:
        peer.hello()

        @seed(number)
        @settings(max_examples=BODIES // BODIES_A_RUN, database=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(bodies, min_size=BODIES_A_RUN, max_size=BODIES_A_RUN))
        def send(bodies: list[tuple[int, bytes]]) -> None:
            first = peer.acked_sequence
            records = (make_record(first + at, kind=kind, body=body) for at, (kind, body) in enumerate(bodies))
            peer.send(Data(memoryview(b"".join(records))))
            peer.wait_acked(first + BODIES_A_RUN)

        send()
        wait_for_events(served_logger, "hostile", peer.acked_sequence - 1)


def wait_for_events(logger: LoggerProcess, run: str, records: int) -> None:
    """Wait until the projection has come to the last record."""

    def last() -> int:
        ids = [sequence for _, sequence, _ in read_event_ids(logger.logdir / run, [])]
        return max(ids, default=0)

    wait_until(lambda: last() >= records, seconds=120, what=f"{records} records in event files")
