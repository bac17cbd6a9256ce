import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.invocation import how_to_run


def test_an_interpreter_that_python_does_not_name_is_named_by_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after ``make demo``, which leaves nobody in its environment."""
    monkeypatch.setenv("PATH", os.devnull)
    *command, dash_m, module = how_to_run("trainer.demo").split()
    assert [dash_m, module] == ["-m", "trainer.demo"]
    done = subprocess.run([*command, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == sys.prefix


def test_in_an_environment_that_is_active_it_is_what_everybody_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert how_to_run("trainer") == "python -m trainer"
