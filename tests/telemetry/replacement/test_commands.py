"""``run`` up to the moment when the program takes the place of the process, and ``run --check``."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Never

import pytest

from tensorboard_sidecar.command_line import main
from tensorboard_sidecar.telemetry.replacement import commands
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


def check(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    """Return the exit code and the lines of ``run --check``."""
    code = main(["run", "--check", *arguments])
    return code, capsys.readouterr().out.splitlines()


def test_the_check_tells_what_is_installed_and_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    code, [torch, tensorboardx, writer, helper, script] = check("train.py", "--epochs", "3", capsys=capsys)
    assert code == 0
    assert torch.startswith("torch.utils.tensorboard: SummaryWriter replaced (torch 2.")
    assert tensorboardx.startswith("tensorboardX: SummaryWriter and GlobalSummaryWriter replaced (tensorboardX 2.")
    assert writer.startswith("the writer can start: ")
    assert helper.startswith("a helper process makes the event files; its socket lies below /")
    assert script == "train.py line 1: from torch.utils.tensorboard import SummaryWriter: replaced"


def test_the_check_executes_no_line_of_the_program(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script.write_text("raise SystemExit('executed')\nimport tensorboardX")
    assert check("-m", "train", capsys=capsys)[1][-1] == "train.py line 2: import tensorboardX: replaced"
    assert "train" not in sys.modules


def test_a_program_without_an_import_is_told(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script.write_text("import models\nimport torch")
    (script.parent / "models.py").touch()
    code, lines = check("train.py", capsys=capsys)
    assert code == 0
    assert lines[-1] == (
        "train.py and 1 more file of the program: no import of a SummaryWriter; a library may import one"
    )


@pytest.mark.parametrize(
    ("missing", "code", "said"),
    [
        (("tensorboard",), 0, ["torch.utils.tensorboard: nothing to replace: tensorboard is not installed"]),
        (
            ("torch", "tensorboardX"),
            1,
            [
                "torch.utils.tensorboard: nothing to replace: torch is not installed",
                "tensorboardX: nothing to replace: tensorboardX and torch are not installed",
            ],
        ),
    ],
    ids=["one", "both"],
)
def test_the_check_tells_what_is_not_installed(
    missing: tuple[str, ...],
    code: int,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(commands, "find_spec", lambda name: None if name in missing else object())
    found, lines = check("train.py", capsys=capsys)
    assert found == code
    assert [line for line in lines if "nothing to replace" in line] == said


def test_a_library_without_a_version_is_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with tb-nightly, whose module is called tensorboard."""

    def version(_name: str) -> Never:
        raise commands.PackageNotFoundError

    monkeypatch.setattr(commands, "version", version)
    code, lines = check("train.py", capsys=capsys)
    assert code == 0
    assert "(torch of an unknown version, " in lines[0]


def test_a_machine_without_memory_for_a_writer_fails_the_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_root: Path) -> Never:
        raise OSError(28, "no memory is free")

    monkeypatch.setattr(commands, "outbox_capacity_bytes", full)
    code, lines = check("train.py", capsys=capsys)
    assert code == 1
    assert lines[2] == "the writer cannot start: [Errno 28] no memory is free"


@pytest.mark.parametrize(
    ("logger", "said"),
    [
        (
            "off",
            "the writer makes a recording alone, as TENSORBOARD_SIDECAR_LOGGER is off: see tensorboard-sidecar replay",
        ),
        ("tcp://box:5555", "the logger at tcp://box:5555 makes the event files (TENSORBOARD_SIDECAR_LOGGER)"),
    ],
)
def test_another_logger_than_a_helper_is_told(
    logger: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TENSORBOARD_SIDECAR_LOGGER", logger)
    code, lines = check("train.py", capsys=capsys)
    assert (code, lines[3]) == (0, said)


def test_a_machine_where_no_helper_can_start_fails_the_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = commands.find_spec
    monkeypatch.setattr(commands, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    code, lines = check("train.py", capsys=capsys)
    install = "pip install 'tensorboard-sidecar[logger]'"
    assert (code, lines[3]) == (1, f"no event files: a helper process needs matplotlib: {install}")

    def no_folder() -> Never:
        raise PermissionError("no folder for the socket")

    monkeypatch.setattr(commands, "helper_root", no_folder)
    code, lines = check("train.py", capsys=capsys)
    assert (code, lines[3]) == (1, "no event files: a helper process cannot start: no folder for the socket")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no.py"], "no such script: no.py"),
        (["-m", "no_such_module"], "no module named no_such_module"),
        (["."], "no such script: __main__.py"),
        (["bad.py"], "invalid syntax (bad.py, line 1)"),
    ],
)
def test_what_cannot_be_checked_is_wrong_usage(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.py").write_text("import .")
    assert main(["run", "--check", *arguments]) == 2
    assert capsys.readouterr() == ("", f"error: {message}\n")
