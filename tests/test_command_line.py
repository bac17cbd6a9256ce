"""The one command: its help, its answers to mistakes, and what a command imports."""

import argparse
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Never

import pytest

from tensorboard_sidecar import __version__, command_line
from tensorboard_sidecar.command_line import COMMANDS, main

SHOWN = {
    *("train", "serve", "replay", "inspect", "verify", "doctor", "keys", "status", "drain", "demo-data", "completion"),
    "run",
}


def help_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_the_help_lists_every_command_with_an_explanation(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys, "--help")
    listed = dict(re.findall(r"^    ([a-z-]+) +(\S.*)$", text, re.MULTILINE))
    assert set(listed) == set(COMMANDS) == SHOWN
    assert len(re.findall(r"^  tensorboard-sidecar ", text, re.MULTILINE)) == 3
    assert [int(code) for code in re.findall(r"^  (\d+) +\w", text, re.MULTILINE)] == [0, 1, 2, 3, 4, 5, 130]


@pytest.mark.parametrize("command", sorted(SHOWN))
def test_the_help_of_a_command_names_that_command_and_teaches(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys, command, "--help")
    assert text.startswith(f"usage: tensorboard-sidecar {command} ")
    assert len(re.findall(rf"^  (?:watch |torchrun .*)?tensorboard[-_]sidecar {command}", text, re.MULTILINE)) >= 3
    assert re.search(r"^exit codes: 0 ", text, re.MULTILINE)


@pytest.mark.parametrize("command", sorted(SHOWN))
def test_help_before_a_command_is_help_behind_it(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert help_of(capsys, "help", command) == help_of(capsys, command, "--help")


def test_help_alone_is_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert help_of(capsys, "help") == help_of(capsys, "--help")


def test_an_action_of_keys_names_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert help_of(capsys, "keys", "allow", "--help").startswith("usage: tensorboard-sidecar keys allow ")


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert help_of(capsys, "--version") == f"tensorboard-sidecar {__version__}\n"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("sreve", "serve"), ("reply", "replay"), ("demo_data", "demo-data"), ("stats", "status"), ("projects", None)],
)
def test_a_misspelt_command_is_answered_with_the_nearest(
    name: str, nearest: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """The internal command is suggested to nobody."""
    expected = f"no command {name!r}; " + (f"did you mean {nearest}?" if nearest else "see: --help")
    assert refused(capsys, name).endswith(f"error: {expected}\n")
    assert refused(capsys, "help", name).endswith(f"error: {expected}\n")


def test_no_command_is_wrong_usage_and_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert "examples:" in refused(capsys)


def test_a_wrong_flag_is_refused_with_the_usage_of_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "serve", "--port", "1").startswith("usage: tensorboard-sidecar ")
    assert refused(capsys, "replay", "--logdir").startswith("usage: tensorboard-sidecar replay ")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--help"], 0), (["status"], 0), (["serve", "--recordings", "/proc/nowhere", "--logdir", "runs"], 2)],
    ids=["help", "status", "serve"],
)
def test_a_command_imports_only_its_own_libraries(arguments: list[str], code: int, tmp_path: Path) -> None:
    """``serve`` gets as far as its folders: all modules of the process that receives are loaded by then."""
    program = (
        "import sys; from tensorboard_sidecar.command_line import main\n"
        "try: code = main(sys.argv[1:])\n"
        "except SystemExit as end: code = end.code\n"
        "strangers = {'torch', 'torchvision', 'matplotlib', 'tensorboardX', 'tensorboard'}\n"
        "print(code, *sorted(strangers & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stderr.splitlines()[-1] == str(code)


@pytest.mark.parametrize("command", sorted(SHOWN))
def test_a_library_that_is_not_installed_is_named_with_its_extra(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    library = COMMANDS[command].library
    find_spec = command_line.find_spec
    monkeypatch.setattr(command_line, "find_spec", lambda name: None if name == library else find_spec(name))
    needed = {
        "run": ["train.py"],
        "replay": ["recordings", "--logdir", "runs"],
        "inspect": ["."],
        "verify": ["."],
        "doctor": ["."],
        "keys": ["list"],
        "demo-data": ["data"],
        "completion": ["bash"],
    }
    assert main([command, *needed.get(command, [])]) == 2
    [line] = capsys.readouterr().err.splitlines()
    extra = COMMANDS[command].extra
    assert line == (
        f"error: {command} needs {library}, which is not installed: pip install 'tensorboard-sidecar[{extra}]'"
    )


def test_a_room_that_is_not_installed_costs_its_commands_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the logger's image, which holds no trainer."""
    find_spec = command_line.find_spec
    monkeypatch.setattr(
        command_line, "find_spec", lambda name: None if name == "tensorboard_sidecar.trainer" else find_spec(name)
    )
    assert refused(capsys, "train", "--help") == "error: train is not a part of this installation\n"
    assert "usage: tensorboard-sidecar verify" in help_of(capsys, "verify", "--help")


def interrupt(_options: argparse.Namespace) -> Never:
    raise KeyboardInterrupt


@pytest.mark.parametrize("command", ["serve", "status", "drain"])
def test_ctrl_c_is_told_by_the_exit_code_alone(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = command_line._load
    monkeypatch.setattr(
        command_line, "_load", lambda place: interrupt if place == COMMANDS[command].program else load(place)
    )
    assert main([command]) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("arguments", ["--help", "serve --help", "status ."])
def test_a_reader_that_has_seen_enough_is_no_error(arguments: str, tmp_path: Path) -> None:
    command = f"{sys.executable} -m tensorboard_sidecar {arguments} | true; exit ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}
    done = subprocess.run(
        ["/bin/bash", "-c", command], capture_output=True, text=True, check=False, env=environment, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")


needs_shtab = pytest.mark.skipif(find_spec("shtab") is None, reason="the extra completion is not installed")


def script_of(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


def complete(script: Path, *words: str) -> list[str]:
    """Return what bash offers for the last of ``words``."""
    line = " ".join(f"'{word}'" for word in ("tensorboard-sidecar", *words))
    program = (
        f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words)}\n"
        "_shtab_tensorboard_sidecar; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.split()


@pytest.fixture
def bash_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    script = tmp_path / "completion.bash"
    script.write_text(script_of("bash", capsys))
    return script


@needs_shtab
def test_bash_completes_commands_and_flags(bash_script: Path) -> None:
    assert set(complete(bash_script, "s")) == {"serve", "status"}
    assert complete(bash_script, "serve", "--rec") == ["--recordings"]
    assert complete(bash_script, "train", "--back") == ["--backbone"]
    assert complete(bash_script, "train", "--backbone", "resnet5") == ["resnet50"]
    assert complete(bash_script, "keys", "rev") == ["revoke"]


@needs_shtab
def test_bash_completes_paths(bash_script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recordings-of-may").mkdir()
    monkeypatch.chdir(tmp_path)
    assert complete(bash_script, "verify", "recordings-") == ["recordings-of-may"]
    assert complete(bash_script, "serve", "--logdir", "recordings-") == ["recordings-of-may"]
    assert complete(bash_script, "run", "-m", "recordings-") == ["recordings-of-may"]


@needs_shtab
@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_the_script_knows_every_command_and_no_internal_one(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    script = script_of(shell, capsys)
    assert all(name in script for name in COMMANDS)
    assert "project's" not in script
    assert "tensorboard_sidecar_project" not in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True, timeout=60)
