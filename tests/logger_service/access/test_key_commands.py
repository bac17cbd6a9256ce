"""The ``keys`` commands as people type them: every command that is printed works."""

import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tensorboard_sidecar.__main__ import main
from tensorboard_sidecar.logger_service.access.allow_list import read_allowed


def test_the_commands_that_are_printed_let_a_trainer_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two machines: each printed command is typed as printed, with the names filled in."""
    assert main(["keys", "create", str(tmp_path / "logger")]) == 0
    at_logger = capsys.readouterr().out
    assert main(["keys", "create", str(tmp_path / "box"), "--name", "gpu-box"]) == 0
    at_trainer = capsys.readouterr().out
    command = next(line for line in at_trainer.splitlines() if " keys allow " in line)
    words = shlex.split(command.replace("--keys KEYS", f"--keys {tmp_path / 'logger'}"))
    assert words[0] == "tensorboard-sidecar"
    assert main(words[1:]) == 0
    assert list(read_allowed(tmp_path / "logger" / "allowed")[0].values()) == ["gpu-box"]
    [server_key] = re.findall(r"--server_key (\S+)", at_logger)
    assert shlex.split(server_key) == [(tmp_path / "logger" / "server.pub").read_text().strip()]
    assert f"--client_key {tmp_path / 'box' / 'gpu-box.key'}" in at_trainer
    capsys.readouterr()
    assert main(["keys", "list", "--keys", str(tmp_path / "logger")]) == 0
    assert "  gpu-box\n" in capsys.readouterr().out
    assert main(["keys", "revoke", "gpu-box", "--keys", str(tmp_path / "logger")]) == 0
    assert main(["keys", "list", "--keys", str(tmp_path / "logger")]) == 0
    assert "no trainer may send yet" in capsys.readouterr().out


def test_no_secret_is_printed_and_files_are_private(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--name", "box"]):
        main(["keys", "create", str(tmp_path / "keys"), *arguments])
    shown = "".join(capsys.readouterr())
    for name in ("server", "box"):
        path = tmp_path / "keys" / f"{name}.key"
        assert path.read_text().split()[1] not in shown
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "keys" / "allowed").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create", "{keys}"], "exists and is not overwritten"),
        (["create", "{keys}", "--name", "../up"], "expected at most 64 letters"),
        (["allow", "box", "tooshort", "--keys", "{keys}"], "no such file; expected a .pub file or the 40 characters"),
        (["allow", "box", "{keys}/server.key", "--keys", "{keys}"], "holds a secret key; give the public key"),
        (["allow", "a/b", "0" * 40, "--keys", "{keys}"], "expected at most 64 letters"),
        (
            ["revoke", "nobody", "--keys", "{keys}"],
            "nobody is not on the list; see: tensorboard-sidecar keys list",
        ),
        (["list", "--keys", "{keys}/elsewhere"], "make the key with: tensorboard-sidecar keys create"),
    ],
)
def test_a_wrong_command_is_refused_with_the_right_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    keys = str(tmp_path / "keys")
    main(["keys", "create", keys])
    assert main(["keys", *(argument.replace("{keys}", keys) for argument in arguments)]) == 2
    assert words in capsys.readouterr().err


def test_making_keys_draws_nothing_and_loads_no_torch(tmp_path: Path) -> None:
    program = (
        "import sys; from tensorboard_sidecar.__main__ import main;"
        f"main(['keys', 'create', {str(tmp_path / 'keys')!r}]); assert not {{'torch', 'matplotlib'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=60)
