"""The receiver on real sockets, without keys and with keys: the receiver in a thread, its peers in the test."""

import resource
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
import zmq
from support.logger.key_ring import KeyRing
from support.logger.peer import DEADLINE_SECONDS, Peer, make_run
from support.logger.receivers import make_receiver, served, turning
from support.logger.zmtp import ends, speak_zmtp
from support.machine.waiting import wait_until

from tensorboard_sidecar.logger_service.errors import StartupError
from tensorboard_sidecar.logger_service.folders.low_water import DiskSpace, LowWater
from tensorboard_sidecar.logger_service.intake.journal import OWNER_NAME, Journal
from tensorboard_sidecar.logger_service.intake.receive_session import ReceiveSession
from tensorboard_sidecar.logger_service.intake.receiver import Receiver
from tensorboard_sidecar.protocol.limits import CREDIT_BYTES, WIRE_MESSAGE_SIZE_MAX_BYTES
from tensorboard_sidecar.protocol.storage.key_files import BadKey, ClientKeys
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import Ack, Data, Hello, Reject, Welcome, encode_wire


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with turning(make_receiver(tmp_path)) as receiver:
        yield receiver


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path)


@pytest.fixture
def keyed_receiver(tmp_path: Path, ring: KeyRing) -> Iterator[Receiver]:
    with turning(make_receiver(tmp_path / "recordings", keys=ring.logger)) as receiver:
        yield receiver


def first_session(receiver: Receiver) -> ReceiveSession:
    """Turn the receiver until a peer has said HELLO."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not len(receiver.dispatcher.streams._sessions):
        assert time.monotonic() < deadline
        receiver.turn(0.1)
    return next(iter(receiver.dispatcher.streams._sessions))


def test_many_peers_are_served_side_by_side(receiver: Receiver) -> None:
    peers = [Peer(receiver.endpoint, Stream("demo", rank)) for rank in range(8)]
    for peer in peers:
        assert peer.hello() == Welcome(1, CREDIT_BYTES)
    for sequence in range(1, 201, 10):
        for peer in peers:
            peer.send_records(sequence, sequence + 10)
    for peer in peers:
        peer.wait_acked(201)
        peer.close()


def test_the_endpoint_has_the_real_port(receiver: Receiver) -> None:
    assert int(receiver.endpoint.removeprefix("tcp://127.0.0.1:")) > 0


def test_a_port_in_use_is_refused_with_a_way_out(receiver: Receiver, tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"in use.*choose another port"):
        make_receiver(tmp_path, receiver.endpoint)


def test_an_ipc_path_is_bound_and_not_taken_from_another_logger(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path / 'socket'}"
    with turning(make_receiver(tmp_path, endpoint)) as receiver:
        with pytest.raises(StartupError, match="another logger listens there"):
            make_receiver(tmp_path, endpoint)
        assert served(receiver)
    with turning(make_receiver(tmp_path, endpoint)) as again:
        assert served(again)


def test_an_endpoint_that_cannot_be_bound_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"expected something like.*mkdir -m 700"):
        make_receiver(tmp_path, f"ipc://{tmp_path / 'no such folder' / 'socket'}")


def test_an_ipc_path_in_a_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    with pytest.raises(StartupError, match=r"open to others.*mkdir -m 700"):
        make_receiver(tmp_path, f"ipc://{tmp_path / 'open' / 'socket'}")


def test_a_routing_id_of_a_peers_own_choice_is_refused(receiver: Receiver) -> None:
    """With a chosen id, a peer could take the id of a peer that is gone, and continue that peer's stream."""
    with Peer(receiver.endpoint, Stream("demo")) as peer:
        peer._socket.close(linger=0)
        peer._socket = peer._context.socket(zmq.DEALER)
        peer._socket.setsockopt(zmq.ROUTING_ID, b"chosen")
        peer._socket.connect(receiver.endpoint)
        answer = peer.hello()
        assert isinstance(answer, Reject)
        assert "routing id" in answer.reason
    assert served(receiver)


def test_a_message_of_many_frames_is_refused(receiver: Receiver) -> None:
    with Peer(receiver.endpoint, Stream("demo")) as peer:
        peer.hello()
        peer.send_raw(encode_wire(Data(memoryview(make_run(1, 2)))), b"more")
        answer = peer.receive()
        assert isinstance(answer, Reject)
        assert "2 frames" in answer.reason
        peer.send_raw(*[b"x"] * 1000)
        assert served(receiver)
        assert receiver.dispatcher.counts.refused == 2


def test_ten_thousand_bad_messages_are_counted_and_cost_no_memory(receiver: Receiver) -> None:
    number, random = 10_000, Random(0)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Peer(receiver.endpoint, Stream("bad")) as peer:
        for _ in range(number):
            peer.send_raw(
                random.choice([b"", b"\x01\x01", b"\x01\x05"]) + b"\xc1" + random.randbytes(random.randrange(200))
            )
        assert served(receiver)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while receiver.dispatcher.counts.refused < number:
            assert time.monotonic() < deadline, receiver
            time.sleep(0.01)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 64 * 2**10


def test_a_message_beyond_the_limit_ends_its_connection(receiver: Receiver) -> None:
    with speak_zmtp(receiver.endpoint) as connection:
        connection.sendall(b"\x02" + struct.pack(">Q", WIRE_MESSAGE_SIZE_MAX_BYTES + 1))
        assert ends(connection)
        counts = receiver.connections.counts
        wait_until(lambda: (counts.accepted, counts.ended) == (1, 1), seconds=DEADLINE_SECONDS)
    assert served(receiver)


def test_a_peer_that_ignores_its_credit_is_cut_until_there_is_room(tmp_path: Path) -> None:
    """The disk of the recordings is nearly full: data without credit fill no more of the disk."""
    receiver, room = make_receiver(tmp_path), [DiskSpace(1, 2**40)]
    receiver.dispatcher.streams._journal.low_water = LowWater(lambda: room[0])
    with turning(receiver):
        with speak_zmtp(receiver.endpoint) as connection:
            hello = encode_wire(Hello(bytes(16), "hostile", 0, 0, 1))
            data = encode_wire(Data(memoryview(make_run(1, 2))))
            connection.sendall(b"".join(bytes([0, len(message)]) + message for message in (hello, data)))
            assert ends(connection)
        assert receiver.connections.counts.over_credit == receiver.dispatcher.counts.refused == 1
        assert list(tmp_path.iterdir()) == []
        room[0] = DiskSpace(2**40, 2**40)
        assert served(receiver)


@pytest.mark.parametrize("rubbish", [b"GET / HTTP/1.1\r\n\r\n", bytes(200), b"\xff" * 200])
def test_bytes_that_are_no_zeromq_harm_no_peer(receiver: Receiver, rubbish: bytes) -> None:
    with socket.create_connection(("127.0.0.1", int(receiver.endpoint.rpartition(":")[2]))) as connection:
        connection.sendall(rubbish)
        assert served(receiver)


def test_idle_connections_keep_no_peer_out(receiver: Receiver) -> None:
    idle = [speak_zmtp(receiver.endpoint) for _ in range(100)]
    assert served(receiver)
    for connection in idle:
        connection.close()


def test_a_trainer_that_connects_anew_goes_on_at_once(receiver: Receiver) -> None:
    """The old connection is closed, and the stream is free at once."""
    with Peer(receiver.endpoint, Stream("demo")) as peer:
        peer.hello()
        peer.send_records(1, 10)
        peer.wait_acked(10)
        for _ in range(3):
            peer.reconnect()
            while not isinstance(answer := peer.hello(10), Welcome):
                assert answer.retry
            assert answer == Welcome(10, CREDIT_BYTES)


def test_a_second_peer_with_the_same_stream_is_told_to_ask_later(receiver: Receiver) -> None:
    stream = Stream("demo")
    with Peer(receiver.endpoint, stream) as first, Peer(receiver.endpoint, stream) as second:
        first.hello()
        answer = second.hello()
        assert isinstance(answer, Reject)
        assert answer.retry
        first.send_records(1, 5)
        first.wait_acked(5)


def test_received_records_are_acknowledged_before_the_end(tmp_path: Path) -> None:
    """An interval that never passes: only close commits."""
    journal = Journal(tmp_path, lambda: 10**18, commit_interval_seconds=1e6, commit_size_bytes=2**20)
    receiver = Receiver(journal, "tcp://127.0.0.1:*", streams_max=4)
    with Peer(receiver.endpoint, Stream("demo")) as peer:
        stream = peer.stream
        peer.send(Hello(stream.id, stream.run, 0, 0, 1))
        peer.send_records(1, 5)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while receiver.dispatcher.counts.records < 4 and time.monotonic() < deadline:
            receiver.turn(0.1)
        assert peer.receive() == Welcome(1, CREDIT_BYTES)
        assert peer.silent()
        receiver.close()
        assert peer.receive() == Ack(5, CREDIT_BYTES)


def test_answers_for_a_peer_that_does_not_read_are_dropped_without_waiting(tmp_path: Path) -> None:
    receiver = make_receiver(tmp_path)
    hello = encode_wire(Hello(bytes(16), "deaf", 0, 0, 1))
    with speak_zmtp(receiver.endpoint) as deaf:
        deaf.sendall(bytes([0, len(hello)]) + hello)
        session = first_session(receiver)
        answer = [session.peer, encode_wire(Ack(1, 1))]
        with pytest.raises(zmq.Again):  # noqa: PT012 - how many fit is the kernel's business
            while True:
                receiver._socket.send_multipart(answer, zmq.NOBLOCK)
        assert receiver._send(session.peer, Ack(1, 1)), "it is there all the same"
        with turning(receiver):
            assert served(receiver)


def test_a_peer_that_is_gone_is_noticed_when_it_is_answered(tmp_path: Path) -> None:
    receiver = make_receiver(tmp_path)
    with closing(receiver), Peer(receiver.endpoint, Stream("demo")) as peer:
        peer.send(Hello(bytes(16), "demo", 0, 0, 1))
        session = first_session(receiver)
        assert receiver._send(session.peer, Ack(1, 1))
        peer.close()
        deadline = time.monotonic() + DEADLINE_SECONDS
        while receiver._send(session.peer, Ack(1, 1)) and time.monotonic() < deadline:
            receiver.turn(0.01)
        assert not receiver._send(session.peer, Ack(1, 1))


def is_refused(receiver: Receiver, keys: ClientKeys | None) -> bool:
    """Tell whether a peer is counted as refused, gets no answer, and none of its messages arrives."""
    messages, refused = receiver.dispatcher.counts.refused, receiver.connections.counts.refused
    with Peer(receiver.endpoint, Stream("stranger"), keys) as peer:
        peer.send_raw(b"\x01\x01")
        wait_until(lambda: receiver.connections.counts.refused > refused, what="the refusal is counted")
        return peer.silent() and receiver.dispatcher.counts.refused == messages


def test_a_trainer_with_an_allowed_key_is_served(keyed_receiver: Receiver, ring: KeyRing, tmp_path: Path) -> None:
    keys = ring.make_trainer()
    with Peer(keyed_receiver.endpoint, Stream("demo"), keys) as peer:
        peer.deliver(101)
        owner = tmp_path / "recordings" / "demo" / peer.stream.folder_name / OWNER_NAME
    assert owner.read_text() == "gpu-box"
    assert keyed_receiver.connections.counts.refused == 0


def test_without_a_key_no_peer_is_let_in(keyed_receiver: Receiver, ring: KeyRing) -> None:
    assert is_refused(keyed_receiver, None)
    assert served(keyed_receiver, ring.make_trainer())


def test_with_a_key_that_is_not_allowed_no_peer_is_let_in(keyed_receiver: Receiver, ring: KeyRing) -> None:
    assert is_refused(keyed_receiver, ring.make_trainer("stranger", let_in=False))
    assert served(keyed_receiver, ring.make_trainer())


def test_with_another_servers_key_no_peer_is_let_in(keyed_receiver: Receiver, ring: KeyRing, tmp_path: Path) -> None:
    keys = ring.make_trainer()
    other = KeyRing(tmp_path / "other")
    assert is_refused(keyed_receiver, ClientKeys(other.server_public, keys.client_secret))
    assert served(keyed_receiver, keys)


