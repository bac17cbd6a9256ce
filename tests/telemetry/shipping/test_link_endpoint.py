"""ZeroMQ accepts ports above 65,535, an empty host and useless transports; a trainer does not."""

from pathlib import Path

import pytest

from tensorboard_sidecar.telemetry.shipping.link import check_endpoint


@pytest.mark.parametrize(
    "endpoint",
    ["tcp://127.0.0.1:5555", "tcp://logger.example.org:1", "tcp://[::1]:65535", "ipc:///tmp/x y", "ipc://@abstract"],
)
def test_addresses_that_can_be_connected_to_are_taken(endpoint: str) -> None:
    assert check_endpoint(endpoint) == endpoint


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:5555", "tcp://localhost:1", "tcp://[::1]:5555"])
def test_on_this_machine_no_keys_are_needed(endpoint: str) -> None:
    assert check_endpoint(endpoint, keys=False) == endpoint


def test_a_socket_in_a_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    """Other users could listen in the logger's name, and acknowledge records that are then deleted."""
    endpoint = f"ipc://{tmp_path / 'logger' / 'socket'}"
    with pytest.raises(ValueError, match=r"No such file.*mkdir -m 700"):
        check_endpoint(endpoint, keys=False)
    (tmp_path / "logger").mkdir(mode=0o700)
    assert check_endpoint(endpoint, keys=False) == endpoint
    (tmp_path / "logger").chmod(0o755)
    with pytest.raises(ValueError, match=r"open to others.*mkdir -m 700"):
        check_endpoint(endpoint, keys=False)
    assert check_endpoint(endpoint, keys=True) == endpoint


@pytest.mark.parametrize("endpoint", ["tcp://logger:5555", "tcp://192.168.0.7:5555", "tcp://[fe80::1%eth0]:5555"])
def test_beyond_this_machine_keys_are_needed_and_how_to_make_them_is_said(endpoint: str) -> None:
    with pytest.raises(ValueError, match=r"not on this machine.*keys create DIR --name NAME.*--server_key server\.pub"):
        check_endpoint(endpoint, keys=False)
    assert check_endpoint(endpoint, keys=True) == endpoint


@pytest.mark.parametrize(
    "endpoint",
    [
        *("", " ", "localhost", "5555", "localhost:5555", "tcp://", "tcp://:5555", "tcp://*:5555", "tcp://127.0.0.1"),
        *("tcp://127.0.0.1:*", "tcp://127.0.0.1:0", "tcp://127.0.0.1:99999", "tcp://127.0.0.1:-1", "tcp://h:5555\n"),
        *("tcp://127.0.0.1:5555/x", "tcp://a b:1", "TCP://127.0.0.1:5555", "http://127.0.0.1:5555", "inproc://x"),
        *("udp://127.0.0.1:5555", "ipc://", "ipc://a\0b", "tcp://127.0.0.1:5555\0", "none", 5555, b"tcp://h:1", None),
    ],
)
def test_addresses_that_cannot_be_are_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match=r"expected .*tcp://127\.0\.0\.1:5555"):
        check_endpoint(endpoint)
