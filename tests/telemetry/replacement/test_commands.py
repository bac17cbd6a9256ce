"""``run`` up to the moment when the program takes the place of the process."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Never

import pytest

from tensorboard_sidecar.command_line import main
from tensorboard_sidecar.telemetry.replacement.environment import STARTUP_FOLDER, VARIABLE

SCRIPT = "from torch.utils.tensorboard import SummaryWriter\n"


class Replaced(BaseException):
    """The process would be another program from here on."""


@pytest.fixture(autouse=True)
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a script, ``train.py`` in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TENSORBOARD_SIDECAR_LOGGER", raising=False)
    (tmp_path / "train.py").write_text(SCRIPT)
    return tmp_path / "train.py"


def started(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Sequence[str], dict[str, str]]:
    """Return the command and the environment that ``run`` replaces its process by."""
    calls = []

    def execve(path: str, command: Sequence[str], environment: dict[str, str]) -> Never:
        assert path == command[0] == sys.executable
        calls.append((command[1:], environment))
        raise Replaced

    monkeypatch.setattr(os, "execve", execve)
    with pytest.raises(Replaced):
        main(["run", *arguments])
    return calls[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ["train.py"],
        ["./train.py", "--epochs", "3"],
        ["-m", "train"],
        ["-m", "package.train", "-m", "x", "--check"],
        ["train.py", "-h"],
        ["train.py", "--help", "--version", "--check", "-m"],
        ["train.py", "-x", "--", "-y", "--"],
        ["train.py", "--", "run"],
        ["train.py", "", " ", "a b", "-a b", "--lr=1e-3", "-1", "é", "@file", "*"],
        ["-", "--epochs", "3"],
        [".", "x"],
    ],
    ids=" ".join,
)
def test_the_program_is_started_with_the_arguments_as_they_are(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert started(*arguments, monkeypatch=monkeypatch)[0] == arguments


def test_two_dashes_in_front_of_the_script_end_the_options_of_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert started("--", "train.py", "--check", monkeypatch=monkeypatch)[0] == ["train.py", "--check"]


def test_the_program_gets_the_environment_with_the_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "libs")
    _, environment = started("train.py", monkeypatch=monkeypatch)
    assert environment == {**os.environ, VARIABLE: "1", "PYTHONPATH": f"{STARTUP_FOLDER}:libs"}


def test_a_script_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "trian.py", "--epochs", "3"]) == 2
    assert capsys.readouterr() == ("", "error: no such script: trian.py\n")


def test_a_command_that_is_a_script_of_python_is_named_with_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As torchrun and accelerate are; a command that is no such script gets no hint."""
    (tmp_path / "bin").mkdir()
    for name, first in {"launch": f"#!{sys.executable}\n", "other": "#!/bin/sh\n"}.items():
        (tmp_path / "bin" / name).write_text(first)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert main(["run", "launch", "train.py"]) == 2
    said = f"error: no such script: launch; the command launch is run by: tensorboard-sidecar run {tmp_path}/bin/launch"
    assert capsys.readouterr().err == f"{said} train.py\n"
    assert main(["run", "other"]) == 2
    assert capsys.readouterr().err == "error: no such script: other\n"


def test_no_script_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["run"])
    assert "the following arguments are required: SCRIPT" in capsys.readouterr().err
