"""A real logger in its own process, for the time of a benchmark, and the states of a logger during training."""

import resource
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from tensorboard_sidecar import Telemetry

STATES = ("up", "frozen", "absent", "disk full")
_DISK_BYTES = 2**16
_START_SECONDS = 60.0


@contextmanager
def running_logger(
    folder: Path, port: int = 0, *, file_size_max_bytes: int | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start ``tensorboard-sidecar serve`` under ``folder``; yield its endpoint and process; end it after.

    With ``file_size_max_bytes`` its writes fail beyond that size, as on a full disk.
    """
    endpoint = f"tcp://127.0.0.1:{port or _free_port()}"
    arguments = ["serve", "--bind", endpoint, "--health", "none", "--adopt", "none"]
    arguments += ["--recordings", str(folder / "recordings"), "--logdir", str(folder / "runs")]
    with (folder / "logger.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "tensorboard_sidecar", *arguments], stdout=log, stderr=log)
    if file_size_max_bytes is not None:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (file_size_max_bytes, file_size_max_bytes))
    try:
        _wait_until_it_listens(process, folder / "logger.log")
        yield endpoint, process
    finally:
        process.terminate()
        process.wait()


@contextmanager
def telemetry_beside(state: str, run: str, **options: Any) -> Iterator[Telemetry]:
    """Yield a telemetry whose logger is in a state of STATES; then have a working logger take the remaining records."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        telemetry = Telemetry(run, endpoint=f"tcp://127.0.0.1:{port}", **options)
        with _logger_state(state, Path(folder), port):
            yield telemetry
        with running_logger(Path(folder), port):
            telemetry.close(60)


@contextmanager
def _logger_state(name: str, folder: Path, port: int) -> Iterator[None]:
    """Have a logger at ``port`` that is up, frozen (SIGSTOP), or can write no file beyond 64 KiB; or have none."""
    if name == "absent":
        yield
        return
    with running_logger(folder, port, file_size_max_bytes=_DISK_BYTES if name == "disk full" else None) as (_, process):
        if name == "frozen":
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_it_listens(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = monotonic() + _START_SECONDS
    while monotonic() < deadline and process.poll() is None:
        if b"listening on " in log.read_bytes():
            return
        sleep(0.1)
    raise RuntimeError(f"the logger did not start:\n{log.read_text(errors='replace')}")
