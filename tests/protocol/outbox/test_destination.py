"""Which logger an outbox is for."""

from pathlib import Path

import pytest

from tensorboard_sidecar.protocol.outbox.destination import (
    DESTINATION_NAMES,
    NO_LOGGER,
    Destination,
    is_elsewhere,
    is_for,
    read_destination,
    write_destination,
)


@pytest.mark.parametrize(
    "destination",
    [
        Destination(),
        Destination("tcp://127.0.0.1:5555"),
        Destination(NO_LOGGER, Path("/späte recordings\n")),
        Destination("tcp://logger:5555", Path("/a"), "public key"),
    ],
)
def test_what_was_written_is_read(tmp_path: Path, destination: Destination) -> None:
    assert read_destination(tmp_path) == Destination()
    write_destination(tmp_path, Destination("tcp://before:1", Path("/before"), "before"))
    write_destination(tmp_path, destination)
    assert read_destination(tmp_path) == destination


def test_what_is_for_nobody_any_more_is_settled() -> None:
    assert Destination(NO_LOGGER).settled
    assert not Destination().settled
    assert not Destination(NO_LOGGER, Path("/a")).settled


@pytest.mark.parametrize("name", DESTINATION_NAMES)
def test_rubbish_says_nothing(tmp_path: Path, name: str) -> None:
    for rubbish in (b"\xff\xfe", b"relative/path" if name == "record" else b"", b"/a\0b" if name == "record" else b""):
        (tmp_path / name).write_bytes(rubbish)
        assert read_destination(tmp_path) == Destination()
    (tmp_path / name).write_bytes(b"/" * 100_000)
    assert len(str(read_destination(tmp_path))) <= 5000
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/etc/hostname")
    assert read_destination(tmp_path) == Destination()
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    assert read_destination(tmp_path) == Destination()


@pytest.mark.parametrize(
    ("destination", "listening"),
    [
        ("tcp://127.0.0.1:5555", "tcp://127.0.0.1:5555"),
        ("tcp://localhost:5555", "tcp://127.0.0.1:5555"),
        ("tcp://[::1]:5555", "tcp://127.0.0.1:5555"),
        ("tcp://127.0.0.1:5555", "tcp://0.0.0.0:5555"),
        ("tcp://localhost:5555", "tcp://[::]:5555"),
        ("tcp://10.0.0.7:5555", "tcp://10.0.0.7:5555"),
        ("ipc:///run/logger", "ipc:///run/logger"),
    ],
)
def test_it_is_for_who_is_reached_there(destination: str, listening: str) -> None:
    assert is_for(destination, listening)


@pytest.mark.parametrize(
    ("destination", "listening"),
    [
        ("tcp://127.0.0.1:5556", "tcp://127.0.0.1:5555"),
        ("tcp://127.0.0.1:5556", "tcp://0.0.0.0:5555"),
        ("tcp://logger:5555", "tcp://0.0.0.0:5555"),
        ("tcp://logger:5555", "tcp://[::]:5555"),
        ("tcp://10.0.0.7:5555", "tcp://*:5555"),
        ("tcp://logger:5555", "tcp://127.0.0.1:5555"),
        ("tcp://127.0.0.1:5555", "tcp://10.0.0.7:5555"),
        ("ipc:///run/logger", "ipc:///run/other"),
        ("ipc:///run/logger", "tcp://127.0.0.1:5555"),
        ("rubbish", "tcp://127.0.0.1:5555"),
        (NO_LOGGER, "tcp://0.0.0.0:5555"),
        ("", "tcp://0.0.0.0:5555"),
    ],
)
def test_it_is_for_another(destination: str, listening: str) -> None:
    assert not is_for(destination, listening)


def test_who_listens_everywhere_is_reached_at_what_is_this_machine() -> None:
    """Another machine has a logger of its own at the same port."""

    def is_own_host(host: str) -> bool:
        return host in ("10.0.0.7", "fd00::7", "box")

    for destination in ("tcp://10.0.0.7:5555", "tcp://[fd00::7]:5555", "tcp://box:5555", "tcp://127.0.0.1:5555"):
        assert is_for(destination, "tcp://0.0.0.0:5555", is_own_host)
    assert not is_for("tcp://other-box:5555", "tcp://0.0.0.0:5555", is_own_host)
    assert not is_for("tcp://box:5556", "tcp://0.0.0.0:5555", is_own_host)
    assert not is_for("tcp://box:5555", "tcp://127.0.0.1:5555", is_own_host)


def test_what_is_elsewhere() -> None:
    assert is_elsewhere("tcp://logger:5555")
    assert is_elsewhere("tcp://10.0.0.7:5555")
    assert not any(map(is_elsewhere, ("tcp://127.0.0.1:1", "tcp://localhost:1", "ipc:///run/logger", "rubbish", "")))


def test_a_logger_is_found_by_its_socket_however_it_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainers write down the whole path: they may change their working folder."""
    monkeypatch.chdir(tmp_path)
    assert is_for(f"ipc://{tmp_path}/logger/socket", "ipc://logger/socket")
    assert not is_for(f"ipc://{tmp_path}/other/socket", "ipc://logger/socket")
