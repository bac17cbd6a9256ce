"""Peers that hold a valid key and mean harm: every field of every message, HELLO, and raw bytes below the messages.

Meanwhile an honest peer is served. At the end everything that was acknowledged is in the event files, once, whatever it
says; nothing is anywhere else, and neither process has taken much memory.
"""

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Self

import msgspec
import pytest
from faults.harness.diary import Returned
from faults.harness.effort import SOAK_TIMEOUT_SECONDS, SOAKING, new_seed, rounds
from faults.harness.hostile import Memory, draw_everything, judge, served
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from msgpack import packb, unpackb
from support.logger.key_ring import KeyRing
from support.logger.peer import Peer
from support.logger.zmtp import connect, ends
from support.machine.waiting import wait_until
from support.records.golden import RECORDS
from support.records.strategies import plain
from support.running.metrics import count, read_counts
from support.running.programs import LoggerProcess, run_command
from support.source import ROOT

from tensorboard_sidecar.protocol.frame import pack_frame
from tensorboard_sidecar.protocol.record import Kind, Record, pack_record
from tensorboard_sidecar.protocol.storage.key_files import ClientKeys
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import Data, Hello, Reject, Welcome

# Records for each field of a message: Hypothesis makes them by runs, one of which is an example of its.
RECORDS_A_FIELD = rounds(quick=20, full=10_000)
RECORDS_A_RUN = 20
# Messages for each field of a HELLO, and connections.
EXAMPLES = rounds(quick=20, full=10_000)
MORE_MEMORY_MAX_KIB = 64 * 2**10
# For ten records of an honest peer: a tenth of a second, or what the machine makes of it. Only who waits for the others
# takes this.
HONEST_MAX_SECONDS = 10.0
# What is projected is drawn as well, where it still can be.
PROJECTION_MAX_SECONDS = rounds(quick=120, full=3600)
FIELDS = [
    (name, field)
    for name, golden in RECORDS.items()
    if golden.record.kind != Kind.SEGMENT
    for field in golden.message.__struct_fields__
]
# A name that leads there, wherever a logger thinks it is.
ELSEWHERE = Path("/var/tmp/nobody-writes-here")
CURVE_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01CURVE" + bytes(15) + bytes(32)

hostile_names = st.sampled_from(
    ["../x", str(ELSEWHERE), "a/../../x", "\x00", "\u202e", "\ud800", "x" * 100_000, "-", "{}", "%s"]
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
    max_examples=RECORDS_A_FIELD // RECORDS_A_RUN, database=None, suppress_health_check=list(HealthCheck)
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


class HonestPeer:
    """Has ten records acknowledged, again and again, and times that, for the length of a block."""

    def __init__(self, logger: LoggerProcess, keys: ClientKeys) -> None:
        self._logger, self._keys = logger, keys
        self._enough, self._thread = threading.Event(), threading.Thread(target=self._deliver)
        self._returned: Returned | None = None
        self.longest_seconds = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._enough.set()
        self._thread.join()

    @property
    def returned(self) -> Returned:
        """What it was promised; nobody knows when it was refused on the way."""
        assert self._returned is not None, "the honest peer was not served to the end"
        return self._returned

    def _deliver(self) -> None:
        with Peer(self._logger.endpoint, Stream("meanwhile"), self._keys) as peer:
            while not self._enough.wait(0.05):
                began = monotonic()
                peer.deliver(peer.acked_sequence + 10)
                self.longest_seconds = max(self.longest_seconds, monotonic() - began)
            peer.bye()
            self._returned = Returned.up_to(peer.stream.id, peer.acked_sequence - 1)


class Fuzzed:
    """A logger with keys, and the key of a trainer that is let in; ``promised`` is what it has to keep.

    All that it could take for its own lies in ``root``: its folders, where it was started, its home, and what is for
    passing things.
    """

    def __init__(self, root: Path) -> None:
        self.root, folder = root, root / "a" / "b" / "here"
        own = {name: root / "a" / "b" / name for name in ("start", "home", "passing")}
        for path in (folder, *own.values()):
            path.mkdir(parents=True)
        self.ring, self.logger = KeyRing(folder), LoggerProcess(folder)
        self.keys, self.honest_keys = self.ring.make_trainer(), self.ring.make_trainer("honest")
        self.promised: list[Returned] = []
        self.logger.flags = ("--keys", str(self.ring.logger), "--drain_seconds", "120")
        environment = {"HOME": own["home"], "TMPDIR": own["passing"], "PYTHONPATH": ROOT}
        self.logger.program = [
            "env",
            "-C",
            str(own["start"]),
            *(f"{name}={path}" for name, path in environment.items()),
        ]
        self.logger.program += [sys.executable, "-m", "tensorboard_sidecar"]

    def served(self) -> None:
        """See that an honest peer gets its records acknowledged."""
        self.promised.append(served(self.logger, keys=self.honest_keys))

    def strangers_files(self) -> set[Path]:
        """Return every path that is neither in the recordings nor in the log directory."""
        own = (self.logger.recordings, self.logger.logdir)
        there = {path for path in self.root.rglob("*") if not any(folder in path.parents for folder in own)}
        return there | ({ELSEWHERE} if os.path.lexists(ELSEWHERE) else set())


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    """Return a logger that must be well at the end, have kept all it was given, and nothing elsewhere."""
    fuzzed = Fuzzed(tmp_path_factory.mktemp("root"))
    logger = fuzzed.logger
    count(logger)
    logger.start()
    fuzzed.promised.append(draw_everything(logger, fuzzed.honest_keys))
    memory, before = Memory(logger), fuzzed.strangers_files()
    with HonestPeer(logger, fuzzed.honest_keys) as honest:
        yield fuzzed
    fuzzed.served()
    fuzzed.promised.append(honest.returned)
    assert honest.longest_seconds < HONEST_MAX_SECONDS
    wait_until(lambda: all_is_projected(logger), seconds=PROJECTION_MAX_SECONDS, what="the end of the projection")
    assert max(memory.more_kib()) < MORE_MEMORY_MAX_KIB
    assert logger.stop() == 0
    assert fuzzed.strangers_files() == before
    log = logger.log.read_text()
    assert "Traceback" not in log
    assert "the projection ended" not in log
    judge(logger, fuzzed.promised)
    verified = run_command("verify", logger.logdir)
    lossy = [line for line in verified.stdout.splitlines() if ": lossy" in line]
    assert verified.returncode in (0, 3), verified.stdout + verified.stderr
    assert all("/gap-" in line for line in lossy), lossy  # who says that records are lost is believed


def all_is_projected(logger: LoggerProcess) -> bool:
    counts = read_counts(logger)
    return counts["projection_records"] == counts["records"]


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
        fuzzed.promised.append(Returned.up_to(stream.id, peer.acked_sequence - 1, hostile=True))
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
