"""This project's programs, started as a user starts them."""

import os
import random
import socket
import subprocess
import sys
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from support.machine.waiting import wait_until

# Outside of the ephemeral range: a port of that range could become the local port of a connection.
_PORTS: Final = range(20_000, 32_000)
# Reservations of free_port() that this process keeps: more than the tests that share a fixture take.
_KEPT_MAX: Final = 64
_TRIES_MAX: Final = 100
_kept: Final[deque[int]] = deque()


class LoggerProcess:
    """``tensorboard-sidecar serve`` on a free port, with its folders under ``folder``.

    No other test takes the port while this object lives: a killed logger can start again on the port.
    """

    def __init__(self, folder: Path) -> None:
        self.recordings, self.logdir = folder / "recordings", folder / "runs"
        self.log = folder / "logger.log"
        self.port = port_for(self)
        self.endpoint = f"tcp://127.0.0.1:{self.port}"
        self.program = [sys.executable, "-m", "tensorboard_sidecar"]
        self.health = self.adopt = "none"
        self.flags: tuple[str, ...] = ()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the logger, also after an end; return when it listens."""
        arguments = ["--bind", self.endpoint, "--recordings", str(self.recordings), "--logdir", str(self.logdir)]
        arguments += ["--health", self.health, "--adopt", self.adopt, *self.flags]
        with self.log.open("ab") as output:
            said_bytes = output.tell()
            self.process = subprocess.Popen([*self.program, "serve", *arguments], stdout=output, stderr=output)
        deadline = monotonic() + 60
        while monotonic() < deadline and self.process.poll() is None:
            if b"listening on " in self.log.read_bytes()[said_bytes:]:
                return
            sleep(0.01)
        raise AssertionError(f"the logger did not start:\n{self.log.read_text()}")

    @property
    def recorded_bytes(self) -> int:
        """The size of the logger's recordings."""
        return sum(path.stat().st_size for path in self.recordings.rglob("*.segment"))

    @property
    def projection(self) -> int:
        """The pid of the projection process; waits until the process exists."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        wait_until(lambda: bool(children.read_text()), seconds=60, what="the projection's process")
        return int(children.read_text().split()[0])

    def wait_recorded(self) -> None:
        """Wait until the recordings grow."""
        before = self.recorded_bytes
        wait_until(lambda: self.recorded_bytes > before, seconds=60, what="records")

    def kill(self) -> None:
        """Send SIGKILL: the logger cannot clean up."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = 120.0) -> int:
        """Send SIGTERM, so that the logger drains; return the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(seconds)


@contextmanager
def running_logger(folder: Path) -> Iterator[LoggerProcess]:
    """Run a logger for the duration of the block."""
    logger = LoggerProcess(folder)
    logger.start()
    try:
        yield logger
    finally:
        if logger.process is not None and logger.process.poll() is None:
            logger.stop()


def run_command(*arguments: str | Path, seconds: float = 300) -> subprocess.CompletedProcess[str]:
    """Run ``tensorboard-sidecar`` with ``arguments`` to its end; return its exit code and output."""
    command = [sys.executable, "-m", "tensorboard_sidecar", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)


def port_for(owner: object) -> int:
    """Return a TCP port that no other test takes while ``owner`` lives."""
    reservation, port = reserve_port()
    weakref.finalize(owner, os.close, reservation)
    return port


def free_port() -> int:
    """Return a TCP port that no other test takes: the port stays reserved while this process takes 64 more."""
    reservation, port = reserve_port()
    _kept.append(reservation)
    if len(_kept) > _KEPT_MAX:
        os.close(_kept.popleft())
    return port


def reserve_port(ports: Sequence[int] = _PORTS) -> tuple[int, int]:
    """Reserve one of ``ports`` of 127.0.0.1; return the file descriptor that holds the reservation, and the port.

    The descriptor is a socket that is bound to the port, and does not listen. Every test process binds without
    SO_REUSEADDR first, which fails for a port that any socket is bound to: two processes never reserve the same port.
    The socket gets SO_REUSEADDR afterwards, so that a listener with SO_REUSEADDR (ZeroMQ's, and that of the health
    page) can bind the port too, again and again. A connection is refused while no program listens.
    """
    for port in random.SystemRandom().choices(ports, k=_TRIES_MAX):
        with socket.socket() as holder, suppress(OSError):
            holder.bind(("127.0.0.1", port))
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            return holder.detach(), port
    raise AssertionError("no port is free")
