"""The authenticator on a context of its own: fails closed, and accepts ZAP requests for CURVE alone."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic

import pytest
import zmq
from support.logger.key_ring import KeyRing
from support.logger.peer import Peer
from support.machine.waiting import wait_until
from zmq.utils import z85

from tensorboard_sidecar.logger_service.access.authenticator import Authenticator, make_key_pair
from tensorboard_sidecar.logger_service.access.connection_monitor import ConnectionMonitor
from tensorboard_sidecar.logger_service.errors import StartupError
from tensorboard_sidecar.protocol.storage.key_files import BadKey, check_key
from tensorboard_sidecar.protocol.stream import Stream


@pytest.fixture
def context() -> Iterator["zmq.Context[zmq.SyncSocket]"]:
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path)


def ask(context: "zmq.Context[zmq.SyncSocket]", authenticator: Authenticator, *request: bytes) -> list[bytes]:
    with closing(context.socket(zmq.REQ)) as asker:
        asker.connect("inproc://zeromq.zap.01")
        asker.send_multipart(request)
        authenticator.answer(monotonic())
        assert asker.poll(5000)
        return asker.recv_multipart()


def test_without_an_authenticator_no_peer_is_let_in(context: "zmq.Context[zmq.SyncSocket]", ring: KeyRing) -> None:
    """As when the authenticator has died: nobody answers the ZAP request."""
    keys = ring.make_trainer()
    authenticator, server = Authenticator(context, ring.logger), context.socket(zmq.ROUTER)
    authenticator.secure(server)
    server.setsockopt(
        zmq.HANDSHAKE_IVL, 1000
    )  # ZeroMQ may send the request while the authenticator ends, and gets no answer
    connections = ConnectionMonitor(context, server, keys=True)
    connections.watch()
    server.bind("tcp://127.0.0.1:*")
    authenticator.close()
    with Peer(server.getsockopt_string(zmq.LAST_ENDPOINT), Stream("demo"), keys) as peer:
        peer.send_raw(b"\x01\x01")
        wait_until(lambda: connections.counts.refused > 0)
        assert not server.poll(0)
    connections.close()
    server.close()


def test_requests_that_zeromq_does_not_send_are_refused(context: "zmq.Context[zmq.SyncSocket]", ring: KeyRing) -> None:
    ring.make_trainer()
    authenticator = Authenticator(context, ring.logger)
    key = z85.decode((ring.trainers / "gpu-box.pub").read_text().strip())
    asked = (b"1.0", b"7", b"tensorboard-sidecar", b"127.0.0.1", b"", b"CURVE")
    assert ask(context, authenticator, *asked, key) == [b"1.0", b"7", b"200", b"", z85.encode(key), b""]
    assert ask(context, authenticator, *asked, bytes(32))[2] == b"400"
    for wrong in (
        (b"",),
        (b"1.0", b"7"),
        (*asked, key[:31]),
        (*asked, key, b"more"),
        (b"2.0", *asked[1:], key),
        (*asked[:2], b"other", *asked[3:], key),
        (*asked[:5], b"NULL"),
        (*asked[:5], b"PLAIN", b"name", b"password"),
    ):
        assert ask(context, authenticator, *wrong)[2] == b"500"
    authenticator.close()


def test_without_a_server_key_the_error_names_the_command_that_makes_the_key(
    context: "zmq.Context[zmq.SyncSocket]", tmp_path: Path, ring: KeyRing
) -> None:
    with pytest.raises(StartupError, match=r"keys create .*nowhere"):
        Authenticator(context, tmp_path / "nowhere")
    ring.logger.chmod(0o750)
    with pytest.raises(BadKey, match="chmod 700"):
        Authenticator(context, ring.logger)


def test_keys_can_be_typed_as_arguments() -> None:
    for _ in range(100):
        public, secret = make_key_pair()
        assert check_key(public)[0].isalnum()
        assert zmq.curve_public(check_key(secret).encode()).decode() == public
