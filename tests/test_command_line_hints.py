import os
import subprocess
import sys
from pathlib import Path

import pytest

from tensorboard_sidecar.command_line import how_to_run


def test_an_interpreter_that_the_shell_does_not_find_is_named_by_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after ``make demo``, which leaves nobody in its environment."""
    monkeypatch.setenv("PATH", os.devnull)
    *command, dash_m, module, name = how_to_run("replay").split()
    assert [dash_m, module, name] == ["-m", "tensorboard_sidecar", "replay"]
    done = subprocess.run([*command, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == sys.prefix


def test_in_an_environment_that_is_active_it_is_what_everybody_types(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "python").symlink_to(sys.executable)
    (tmp_path / "tensorboard-sidecar").write_text("#!/bin/sh\n")
    (tmp_path / "tensorboard-sidecar").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert how_to_run("train") == "tensorboard-sidecar train"
