"""Programs in a separate mount namespace with small shared memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def run_in_small_memory(program: str, folder: Path, *, size: str, mount_point: Path) -> str:
    """Run a Python program with a tmpfs of ``size`` (in mount's syntax) at ``mount_point``; return its output.

    Fails the test when the program fails; skips the test where namespaces are not permitted.
    """
    if os.getuid() != 0:
        pytest.skip("mounting a file system needs root")
    script = folder / "program.py"
    script.write_text(program)
    mount = f"mount -t tmpfs -o size={size} none {mount_point} || exit 77"
    command = ["unshare", "--mount", "sh", "-c", f"{mount}; exec {sys.executable} {script}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode == 77 or "unshare:" in done.stderr:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout
