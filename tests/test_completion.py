"""The script that completes the command line, read by a real shell where there is one."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tensorboard_sidecar.command_line import COMMANDS, main

shtab = pytest.importorskip("shtab", reason="the extra completion is not installed")


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


def test_bash_completes_commands_and_flags(bash_script: Path) -> None:
    assert set(complete(bash_script, "s")) == {"serve", "status"}
    assert complete(bash_script, "serve", "--rec") == ["--recordings"]
    assert complete(bash_script, "train", "--back") == ["--backbone"]
    assert complete(bash_script, "train", "--backbone", "resnet5") == ["resnet50"]
    assert complete(bash_script, "keys", "rev") == ["revoke"]


def test_bash_completes_paths(bash_script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recordings-of-may").mkdir()
    monkeypatch.chdir(tmp_path)
    assert complete(bash_script, "verify", "recordings-") == ["recordings-of-may"]
    assert complete(bash_script, "serve", "--logdir", "recordings-") == ["recordings-of-may"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_the_script_knows_every_command_and_no_internal_one(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    script = script_of(shell, capsys)
    assert all(name in script for name in COMMANDS)
    assert "project's" not in script
    assert "tensorboard_sidecar_project" not in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True, timeout=60)
