"""Loggers on disks that fail: programs to put before the logger's own, and what its log says then."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest
from support.programs import LoggerProcess
from support.waiting import wait_until

FILLER: Final = "filler"


def injected(logger: LoggerProcess, call: str, fault: str) -> None:
    """Have the kernel do ``fault`` (as strace spells it) to a system call of the logger; skip where it cannot."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    probe = ["strace", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "true"]
    if subprocess.run(probe, check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody trace a process")
    # -D: the logger is our child, and strace somebody else's.
    trace = ["strace", "-D", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", f"trace={call}"]
    logger.program = [*trace, "-e", f"inject={call}:{fault}", *logger.program]


def on_a_small_disk(logger: LoggerProcess, folder: Path, *, size_kib: int, free_kib: int) -> None:
    """Give a folder of the logger's a disk of its own, filled but for ``free_kib``; skip where there can be none."""
    logger.program = [*small_disk(folder, size_kib=size_kib, free_kib=free_kib), *logger.program]


def small_disk(folder: Path, *, size_kib: int, free_kib: int, copy: Path | None = None) -> list[str]:
    """Return the command to put before one that is to have a disk of its own at ``folder``, as above.

    When that has ended, what was on the disk, but for what filled it, is at ``copy``: else it is gone.
    """
    folder.mkdir(parents=True)
    own_mounts = ["unshare", "--map-root-user", "--mount"]
    if subprocess.run([*own_mounts, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a file system")
    run = 'exec "$@"' if copy is None else f'{{ "$@"; code=$?; cp -r "$0" "{copy}"; exit $code; }}'
    script = (
        f'mount -t tmpfs -o size={size_kib}k none "$0"'
        f' && head -c {size_kib - free_kib}K /dev/zero > "$0/{FILLER}" && {run}'
    )
    return [*own_mounts, "sh", "-c", script, str(folder)]


def seen_by(logger: LoggerProcess, folder: Path) -> Path:
    """Return where a disk of the logger's own is reached from here, while it runs."""
    assert logger.process is not None
    return Path(f"/proc/{logger.process.pid}/root{folder}")


def wait_for_log(logger: LoggerProcess, text: str) -> None:
    """Wait until the logger says something."""
    wait_until(lambda: text in logger.log.read_text(), seconds=60, what=f"{text!r} in the log of the logger")
