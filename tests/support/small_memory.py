"""Programs in a mount namespace of their own, where shared memory is as small as a test wants it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def run_in_small_memory(program: str, folder: Path, *, size: str, mount_point: Path) -> str:
    """Run a Python program with a file system in memory of ``size`` (as mount takes it) at ``mount_point``.

    Returns what it wrote; fails the test when it fails, skips it where namespaces cannot be made.
    """
    if os.getuid() != 0:
        pytest.skip("mounting a file system takes root")
    script = folder / "program.py"
    script.write_text(program)
    mount = f"mount -t tmpfs -o size={size} none {mount_point} || exit 77"
    command = ["unshare", "--mount", "sh", "-c", f"{mount}; exec {sys.executable} {script}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode == 77 or "unshare:" in done.stderr:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout
