"""A real logger in its own process, for the time of a benchmark."""

import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

_START_SECONDS = 60.0


@contextmanager
def running_logger(
    folder: Path, port: int = 0, *, file_size_max_bytes: int | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start ``tensorboard-sidecar serve`` under ``folder``; yield its endpoint and process; end it after.

    With ``file_size_max_bytes`` its writes fail beyond that size, as on a full disk.
    """
    port = port or free_port()
    endpoint = f"tcp://127.0.0.1:{port}"
    arguments = [
        "serve",
        "--bind",
        endpoint,
        "--recordings",
        str(folder / "recordings"),
        "--logdir",
        str(folder / "runs"),
        *("--health", "none", "--adopt", "none"),
    ]
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


def free_port() -> int:
    """Return a TCP port on which nobody listens."""
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
