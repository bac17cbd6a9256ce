"""Ports of the programs that tests start: none is taken twice, and a killed program can start again on its port."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq
from support.running.programs import LoggerProcess, free_port, reserve_port
from support.source import ROOT

# Another test process, which may take this one port alone.
TAKE = "import sys; from support.running.programs import reserve_port; reserve_port([int(sys.argv[1])])"


@pytest.fixture
def port() -> Iterator[int]:
    reservation, port = reserve_port()
    yield port
    os.close(reservation)


def take_elsewhere(port: int) -> str:
    """Reserve a port in another process, as another worker of the tests does; return the complaint, if any."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "tests"), str(ROOT / "src")))}
    command = [sys.executable, "-c", TAKE, str(port)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stderr


@contextmanager
def listening(port: int) -> Iterator[None]:
    """Listen on a port as a logger does; the port is closed at the end of the block."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as listener:
        listener.setsockopt(zmq.LINGER, 0)
        listener.bind(f"tcp://127.0.0.1:{port}")
        yield


def test_no_other_process_reserves_a_reserved_port(port: int) -> None:
    assert "no port is free" in take_elsewhere(port)
    with pytest.raises(AssertionError, match="no port is free"):
        reserve_port([port])


def test_no_other_process_reserves_a_port_between_a_kill_and_a_restart(port: int) -> None:
    """Regression: a restarted logger found another test's logger on its port."""
    for _ in range(3):
        with listening(port):
            assert "no port is free" in take_elsewhere(port)
            socket.create_connection(("127.0.0.1", port)).close()
        with pytest.raises(AssertionError, match="no port is free"):
            reserve_port([port])


def test_a_port_has_one_listener_at_a_time(port: int) -> None:
    """A reservation hides no mistake: two loggers on one port are refused as ever."""
    with listening(port), pytest.raises(zmq.ZMQError, match="in use"), listening(port):
        pass


def test_a_reserved_port_refuses_connections_while_nobody_listens(port: int) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_loggers_port_is_reserved_for_as_long_as_it_may_start_again(tmp_path: Path) -> None:
    logger = LoggerProcess(tmp_path)
    port = logger.port
    assert "no port is free" in take_elsewhere(port)
    del logger
    assert take_elsewhere(port) == ""


def test_a_process_keeps_the_last_ports_that_it_took() -> None:
    ports = [free_port() for _ in range(200)]
    for port in ports[-64:]:
        with pytest.raises(AssertionError, match="no port is free"):
            reserve_port([port])
