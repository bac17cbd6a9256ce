"""Real commands: good ones, and those that fail, hang, fork, flood, and do not read."""

import json
import os
import re
import signal
import sys
import textwrap
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic

import pytest
from msgspec.structs import replace
from support.machine.waiting import wait_until
from support.records.golden import FINDING

from tensorboard_sidecar.logger_service import arguments, limits
from tensorboard_sidecar.logger_service.errors import StartupError
from tensorboard_sidecar.logger_service.hooks.command import CommandHook, hook_environment, split_command
from tensorboard_sidecar.logger_service.hooks.hook import HookError
from tensorboard_sidecar.logger_service.hooks.hooks import body_of
from tensorboard_sidecar.protocol.stream import Stream

BODY = b'{"rule": "loss-spike"}\n'
Python = Callable[..., CommandHook]


@pytest.fixture
def python() -> Python:
    def hook(program: str, *arguments: object, limit_seconds: float = 60.0) -> CommandHook:
        words = [sys.executable, "-I", "-S", "-c", program, *map(str, arguments)]
        return CommandHook(words, limit_seconds)

    return hook


def call(hook: CommandHook, body: bytes = BODY) -> str:
    """Call a hook; return why it failed, or an empty text."""
    reason = ""
    try:
        hook(body, threading.Event())
    except HookError as error:
        reason = f"try again: {error}" if error.retry else str(error)
    return reason


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_command_reads_the_finding_to_its_end(python: Python, tmp_path: Path) -> None:
    program = "import sys; open(sys.argv[1], 'wb').write(sys.stdin.buffer.read())"
    assert call(python(program, tmp_path / "a")) == ""
    assert (tmp_path / "a").read_bytes() == BODY


def test_a_finding_larger_than_a_pipe_arrives_whole(python: Python, tmp_path: Path) -> None:
    body = bytes(range(256)) * 2000
    program = "import sys; open(sys.argv[1], 'wb').write(sys.stdin.buffer.read())"
    assert call(python(program, tmp_path / "a"), body) == ""
    assert (tmp_path / "a").read_bytes() == body


@pytest.mark.parametrize("body", [BODY, bytes(2**20)], ids=["short", "long"])
def test_a_command_need_not_read(python: Python, body: bytes) -> None:
    assert call(python("pass"), body) == ""
    assert call(python("import os; os.close(0)"), body) == ""


def test_a_command_that_fails_is_told_of_with_the_end_of_its_output(python: Python) -> None:
    program = "import sys; print('x' * 5000, flush=True); print('no network', file=sys.stderr); sys.exit(3)"
    reason = call(python(program))
    assert reason.startswith("the command ended with exit code 3; it said: ")
    assert reason.endswith("no network")
    assert len(reason) < limits.HOOK_OUTPUT_MAX_BYTES + 100


def test_a_command_that_is_killed_is_told_of(python: Python) -> None:
    assert call(python("import os; os.kill(os.getpid(), 15)")) == "the command ended with signal 15"


def test_output_that_is_no_text_is_told_of_too(python: Python) -> None:
    reason = call(python("import os, sys; os.write(1, b'\\xff\\x00\\x1b[2J'); sys.exit(1)"))
    assert reason.startswith("the command ended with exit code 1; it said: ")


def test_a_command_that_hangs_is_killed_with_its_children(python: Python, tmp_path: Path) -> None:
    program = (
        "import os, sys, time, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = os.fork()\n"
        "open(f'{sys.argv[1]}/{os.getpid()}', 'w')\n"
        "time.sleep(600)"
    )
    reason = call(python(program, tmp_path, limit_seconds=8.0))
    assert reason == "the command was killed: its limit is 8 s"
    pids = [int(path.name) for path in tmp_path.iterdir()]
    assert len(pids) == 2
    wait_until(lambda: not any(map(is_alive, pids)))


def test_what_a_command_leaves_behind_is_killed_and_not_waited_for(python: Python, tmp_path: Path) -> None:
    """A child of the command holds the pipes open."""
    program = (
        "import os, sys, time\n"
        "if os.fork():\n"
        "    while not os.listdir(sys.argv[1]): time.sleep(0.01)\n"
        "    sys.exit(0)\n"
        "open(f'{sys.argv[1]}/{os.getpid()}', 'w')\n"
        "time.sleep(600)"
    )
    began = monotonic()
    assert call(python(program, tmp_path, limit_seconds=300.0)) == ""
    assert monotonic() - began < 200
    [pid] = [int(path.name) for path in tmp_path.iterdir()]
    wait_until(lambda: not is_alive(pid))


def test_a_command_that_floods_is_killed(python: Python) -> None:
    began = monotonic()
    reason = call(python("import os\nwhile True: os.write(1, b'flood\\n' * 10000)", limit_seconds=300.0))
    assert reason.startswith("the command was killed: it said more than 1,048,576 bytes; it said: ")
    assert len(reason) < 2 * limits.HOOK_OUTPUT_MAX_BYTES
    assert monotonic() - began < 200


