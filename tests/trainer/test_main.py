import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Never

import pytest

from tensorboard_sidecar.__main__ import main

QUICK = ("--image_size", "32", "--embed_dim", "16", "--batch_size", "8", "--endpoint", "none", "--device", "cpu")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--epochs", "0"], "error: epochs is 0; expected 1 to 1000000\n"),
        (["--endpoint", "none"], "error: endpoint is none and record is not given"),
        (["--resume", "gone.pt"], "error: cannot read the checkpoint gone.pt: No such file or directory\n"),
    ],
)
def test_wrong_settings_end_with_one_line_and_status_two(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(complaint)
    assert captured.out == ""


def test_wrong_settings_are_told_before_torch_loads() -> None:
    """Loading takes seconds."""
    program = (
        "import sys; from tensorboard_sidecar.__main__ import main;"
        " print(main(['train', '--epochs', '0']), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "2 False\n"
    assert done.stderr == "error: epochs is 0; expected 1 to 1000000\n"


def test_no_data_set_ends_with_status_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--root_dir", str(tmp_path), "--savedir", str(tmp_path / "checkpoints")]) == 2
    assert capsys.readouterr().err.startswith("error: ")


class Loading(ModuleType):
    """A module that is interrupted by Ctrl-C while it loads."""

    def __getattr__(self, _name: str) -> Never:
        raise KeyboardInterrupt


@pytest.mark.parametrize("module", ["tensorboard_sidecar.trainer.commands", "tensorboard_sidecar.trainer.launch"])
def test_ctrl_c_while_libraries_load_is_told_by_the_status_alone(
    module: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first seconds are those in which a mistake is noticed."""
    monkeypatch.setitem(sys.modules, module, Loading(module))
    assert main(["train"]) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.system
def test_a_reader_that_leaves_and_names_it_cannot_show_end_no_training(scenes: Path, tmp_path: Path) -> None:
    """As after ``| head -1`` in a terminal without Unicode."""
    options = (*QUICK, "--root_dir", str(scenes), "--record", "rec", "--savedir", "checkpoints", "--run", "zoë 犬")
    command = [sys.executable, "-m", "tensorboard_sidecar", "train", *options, "--epochs", "2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": "ascii"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if line.startswith("run "):
                break
        assert line == "run zo\\xeb \\u72ac\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0
    assert (tmp_path / "checkpoints" / "zoë 犬" / "last.pt").exists()


@pytest.mark.system
def test_sigterm_stops_between_steps_and_tells_how_to_go_on(scenes: Path, tmp_path: Path) -> None:
    options = (*QUICK, "--root_dir", str(scenes), "--record", "rec", "--savedir", "checkpoints", "--run", "stopped")
    command = [sys.executable, "-m", "tensorboard_sidecar", "train", *options, "--epochs", "100000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch "):
            break
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert "Traceback" not in errors
    command = r"\S*python\S* -m tensorboard_sidecar train --resume checkpoints/stopped/last\.pt"
    assert re.search(rf"stopped by SIGTERM\. Go on with: {command}", output)


@pytest.mark.system
def test_torchrun_starts_the_command_in_every_process() -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "--"]
    # A command that ends well: torchrun ends the other process at once when one of them fails.
    command = [*torchrun, "tensorboard_sidecar", "train", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    assert done.stdout.count("usage: ") == 2
