"""Which hosts are this machine."""

import socket

import pytest

from tensorboard_sidecar.logger_service.intake import own_host
from tensorboard_sidecar.logger_service.intake.own_host import is_own_host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", socket.gethostname(), socket.gethostname().upper()])
def test_its_name_and_its_addresses_are_this_machine(host: str) -> None:
    assert is_own_host(host)


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "other-box", "", "a b", "127.0.0.1:5555", "1.2.3"])
def test_others_are_not(host: str) -> None:
    """Two of these addresses are for documentation alone: no machine has them."""
    assert not is_own_host(host)


def test_a_machine_is_known_by_its_short_name_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_host.socket, "gethostname", lambda: "box.example.org")
    assert is_own_host("box.example.org")
    assert is_own_host("box")
    assert not is_own_host("box.example.com")
