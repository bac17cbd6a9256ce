"""ZeroMQ takes ports above 65,535, no host at all, and transports that lead nowhere; we do not."""

import pytest

from trainer.telemetry.endpoint import check_endpoint


@pytest.mark.parametrize(
    "endpoint",
    ["tcp://127.0.0.1:5555", "tcp://logger.example.org:1", "tcp://[::1]:65535", "ipc:///tmp/x y", "ipc://@abstract"],
)
def test_addresses_that_can_be_connected_to_are_taken(endpoint: str) -> None:
    assert check_endpoint(endpoint) == endpoint


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
