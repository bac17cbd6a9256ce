"""More connections that say nothing than a logger may have open files: a real trainer is served all the same."""

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic

import pytest
from faults.harness.effort import SOAKING
from faults.harness.hostile import HANDSHAKE, judge, served
from support.machine.waiting import wait_until
from support.running.programs import LoggerProcess

CONNECTIONS = 500
OPEN_FILES = 256
# A logger whose places are all taken serves nobody, for good.
SERVED_SECONDS = 20.0


@pytest.fixture(autouse=True)
def _enough_files_here() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + 200
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"needs {wanted} open files, {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def idle_connection(logger: LoggerProcess, data: bytes) -> socket.socket:
    """Return a connection that says ``data``, if it comes so far, and nothing more."""
    connection = socket.socket()
    connection.settimeout(0.2)
    with suppress(OSError):
        connection.connect(("127.0.0.1", logger.port))
        connection.sendall(data)
    return connection


def not_accepted(logger: LoggerProcess) -> int:
    """Return how many connections the kernel holds for the logger, which has not looked at them."""
    sockets = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    (listening,) = [part for part in sockets if part[1].endswith(f":{logger.port:04X}") and part[3] == "0A"]
    return int(listening[4].split(":")[1], 16)


@pytest.mark.parametrize("data", [HANDSHAKE, b""] if SOAKING else [HANDSHAKE], ids=repr)
def test_idle_connections_keep_nobody_out(logger: LoggerProcess, data: bytes) -> None:
    logger.program = ["prlimit", f"--nofile={OPEN_FILES}:{OPEN_FILES}", *logger.program]
    logger.start()
    promised = [served(logger, "before")]
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(idle_connection(logger, data))
        wait_until(lambda: not_accepted(logger) == 0, what="all connections are taken")
        began = monotonic()
        promised.append(served(logger))
        seconds = monotonic() - began
    print(f"served after {seconds:.3f} s")
    assert seconds < SERVED_SECONDS
    assert logger.stop() == 0
    judge(logger, promised)
