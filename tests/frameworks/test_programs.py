"""Programs that nobody changed: ``tensorboard-sidecar run PROGRAM`` logs what ``python PROGRAM`` logs."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from frameworks.compare import assert_same_events, events_of

from tensorboard_sidecar.protocol.names import RECORDING_NAME

PROGRAMS: Final = sorted(Path(__file__).with_name("programs").glob("*.py"))


@pytest.mark.system
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_a_program_that_nobody_changed_logs_the_same(program: Path, tmp_path: Path) -> None:
    """The same folder for both: some programs log their arguments."""
    folder, stock = tmp_path / "runs", tmp_path / "stock"
    subprocess.run([sys.executable, program, folder], check=True, timeout=240)
    folder.rename(stock)
    run = [sys.executable, "-m", "tensorboard_sidecar", "run", program, folder]
    subprocess.run(run, check=True, timeout=240)
    assert any(folder.rglob(RECORDING_NAME)), "the program used its own writer"
    assert_same_events(events_of(folder), events_of(stock))
