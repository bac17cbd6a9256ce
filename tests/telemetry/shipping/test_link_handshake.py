"""A real link to a real receiver: the reason of a failed connection, and the recovery."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import sleep

import pytest
from support.logger.driven_link import DrivenLink
from support.logger.key_ring import KeyRing
from support.logger.receivers import make_receiver, turning
from support.records.recordings import START_NS, make_stream

from tensorboard_sidecar.logger_service.access.authenticator import Authenticator
from tensorboard_sidecar.logger_service.intake.receiver import Receiver
from tensorboard_sidecar.logger_service.limits import HANDSHAKE_MAX_SECONDS
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.protocol.storage.key_files import ClientKeys
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox
from tensorboard_sidecar.telemetry.shipping import link

Connect = Callable[[str, ClientKeys | None], DrivenLink]
RECORDS = 20


HANDSHAKE_MAX_MS = link.HANDSHAKE_MAX_MS


@pytest.fixture(autouse=True)
def _short_handshakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let links give up a handshake after one second instead of four."""
    monkeypatch.setattr(link, "HANDSHAKE_MAX_MS", 1000)


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path)


@pytest.fixture
def connect(memory: Path) -> Iterator[Connect]:
    with ExitStack() as stack:

        def connect_to(endpoint: str, keys: ClientKeys | None) -> DrivenLink:
            outbox = Outbox(
                memory / "outbox", make_stream(), capacity_bytes=2**24, wall_time_ns=START_NS, segment_size_bytes=2**16
            )
            stack.callback(outbox.close, keep=False)
            for number in range(RECORDS):
                outbox.append(Kind.SCALARS, number, START_NS, b"body")
            driven = DrivenLink(outbox, endpoint, keys)
            stack.callback(driven.link.close)
            return driven

        yield connect_to


@pytest.fixture
def receiver(tmp_path: Path, ring: KeyRing) -> Iterator[Receiver]:
    with turning(make_receiver(tmp_path / "recordings", keys=ring.logger)) as receiver:
        yield receiver


@pytest.fixture
def open_receiver(tmp_path: Path) -> Iterator[Receiver]:
    with turning(make_receiver(tmp_path / "recordings")) as receiver:
        yield receiver


def says(driven: DrivenLink, words: str) -> None:
    """Drive the link until the reason of the failure is known and nothing is acknowledged."""
    driven.drive(lambda: words in driven.session.reason)
    assert driven.session.acked_sequence == 1


def test_a_key_that_is_not_on_the_list_yet(receiver: Receiver, ring: KeyRing, connect: Connect) -> None:
    driven = connect(receiver.endpoint, ring.make_trainer(let_in=False))
    says(driven, "keys allow NAME PUBLIC_KEY")
    ring.let_in()
    driven.drive_to(RECORDS + 1, hurry=True)


def test_a_key_that_is_revoked_while_it_is_used(receiver: Receiver, ring: KeyRing, connect: Connect) -> None:
    driven = connect(receiver.endpoint, ring.make_trainer())
    driven.drive_to(RECORDS + 1)
    ring.shut_out()
    driven.link._outbox.append(Kind.SCALARS, 99, START_NS, b"more")  # type: ignore[attr-defined] # an outbox, made above
    driven.drive(lambda: "keys allow" in driven.session.reason, hurry=True)
    assert driven.session.acked_sequence == RECORDS + 1
    ring.let_in()
    driven.drive_to(RECORDS + 2, hurry=True)


def test_another_loggers_public_key(receiver: Receiver, ring: KeyRing, connect: Connect, tmp_path: Path) -> None:
    keys = ClientKeys(KeyRing(tmp_path / "other").server_public, ring.make_trainer().client_secret)
    says(connect(receiver.endpoint, keys), "--server_key is not its public key")


def test_no_key_for_a_logger_that_wants_one(receiver: Receiver, connect: Connect) -> None:
    says(connect(receiver.endpoint, None), "give --server_key and --client_key")


def test_a_key_for_a_logger_that_has_none(open_receiver: Receiver, ring: KeyRing, connect: Connect) -> None:
    says(connect(open_receiver.endpoint, ring.make_trainer()), "speaks without keys")


def test_an_authenticator_that_answers_nothing(
    receiver: Receiver, ring: KeyRing, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No trainer is admitted. When the authenticator answers again, all allowed trainers are."""
    with monkeypatch.context() as dead:
        dead.setattr(Authenticator, "answer", lambda _self, _now: sleep(0.001))
        driven = connect(receiver.endpoint, ring.make_trainer())
        says(driven, "its authenticator is dead")
        assert receiver.dispatcher.counts.hellos == 0
    driven.drive_to(RECORDS + 1, hurry=True)


def test_a_link_gives_up_a_handshake_before_the_logger_does() -> None:
    """The logger closes the connection, and does not say why."""
    assert HANDSHAKE_MAX_MS < 1000 * HANDSHAKE_MAX_SECONDS


def test_the_same_complaint_is_logged_once_a_minute(
    receiver: Receiver, ring: KeyRing, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "tensorboard_sidecar.telemetry")
    driven = connect(receiver.endpoint, ring.make_trainer(let_in=False))
    driven.drive(lambda: receiver.connections.counts.refused >= 4)
    said = [record.getMessage() for record in caplog.records if record.name.startswith("tensorboard_sidecar.telemetry")]
    assert len(said) == 1
    assert "what is recorded waits, and it is tried again" in said[0]


def test_a_link_that_gives_up_in_mid_handshake_can_still_connect(open_receiver: Receiver, connect: Connect) -> None:
    """ZeroMQ's I/O thread once waited forever to report a handshake to a closed monitor."""
    driven = connect(open_receiver.endpoint, None)
    for round_ in range(400):
        driven.turn(later_seconds=10.0)
        sleep(round_ % 40 * 25e-6)
        driven.link._give_up(0.0)
    driven.drive_to(RECORDS + 1, hurry=True)
