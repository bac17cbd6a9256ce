"""The child's end of the lifeline."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def child(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    folders = ["--recordings", str(tmp_path / "recordings"), "--logdir", str(tmp_path / "runs")]
    with subprocess.Popen(
        [sys.executable, "-m", "tensorboard_sidecar", "project", *folders],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        yield process
        process.kill()


def test_the_child_ends_at_once_when_its_parent_is_gone(child: "subprocess.Popen[bytes]") -> None:
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(30) == 1


def test_the_child_ends_well_when_it_is_told_to(child: "subprocess.Popen[bytes]") -> None:
    assert child.stdin is not None
    child.stdin.write(b".")
    child.stdin.flush()
    assert child.wait(30) == 0