def test_a_refusal_is_logged_once_a_second(
    keyed_receiver: Receiver, ring: KeyRing, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = ring.make_trainer("stranger", let_in=False)
    for _ in range(20):
        assert is_refused(keyed_receiver, stranger)
    said = [record for record in caplog.records if "not allowed" in record.getMessage()]
    assert keyed_receiver.connections.counts.refused >= 20
    assert 1 <= len(said) < 20
    assert not any(stranger.client_secret in record.getMessage() for record in said)


def test_a_trainer_whose_key_is_revoked_while_connected_is_refused(keyed_receiver: Receiver, ring: KeyRing) -> None:
    honest, keys = ring.make_trainer("honest"), ring.make_trainer()
    with Peer(keyed_receiver.endpoint, Stream("demo"), keys) as peer:
        peer.hello()
        peer.send_records(1, 11)
        peer.wait_acked(11)
        ring.shut_out()

        def refused() -> bool:
            peer.send_records(11, 12)
            return keyed_receiver.dispatcher.counts.refused > 0

        wait_until(refused, what="its messages are refused")
        wait_until(lambda: keyed_receiver.connections.counts.refused > 0, what="its connection is cut for good")
    assert served(keyed_receiver, honest)


def test_a_trainer_that_is_let_in_later_is_served(keyed_receiver: Receiver, ring: KeyRing) -> None:
    keys = ring.make_trainer(let_in=False)
    assert is_refused(keyed_receiver, keys)
    ring.let_in()
    assert served(keyed_receiver, keys)


def test_a_list_that_other_users_can_write_lets_no_peer_in(keyed_receiver: Receiver, ring: KeyRing) -> None:
    keys = ring.make_trainer()
    assert served(keyed_receiver, keys)
    (ring.logger / "allowed").chmod(0o777)
    assert is_refused(keyed_receiver, keys)
    (ring.logger / "allowed").chmod(0o700)
    assert served(keyed_receiver, keys)


def test_a_list_that_is_gone_lets_no_peer_in(keyed_receiver: Receiver, ring: KeyRing) -> None:
    keys = ring.make_trainer()
    assert served(keyed_receiver, keys)
    (ring.logger / "allowed").rename(ring.logger / "gone")
    assert is_refused(keyed_receiver, keys)


def test_a_stream_belongs_to_the_key_that_opened_it(keyed_receiver: Receiver, ring: KeyRing) -> None:
    stream, keys, other = Stream("demo"), ring.make_trainer(), ring.make_trainer("other")
    with Peer(keyed_receiver.endpoint, stream, keys) as peer, Peer(keyed_receiver.endpoint, stream, other) as thief:
        assert isinstance(peer.hello(), Welcome)
        for _ in range(2):  # before there is anything on disk, and after
            answer = thief.hello()
            assert isinstance(answer, Reject)
            assert "belongs to key gpu-box, not to other" in answer.reason
            assert not answer.retry
            thief.reconnect()
            peer.send_records(peer.acked_sequence, peer.acked_sequence + 5)
            peer.wait_acked(peer.acked_sequence + 5)
    assert keyed_receiver.dispatcher.counts.refused == 2


def test_a_stream_belongs_to_its_key_after_a_restart_too(tmp_path: Path, ring: KeyRing) -> None:
    stream, keys, other = Stream("demo"), ring.make_trainer(), ring.make_trainer("other")
    with (
        turning(make_receiver(tmp_path / "recordings", keys=ring.logger)) as receiver,
        Peer(receiver.endpoint, stream, keys) as peer,
    ):
        peer.deliver(11)
    with turning(make_receiver(tmp_path / "recordings", keys=ring.logger)) as receiver:
        with Peer(receiver.endpoint, stream, other) as thief:
            answer = thief.hello()
            assert isinstance(answer, Reject)
            assert "belongs to key gpu-box" in answer.reason
        with Peer(receiver.endpoint, stream, keys) as peer:
            assert peer.hello(11).next_sequence == 11


def test_a_name_with_a_new_key_goes_on_with_its_streams(keyed_receiver: Receiver, ring: KeyRing) -> None:
    stream = Stream("demo")
    with Peer(keyed_receiver.endpoint, stream, ring.make_trainer()) as peer:
        peer.deliver(11)
        peer.bye()
    ring.shut_out()
    for path in ring.trainers.iterdir():
        path.unlink()
    with Peer(keyed_receiver.endpoint, stream, ring.make_trainer()) as peer:
        assert peer.hello(11) == Welcome(11, peer.hello(11).credit_bytes)


@pytest.mark.parametrize("rubbish", [b"../../etc", b"\xff\xff", b"x" * 100])
def test_a_stream_whose_owner_cannot_be_read_is_refused(tmp_path: Path, ring: KeyRing, rubbish: bytes) -> None:
    stream, keys = Stream("demo"), ring.make_trainer()
    folder = tmp_path / "recordings" / "demo" / stream.folder_name
    folder.mkdir(parents=True)
    (folder / OWNER_NAME).write_bytes(rubbish)
    with turning(make_receiver(tmp_path / "recordings", keys=ring.logger)) as receiver:
        with Peer(receiver.endpoint, stream, keys) as peer:
            assert isinstance(peer.hello(), Reject)
        assert served(receiver, keys)


def test_keys_that_others_can_read_are_refused(tmp_path: Path, ring: KeyRing) -> None:
    ring.server_secret.chmod(0o644)
    with pytest.raises(BadKey, match=r"open to others.*chmod 600"):
        make_receiver(tmp_path / "recordings", keys=ring.logger)
