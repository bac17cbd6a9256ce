"""Who may send, on real sockets: CurveZMQ, the list, and whose a stream is."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.key_ring import KeyRing
from support.peer import Peer
from support.receivers import make_receiver, served, turning
from support.waiting import wait_until

from tensorboard_sidecar.logger_service.intake.receiver import Receiver
from tensorboard_sidecar.logger_service.intake.stream_owner import OWNER_NAME
from tensorboard_sidecar.protocol.storage.key_files import BadKey, ClientKeys
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import Reject, Welcome


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path)


@pytest.fixture
def receiver(tmp_path: Path, ring: KeyRing) -> Iterator[Receiver]:
    with turning(make_receiver(tmp_path / "recordings", keys=ring.logger)) as receiver:
        yield receiver


def is_refused(receiver: Receiver, keys: ClientKeys | None) -> bool:
    """Tell whether a peer is counted as refused, gets no answer, and no message of it arrives."""
    messages, refused = receiver.reception.counts.refused, receiver.connections.counts.refused
    with Peer(receiver.endpoint, Stream("stranger"), keys) as peer:
        peer.send_raw(b"\x01\x01")
        wait_until(lambda: receiver.connections.counts.refused > refused, what="the refusal is counted")
        return peer.silent() and receiver.reception.counts.refused == messages


def test_who_is_on_the_list_is_served(receiver: Receiver, ring: KeyRing, tmp_path: Path) -> None:
    keys = ring.make_trainer()
    with Peer(receiver.endpoint, Stream("demo"), keys) as peer:
        peer.deliver(101)
        owner = tmp_path / "recordings" / "demo" / peer.stream.folder_name / OWNER_NAME
    assert owner.read_text() == "gpu-box"
    assert receiver.connections.counts.refused == 0


def test_without_a_key_nobody_is_let_in(receiver: Receiver, ring: KeyRing) -> None:
    assert is_refused(receiver, None)
    assert served(receiver, ring.make_trainer())


def test_with_a_key_that_is_not_on_the_list_nobody_is_let_in(receiver: Receiver, ring: KeyRing) -> None:
    assert is_refused(receiver, ring.make_trainer("stranger", let_in=False))
    assert served(receiver, ring.make_trainer())


def test_with_another_servers_key_nobody_is_let_in(receiver: Receiver, ring: KeyRing, tmp_path: Path) -> None:
    keys = ring.make_trainer()
    other = KeyRing(tmp_path / "other")
    assert is_refused(receiver, ClientKeys(other.server_public, keys.client_secret))
    assert served(receiver, keys)


def test_a_refusal_is_logged_once_a_second(receiver: Receiver, ring: KeyRing, caplog: pytest.LogCaptureFixture) -> None:
    stranger = ring.make_trainer("stranger", let_in=False)
    for _ in range(20):
        assert is_refused(receiver, stranger)
    said = [record for record in caplog.records if "not allowed" in record.getMessage()]
    assert receiver.connections.counts.refused >= 20
    assert 1 <= len(said) < 20
    assert not any(stranger.client_secret in record.getMessage() for record in said)


def test_who_is_revoked_while_connected_is_refused(receiver: Receiver, ring: KeyRing) -> None:
    honest, keys = ring.make_trainer("honest"), ring.make_trainer()
    with Peer(receiver.endpoint, Stream("demo"), keys) as peer:
        peer.hello()
        peer.send_records(1, 11)
        peer.wait_acked(11)
        ring.shut_out()

        def refused() -> bool:
            peer.send_records(11, 12)
            return receiver.reception.counts.refused > 0

        wait_until(refused, what="its messages are refused")
        wait_until(lambda: receiver.connections.counts.refused > 0, what="its connection is cut for good")
    assert served(receiver, honest)


def test_a_trainer_that_is_let_in_later_is_served(receiver: Receiver, ring: KeyRing) -> None:
    keys = ring.make_trainer(let_in=False)
    assert is_refused(receiver, keys)
    ring.let_in()
    assert served(receiver, keys)


def test_a_list_that_others_can_write_lets_nobody_in(receiver: Receiver, ring: KeyRing) -> None:
    keys = ring.make_trainer()
    assert served(receiver, keys)
    (ring.logger / "allowed").chmod(0o777)
    assert is_refused(receiver, keys)
    (ring.logger / "allowed").chmod(0o700)
    assert served(receiver, keys)


def test_a_list_that_is_gone_lets_nobody_in(receiver: Receiver, ring: KeyRing) -> None:
    keys = ring.make_trainer()
    assert served(receiver, keys)
    (ring.logger / "allowed").rename(ring.logger / "gone")
    assert is_refused(receiver, keys)


def test_a_stream_belongs_to_the_key_that_opened_it(receiver: Receiver, ring: KeyRing) -> None:
    stream, keys, other = Stream("demo"), ring.make_trainer(), ring.make_trainer("other")
    with Peer(receiver.endpoint, stream, keys) as peer, Peer(receiver.endpoint, stream, other) as thief:
        assert isinstance(peer.hello(), Welcome)
        for _ in range(2):  # before there is anything on disk, and after
            answer = thief.hello()
            assert isinstance(answer, Reject)
            assert "is that of key gpu-box, not of other" in answer.reason
            assert not answer.retry
            thief.reconnect()
            peer.send_records(peer.acked_sequence, peer.acked_sequence + 5)
            peer.wait_acked(peer.acked_sequence + 5)
    assert receiver.reception.counts.refused == 2


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
            assert "is that of key gpu-box" in answer.reason
        with Peer(receiver.endpoint, stream, keys) as peer:
            assert peer.hello(11).next_sequence == 11


def test_a_name_with_a_new_key_goes_on_with_its_streams(receiver: Receiver, ring: KeyRing) -> None:
    stream = Stream("demo")
    with Peer(receiver.endpoint, stream, ring.make_trainer()) as peer:
        peer.deliver(11)
        peer.bye()
    ring.shut_out()
    for path in ring.trainers.iterdir():
        path.unlink()
    with Peer(receiver.endpoint, stream, ring.make_trainer()) as peer:
        assert peer.hello(11) == Welcome(11, peer.hello(11).credit_bytes)


@pytest.mark.parametrize("rubbish", [b"../../etc", b"\xff\xff", b"x" * 100])
def test_an_owner_that_cannot_be_read_is_nobody(tmp_path: Path, ring: KeyRing, rubbish: bytes) -> None:
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
