"""Outboxes of trainers with keys; outboxes, journal and allow list are real, the clock is the test's."""

from pathlib import Path

import pytest
from support.logger.adopting import ENDPOINT, Host
from support.logger.key_ring import KeyRing
from support.records.recordings import make_stream

from tensorboard_sidecar.logger_service.access.allow_list import AllowList
from tensorboard_sidecar.logger_service.intake.journal import OWNER_NAME
from tensorboard_sidecar.logger_service.intake.orphan_intake import GRACE_SECONDS, LOOK_SECONDS
from tensorboard_sidecar.protocol.outbox.orphan_delivery import RETRY_SECONDS
from tensorboard_sidecar.protocol.outbox.outbox_files import Destination, write_destination
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.telemetry.shipping.link import LoggerLink


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path)


@pytest.fixture
def host(memory: Path, tmp_path: Path, ring: KeyRing) -> Host:
    return Host(memory, tmp_path / "recordings", allowed=AllowList(ring.logger))


def abandon(host: Host, ring: KeyRing, stream: Stream, name: str = "gpu-box", records: int = 10) -> Path:
    """Leave an orphaned outbox of the trainer ``name``."""
    outbox = host.outbox(stream, records)
    link = LoggerLink(outbox, ENDPOINT, ring.client_keys(name))
    write_destination(outbox.folder, Destination(ENDPOINT, public_key=link.public_key))
    link.close()
    outbox.close(keep=True)
    return outbox.folder


def owner(host: Host, stream: Stream) -> str:
    return (host.logger.folder / stream.run / stream.folder_name / OWNER_NAME).read_text()


def test_what_an_allowed_trainer_left_is_adopted_in_its_name(host: Host, ring: KeyRing) -> None:
    ring.make_trainer()
    stream = make_stream()
    folder = abandon(host, ring, stream)
    host.grace()
    assert host.logger.records(stream) == list(range(1, 11))
    assert owner(host, stream) == "gpu-box"
    assert not folder.exists()


def test_what_a_revoked_trainer_left_is_left_and_said_once_until_it_is_let_in(
    host: Host, ring: KeyRing, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise a revoked trainer could continue through its outbox."""
    ring.make_trainer()
    ring.shut_out()
    stream = make_stream()
    folder = abandon(host, ring, stream)
    host.wait(10 * RETRY_SECONDS)
    assert (host.intake.delivered, host.intake.failed) == (0, 1)
    assert not host.logger.folder.exists()
    assert caplog.text.count(f"{folder} is not adopted: its trainer's key ") == 1
    ring.let_in()
    host.wait(RETRY_SECONDS + LOOK_SECONDS)
    assert host.logger.records(stream) == list(range(1, 11))
    assert host.intake.failed == 0


def test_a_trainer_that_is_revoked_while_its_outbox_is_adopted_has_the_rest_left(host: Host, ring: KeyRing) -> None:
    ring.make_trainer()
    stream = make_stream()
    folder = abandon(host, ring, stream, records=30_000)
    host.intake.step(host.logger.now)
    host.logger.now += LOOK_SECONDS + GRACE_SECONDS
    while not host.logger.dispatcher.counts.records:
        host.intake.step(host.logger.now)
    ring.shut_out()
    host.wait(RETRY_SECONDS)
    records = host.logger.records(stream)
    assert 0 < len(records) < 30_000
    assert folder.exists()
    assert host.intake.failed == 1


def test_what_a_trainer_without_a_key_left_is_left(host: Host, ring: KeyRing, caplog: pytest.LogCaptureFixture) -> None:
    ring.make_trainer()
    folder = host.abandon(make_stream(), 10)
    write_destination(folder, Destination(ENDPOINT))
    host.grace()
    assert folder.exists()
    assert "its trainer had no key" in caplog.text


def test_nobody_takes_over_a_stream_by_an_outbox(host: Host, ring: KeyRing, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("gpu-box", "other"):
        ring.make_trainer(name)
    stream = make_stream()
    abandon(host, ring, stream)
    host.grace()
    folder = abandon(host, ring, stream, "other", records=20)
    host.grace()
    assert folder.exists()
    assert "the stream belongs to key gpu-box, not to other" in caplog.text
    assert host.logger.records(stream) == list(range(1, 11))


@pytest.mark.parametrize("key", ["rubbish\x1b[31m", "a" * 4000])
def test_a_key_that_is_none_is_nobodys(host: Host, key: str, caplog: pytest.LogCaptureFixture) -> None:
    folder = host.abandon(make_stream(), 10)
    write_destination(folder, Destination(ENDPOINT, public_key=key))
    host.grace()
    assert folder.exists()
    [said] = [record.getMessage() for record in caplog.records if "is not adopted" in record.getMessage()]
    assert said.isprintable()
    assert len(said) < 500


def test_a_list_that_cannot_be_read_lets_nobody_in(host: Host, ring: KeyRing) -> None:
    ring.make_trainer()
    folder = abandon(host, ring, make_stream())
    (ring.logger / "allowed").chmod(0o777)
    host.grace()
    assert folder.exists()
    assert host.intake.failed == 1


def test_without_a_list_keys_are_not_looked_at(memory: Path, tmp_path: Path, ring: KeyRing) -> None:
    host = Host(memory, tmp_path / "recordings")
    ring.make_trainer(let_in=False)
    folder = abandon(host, ring, make_stream())
    host.grace()
    assert not folder.exists()
