"""Which logger an outbox is for."""

from pathlib import Path

import pytest

from protocol.destination import DESTINATION, is_elsewhere, is_for, read_destination, write_destination


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert read_destination(tmp_path) == ""
    write_destination(tmp_path, "tcp://127.0.0.1:5555")
    assert read_destination(tmp_path) == "tcp://127.0.0.1:5555"


def test_rubbish_says_nothing(tmp_path: Path) -> None:
    (tmp_path / DESTINATION).write_bytes(b"\xff\xfe")
    assert read_destination(tmp_path) == ""
    (tmp_path / DESTINATION).write_bytes(b"x" * 100_000)
    assert len(read_destination(tmp_path)) <= 4096
    (tmp_path / DESTINATION).unlink()
    (tmp_path / DESTINATION).symlink_to("/etc/hostname")
    assert read_destination(tmp_path) == ""
    (tmp_path / DESTINATION).unlink()
    (tmp_path / DESTINATION).mkdir()
    assert read_destination(tmp_path) == ""


@pytest.mark.parametrize(
    ("destination", "listening"),
    [
        ("tcp://127.0.0.1:5555", "tcp://127.0.0.1:5555"),
        ("tcp://localhost:5555", "tcp://127.0.0.1:5555"),
        ("tcp://[::1]:5555", "tcp://127.0.0.1:5555"),
        ("tcp://127.0.0.1:5555", "tcp://0.0.0.0:5555"),
        ("tcp://logger:5555", "tcp://0.0.0.0:5555"),
        ("tcp://logger:5555", "tcp://[::]:5555"),
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
        ("tcp://logger:5556", "tcp://0.0.0.0:5555"),
        ("tcp://logger:5555", "tcp://127.0.0.1:5555"),
        ("tcp://127.0.0.1:5555", "tcp://10.0.0.7:5555"),
        ("ipc:///run/logger", "ipc:///run/other"),
        ("ipc:///run/logger", "tcp://127.0.0.1:5555"),
        ("rubbish", "tcp://127.0.0.1:5555"),
    ],
)
def test_it_is_for_another(destination: str, listening: str) -> None:
    assert not is_for(destination, listening)


def test_what_is_elsewhere() -> None:
    assert is_elsewhere("tcp://logger:5555")
    assert is_elsewhere("tcp://10.0.0.7:5555")
    assert not any(map(is_elsewhere, ("tcp://127.0.0.1:1", "tcp://localhost:1", "ipc:///run/logger", "rubbish", "")))
