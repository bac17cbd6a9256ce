"""Loggers on failing or small disks: command prefixes for the logger, and waiting for log lines."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest
from support.machine.waiting import wait_until
from support.running.programs import LoggerProcess

FILLER: Final = "filler"


def injected(logger: LoggerProcess, call: str, fault: str) -> None:
    """Inject ``fault`` (in strace's syntax) into a system call of the logger; skip the test without strace."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    probe = ["strace", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "true"]
    if subprocess.run(probe, check=False, capture_output=True).returncode:
        pytest.skip("tracing a process is not permitted here")
    # -D: the logger is a child of the test; strace is a detached process.
    trace = ["strace", "-D", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", f"trace={call}"]
    logger.program = [*trace, "-e", f"inject={call}:{fault}", *logger.program]


def on_a_small_disk(logger: LoggerProcess, folder: Path, *, size_kib: int, free_kib: int) -> None:
    """Put a folder of the logger on a separate disk with ``free_kib`` free; skip where that is not permitted."""
    logger.program = [*small_disk(folder, size_kib=size_kib, free_kib=free_kib), *logger.program]


def small_disk(folder: Path, *, size_kib: int, free_kib: int, copy: Path | None = None) -> list[str]:
    """Return a command prefix that runs a command with a separate disk at ``folder``, with ``free_kib`` free.

    After the end of the command, the contents of the disk are lost, or copied to ``copy`` if given.
    """
    folder.mkdir(parents=True)
    own_mounts = ["unshare", "--map-root-user", "--mount"]
    if subprocess.run([*own_mounts, "true"], check=False, capture_output=True).returncode:
        pytest.skip("mounting a file system is not permitted here")
    run = 'exec "$@"' if copy is None else f'{{ "$@"; code=$?; cp -r "$0" "{copy}"; exit $code; }}'
    script = (
        f'mount -t tmpfs -o size={size_kib}k none "$0"'
        f' && head -c {size_kib - free_kib}K /dev/zero > "$0/{FILLER}" && {run}'
    )
    return [*own_mounts, "sh", "-c", script, str(folder)]


def seen_by(logger: LoggerProcess, folder: Path) -> Path:
    """Return the path of a folder in the running logger's mount namespace, as seen from this process."""
    assert logger.process is not None
    return Path(f"/proc/{logger.process.pid}/root{folder}")


def wait_for_log(logger: LoggerProcess, text: str) -> None:
    """Wait until the logger's log contains a text."""
    wait_until(lambda: text in logger.log.read_text(), seconds=60, what=f"{text!r} in the log of the logger")
