"""This project's programs, started as a user starts them."""

import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

from support.machine.waiting import wait_until


class LoggerProcess:
    """``tensorboard-sidecar serve`` on a free port, with its folders under ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.recordings, self.logdir = folder / "recordings", folder / "runs"
        self.log = folder / "logger.log"
        self.port = free_port()
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
            sleep(0.05)
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


def free_port() -> int:
    """Return a free TCP port outside of the ephemeral range.

    A port of the ephemeral range could become the local port of a connection while a killed logger restarts.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
