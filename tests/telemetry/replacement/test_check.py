"""``run --check``: what it prints, and its exit code."""

import sys
from pathlib import Path
from typing import Never

import pytest

from tensorboard_sidecar.command_line import main
from tensorboard_sidecar.telemetry.replacement import check as module


@pytest.fixture(autouse=True)
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a script, ``train.py`` in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TENSORBOARD_SIDECAR_LOGGER", raising=False)
    (tmp_path / "train.py").write_text("from torch.utils.tensorboard import SummaryWriter\n")
    return tmp_path / "train.py"


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
    monkeypatch.setattr(module, "find_spec", lambda name: None if name in missing else object())
    found, lines = check("train.py", capsys=capsys)
    assert found == code
    assert [line for line in lines if "nothing to replace" in line] == said


def test_a_library_without_a_version_is_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with tb-nightly, whose module is called tensorboard."""

    def version(_name: str) -> Never:
        raise module.PackageNotFoundError

    monkeypatch.setattr(module, "version", version)
    code, lines = check("train.py", capsys=capsys)
    assert code == 0
    assert "(torch of an unknown version, " in lines[0]


def test_a_machine_without_memory_for_a_writer_fails_the_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_root: Path) -> Never:
        raise OSError(28, "no memory is free")

    monkeypatch.setattr(module, "outbox_capacity_bytes", full)
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
    find = module.find_spec
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    code, lines = check("train.py", capsys=capsys)
    install = "pip install 'tensorboard-sidecar[logger]'"
    assert (code, lines[3]) == (1, f"no event files: a helper process needs matplotlib: {install}")

    def no_folder() -> Never:
        raise PermissionError("no folder for the socket")

    monkeypatch.setattr(module, "helper_root", no_folder)
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
