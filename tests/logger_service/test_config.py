from pathlib import Path

import pytest

from tensorboard_sidecar.logger_service.config import ServeConfig, check_endpoint, parse_health_address
from tensorboard_sidecar.logger_service.errors import StartupError


@pytest.mark.parametrize(
    "endpoint",
    ["tcp://127.0.0.1:5555", "tcp://127.8.8.8:1", "tcp://localhost:0", "tcp://127.0.0.1:*", "ipc:///tmp/logger.sock"],
)
def test_endpoints_on_this_machine_are_taken(endpoint: str) -> None:
    check_endpoint(endpoint)


@pytest.mark.parametrize(
    "endpoint", ["tcp://0.0.0.0:5555", "tcp://*:5555", "tcp://192.168.0.1:5555", "tcp://eth0:5555", "tcp://gpu.lan:1"]
)
def test_an_endpoint_that_others_can_reach_needs_keys_and_how_to_make_them_is_said(endpoint: str) -> None:
    with pytest.raises(StartupError, match=r"need keys.*tensorboard-sidecar keys create KEYS.*--bind tcp://127.0.0.1:"):
        check_endpoint(endpoint)
    check_endpoint(endpoint, keys=True)


@pytest.mark.parametrize(
    "endpoint",
    ["", "5555", "tcp://127.0.0.1", "tcp://127.0.0.1:65536", "tcp://[::1]:5555", "udp://127.0.0.1:1", "inproc://a"],
)
def test_what_is_no_endpoint_is_refused_with_an_example(endpoint: str) -> None:
    with pytest.raises(StartupError, match=r"expected something like tcp://127\.0\.0\.1:5555"):
        check_endpoint(endpoint)


@pytest.mark.parametrize("path", ["", "@abstract", "*", "a" * 108])
def test_an_ipc_path_that_cannot_be_is_refused(path: str) -> None:
    with pytest.raises(StartupError, match="expected ipc://PATH"):
        check_endpoint(f"ipc://{path}")


@pytest.mark.parametrize(("recordings", "logdir"), [("a", "a"), ("a/b", "a"), ("a", "a/b"), ("a/../b/c", "b")])
def test_neither_folder_may_lie_in_the_other(tmp_path: Path, recordings: str, logdir: str) -> None:
    with pytest.raises(StartupError, match="side by side"):
        ServeConfig(recordings=tmp_path / recordings, logdir=tmp_path / logdir)


@pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan")])
def test_a_drain_that_is_no_time_is_refused(seconds: float) -> None:
    with pytest.raises(StartupError, match="drain_seconds"):
        ServeConfig(drain_seconds=seconds)


def test_folders_side_by_side_are_taken(tmp_path: Path) -> None:
    assert ServeConfig(recordings=tmp_path / "runs", logdir=tmp_path / "runs2").bind == "tcp://127.0.0.1:5555"


@pytest.mark.parametrize(
    ("address", "parsed"),
    [
        ("127.0.0.1:9155", ("127.0.0.1", 9155)),
        ("127.8.8.8:1", ("127.8.8.8", 1)),
        ("localhost:*", ("localhost", 0)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("0.0.0.0:9155", ("0.0.0.0", 9155)),
    ],
)
def test_a_health_page_is_for_this_machine_or_a_container(address: str, parsed: tuple[str, int]) -> None:
    assert parse_health_address(address) == parsed


@pytest.mark.parametrize("address", ["192.168.0.1:9155", "8.8.8.8:1", "gpu.lan:9155", "*:9155", "0.0.0:1"])
def test_a_health_page_that_others_could_read_is_refused_with_the_way_round(address: str) -> None:
    with pytest.raises(StartupError, match=r"choose 127\.0\.0\.1:\d+, or 0\.0\.0\.0:\d+ in a container"):
        parse_health_address(address)


@pytest.mark.parametrize(
    "address", ["", "9155", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "[::1]:1", "a:b", "None"]
)
def test_what_is_no_address_is_refused_with_an_example(address: str) -> None:
    with pytest.raises(StartupError, match=r"expected something like 127\.0\.0\.1:9155, or none"):
        ServeConfig(health=address)


def test_a_reserve_or_a_folder_of_outboxes_that_cannot_be_is_refused() -> None:
    with pytest.raises(StartupError, match="--disk_reserve_bytes -1: expected 0"):
        ServeConfig(disk_reserve_bytes=-1)
    with pytest.raises(StartupError, match="--adopt: expected a folder of outboxes, or none"):
        ServeConfig(adopt="")
    assert ServeConfig(health="none", adopt="none", disk_reserve_bytes=0).health == "none"
