from pathlib import Path

import pytest

from tensorboard_sidecar.protocol.address import absolute_endpoint, is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.255.255.254", "::1", "localhost"])
def test_this_machine_alone(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["", "0.0.0.0", "::", "*", "192.168.0.1", "localhost.example.org", "logger", "127.0.0.1.example.org", "127.1"],
)
def test_others_can_reach_it_or_answer_for_it(host: str) -> None:
    assert not is_loopback(host)


def test_a_socket_is_found_again_from_another_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_endpoint("ipc://logger/socket") == f"ipc://{tmp_path}/logger/socket"
    for endpoint in ("ipc:///tmp/x y", "ipc://@abstract", "tcp://127.0.0.1:5555", "ipc://", "nonsense"):
        assert absolute_endpoint(endpoint) == endpoint
