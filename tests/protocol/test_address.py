import pytest

from protocol.address import is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.255.255.254", "::1", "localhost"])
def test_this_machine_alone(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["", "0.0.0.0", "::", "*", "192.168.0.1", "localhost.example.org", "logger", "127.0.0.1.example.org", "127.1"],
)
def test_others_can_reach_it_or_answer_for_it(host: str) -> None:
    assert not is_loopback(host)