def test_a_command_that_closes_its_output_is_waited_for(python: Python, tmp_path: Path) -> None:
    program = "import os, sys, time; os.close(1); os.close(2); time.sleep(0.3); open(sys.argv[1], 'w')"
    assert call(python(program, tmp_path / "done")) == ""
    assert (tmp_path / "done").exists()


def test_a_stop_cuts_a_command_off(python: Python, tmp_path: Path) -> None:
    stopped, errors = threading.Event(), list[str]()

    def deliver() -> None:
        with pytest.raises(HookError) as caught:
            python("import sys, time; open(sys.argv[1], 'w'); time.sleep(600)", tmp_path / "begun")(BODY, stopped)
        errors.append(str(caught.value))

    thread = threading.Thread(target=deliver)
    thread.start()
    wait_until((tmp_path / "begun").exists)
    stopped.set()
    thread.join(20)
    assert errors == ["the command was killed: the logger stops"]


def own_children() -> set[str]:
    """Return the process ids of this process's children, zombies too."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            if status.read_text().rpartition(")")[2].split()[1] == str(os.getpid()):
                found.add(status.parent.name)
    return found


def test_no_process_and_no_file_is_left(python: Python) -> None:
    call(python("pass"))
    children = own_children()  # of other tests of this process
    files = len(list(Path("/proc/self/fd").iterdir()))
    for program in ("pass", "import sys; sys.exit(1)", "import os; os.kill(os.getpid(), 9)"):
        call(python(program))
    assert len(list(Path("/proc/self/fd").iterdir())) == files
    assert own_children() == children


def test_a_command_has_a_few_variables_and_those_that_are_meant_for_it(
    python: Python, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("HOOK_TOKEN", "for the hook")
    program = "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1], 'w'))"
    assert call(python(program, tmp_path / "environment")) == ""
    found = json.loads((tmp_path / "environment").read_text())
    assert found["HOOK_TOKEN"] == "for the hook"
    assert found["PATH"] == os.environ["PATH"]
    assert "AWS_SECRET_ACCESS_KEY" not in found


def test_the_environment_is_chosen_by_name() -> None:
    assert hook_environment({"HOME": "/h", "LD_PRELOAD": "x", "HOOK_A": "1", "PYTHONPATH": "x"}) == {
        "HOME": "/h",
        "HOOK_A": "1",
    }


def test_a_command_has_a_session_of_its_own(python: Python, tmp_path: Path) -> None:
    """Ctrl-C in the logger's terminal does not reach it."""
    assert call(python("import os, sys; open(sys.argv[1], 'w').write(str(os.getsid(0)))", tmp_path / "sid")) == ""
    assert int((tmp_path / "sid").read_text()) != os.getsid(0)


def test_a_program_that_is_gone_is_told_of(tmp_path: Path) -> None:
    assert "the command cannot be started" in call(CommandHook([str(tmp_path / "gone")]))


def test_a_command_is_split_once_and_no_shell_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "notify me"
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/arguments\n')
    script.chmod(0o700)
    monkeypatch.chdir(tmp_path)
    words = split_command("'./notify me' --to 'a b' '$HOME' ';' rm *")
    assert words == [str(script), "--to", "a b", "$HOME", ";", "rm", "*"]
    assert call(CommandHook(words)) == ""
    assert (tmp_path / "arguments").read_text().splitlines() == words[1:]
    assert split_command("sh -c true")[0].endswith("/sh")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("", "expected a program"),
        ("  ", "expected a program"),
        ("notify 'a", "No closing quotation"),
        ("no-such-program --x", "there is no program 'no-such-program'"),
        ("/etc/passwd", "may not be executed"),
        ("/", "may not be executed"),
    ],
)
def test_a_command_that_cannot_be_is_refused_at_the_start(command: str, reason: str) -> None:
    with pytest.raises(StartupError, match=f"--on_finding.*{reason}"):
        split_command(command)


def test_a_command_that_ignores_signals_is_killed(python: Python) -> None:
    program = f"import signal, time; signal.signal({int(signal.SIGINT)}, signal.SIG_IGN); time.sleep(600)"
    assert call(python(program, limit_seconds=0.5)) == "the command was killed: its limit is 0.5 s"


def test_the_script_in_the_help_of_serve_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = re.search(r"^  (#!/usr/bin/env python3\n.*?)\n\n", arguments._SERVE_EXAMPLES, re.MULTILINE | re.DOTALL)
    assert found is not None
    script = tmp_path / "notify.py"
    script.write_text(textwrap.dedent("  " + found[1]))
    script.chmod(0o700)
    monkeypatch.setenv("HOME", str(tmp_path))
    for severity in ("warn", "error"):
        body = body_of(Stream("demo"), replace(FINDING, severity=severity))
        assert call(CommandHook(split_command(str(script))), body) == ""
    assert (tmp_path / "findings").read_text() == f"demo: {replace(FINDING, severity='error')}\n"
