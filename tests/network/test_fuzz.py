"""Peers that hold a valid key and mean harm: every field of every message, HELLO, and raw bytes below the messages."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from faults.effort import SOAK_TIMEOUT_SECONDS, SOAKING, new_seed, rounds
from faults.hostile import memory_kib
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from msgpack import packb, unpackb
from support.golden import RECORDS
from support.key_ring import KeyRing
from support.peer import Peer
from support.programs import LoggerProcess, run_module
from support.strategies import plain
from support.zmtp import connect, ends

from protocol.frame import pack_frame
from protocol.record import Kind, Record, pack_record
from protocol.stream import Stream
from protocol.wire import Data, Hello, Reject, Welcome

EXAMPLES = rounds(quick=40, full=10_000)
RECORDS_A_RUN = 20
MORE_MEMORY_MAX_KIB = 256 * 2**10
FIELDS = [
    (name, field)
    for name, golden in RECORDS.items()
    if golden.record.kind != Kind.SEGMENT
    for field in golden.message.__struct_fields__
]
CURVE_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01CURVE" + bytes(15) + bytes(32)

hostile_names = st.sampled_from(
    ["../x", "/etc/x", "a/../../x", "\x00", "\u202e", "\ud800", "x" * 100_000, "-", "{}", "%s"]
)
hostile_values = st.one_of(
    plain,
    hostile_names.map(lambda name: name.encode("utf-8", "surrogatepass")),
    hostile_names.filter(lambda name: "\ud800" not in name),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.lists(st.integers(0, 255), max_size=40),
    st.dictionaries(st.text(max_size=4), plain, max_size=4),
)
instants = st.integers(-(2**63), 2**63 - 1)

pytestmark = pytest.mark.timeout(SOAK_TIMEOUT_SECONDS if SOAKING else 300)
how_many = settings(
    max_examples=max(1, EXAMPLES // RECORDS_A_RUN), database=None, suppress_health_check=list(HealthCheck)
)


@st.composite
def spoilt(draw: st.DrawFn, name: str, field: str) -> tuple[int, int, bytes]:
    """Return step, wall time and body of a message that is well but for one field, or for what lies in it."""
    body: dict[str, Any] = unpackb(RECORDS[name].record.body, strict_map_key=False)
    value = draw(hostile_values)
    within = body.get(field)
    match within:
        case dict() if within and draw(st.booleans()):
            within[draw(st.sampled_from(sorted(within)))] = value
        case list() if within and draw(st.booleans()):
            within[draw(st.integers(0, len(within) - 1))] = value
        case _:
            body[field] = value
    return draw(st.just(1) | instants), draw(instants), packb(body)


class Fuzzed:
    """A logger with keys, and the key of a trainer that is let in."""

    def __init__(self, folder: Path) -> None:
        self.ring, self.logger = KeyRing(folder), LoggerProcess(folder)
        self.keys = self.ring.make_trainer()
        self.honest_keys = self.ring.make_trainer("honest")
        self.logger.flags = ("--keys", str(self.ring.logger))

    def served(self) -> None:
        """See that an honest peer gets its records acknowledged."""
        with Peer(self.logger.endpoint, Stream("honest"), self.honest_keys) as peer:
            peer.deliver(41)
            peer.bye()


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    """Return a logger that must be well at the end, with all its files where they belong, and little more memory."""
    around = tmp_path_factory.mktemp("around")
    folder = around / "here"
    folder.mkdir()
    fuzzed = Fuzzed(folder)
    logger = fuzzed.logger
    logger.start()
    fuzzed.served()
    before_kib, files = memory_kib(logger), {path.name for path in folder.iterdir()}
    yield fuzzed
    fuzzed.served()
    assert memory_kib(logger) - before_kib < MORE_MEMORY_MAX_KIB
    assert logger.stop() == 0
    log = logger.log.read_text()
    assert "Traceback" not in log
    assert "the projection ended" not in log
    assert [path.name for path in around.iterdir()] == ["here"]
    assert {path.name for path in folder.iterdir()} == files
    verified = run_module("logger_service", "verify", logger.logdir)
    lossy = [line for line in verified.stdout.splitlines() if ": lossy" in line]
    assert verified.returncode in (0, 3), verified.stdout + verified.stderr
    assert all("/gap-" in line for line in lossy), lossy  # who says that records are lost is believed


@pytest.mark.parametrize(("name", "field"), FIELDS, ids=[f"{name}.{field}" for name, field in FIELDS])
def test_a_field_that_holds_anything_costs_its_record(fuzzed: Fuzzed, name: str, field: str) -> None:
    """Journalled as it came, since nobody looks inside; then read by the projection, which must live."""
    number, kind = new_seed(), RECORDS[name].record.kind
    print(f"seed {number}")  # noqa: T201 - shown when the test fails
    stream = Stream(f"hostile/{name}-{field}")
    with Peer(fuzzed.logger.endpoint, stream, fuzzed.keys) as peer:
        peer.hello()

        @seed(number)
        @how_many
        @given(st.lists(spoilt(name, field), min_size=RECORDS_A_RUN, max_size=RECORDS_A_RUN))
        def send(said: list[tuple[int, int, bytes]]) -> None:
            first = peer.acked_sequence
            records = (Record(kind, first + at, step, time, body) for at, (step, time, body) in enumerate(said))
            peer.send(Data(memoryview(b"".join(pack_frame(pack_record(record)) for record in records))))
            peer.wait_acked(first + len(said))

        send()
        peer.bye()


@pytest.mark.parametrize("field", Hello.__struct_fields__)
def test_a_hello_that_says_anything_is_answered(fuzzed: Fuzzed, field: str) -> None:
    number = new_seed()
    print(f"seed {number}")  # noqa: T201 - shown when the test fails
    with Peer(fuzzed.logger.endpoint, Stream("hello"), fuzzed.keys) as peer:

        @seed(number)
        @settings(how_many, max_examples=EXAMPLES)
        @given(hostile_values | hostile_names)
        def greet(value: object) -> None:
            stream = Stream("hello")
            body = msgspec.to_builtins(Hello(stream.id, stream.run, 0, 0, 1), builtin_types=(bytes,))
            with suppress(UnicodeEncodeError):
                peer.send_raw(b"\x01\x01" + packb({**body, field: value}))
                peer.send_raw(b"\x01\x01" + packb(body))  # which is answered, whatever became of the first
                while not isinstance(answer := peer.receive(), Welcome):
                    assert isinstance(answer, Reject)

        greet()
        peer.bye()


def test_raw_bytes_for_a_logger_with_keys_end_their_connection_only(fuzzed: Fuzzed) -> None:
    number = new_seed()
    print(f"seed {number}")  # noqa: T201 - shown when the test fails
    commands = st.builds(
        lambda name, rest: bytes([4, 1 + len(name) + len(rest), len(name)]) + name + rest,
        st.sampled_from([b"HELLO", b"INITIATE", b"MESSAGE", b"READY", b"WELCOME", b"ERROR", b""]),
        st.binary(max_size=200),
    )
    said = st.lists(commands | st.binary(max_size=100), max_size=4).map(b"".join)

    @seed(number)
    @settings(how_many, max_examples=EXAMPLES)
    @given(st.sampled_from([CURVE_GREETING, CURVE_GREETING[:11], b""]), said)
    def speak(greeting: bytes, data: bytes) -> None:
        with connect(fuzzed.logger.endpoint) as connection:
            with suppress(OSError):  # it may have had enough already
                connection.sendall(greeting + data)
                connection.shutdown(socket.SHUT_WR)
            assert ends(connection)

    speak()
    fuzzed.served()
