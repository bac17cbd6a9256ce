"""The hook ``--on_finding COMMAND``: a process that reads a finding from its standard input.

The command is split into words once, at the start of the logger, and never meets a shell. Each call is a process in a
session of its own, with the variables of ENVIRONMENT and those that begin with HOOK_. After the end of the process, or
at its time limit, everything that is left in its process group is killed.
"""

import os
import select
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic
from typing import IO, Final

from tensorboard_sidecar.logger_service import limits
from tensorboard_sidecar.logger_service.errors import StartupError
from tensorboard_sidecar.logger_service.hooks.hook import HookError

ENVIRONMENT: Final = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TZ", "XDG_RUNTIME_DIR"),
    *("LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "LC_TIME"),
)
_PASSED_ON: Final = "HOOK_"
# The wait looks this often whether the process has ended, and whether the logger stops.
_LOOK_MS: Final = 50
_READ_SIZE_BYTES: Final = 2**16
# A command that says more is killed: reading would keep a processor busy.
_SAID_MAX_BYTES: Final = 2**20


def split_command(command: str) -> list[str]:
    """Return the words of a command, the first as the path of a program. Raises StartupError."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise StartupError(f"--on_finding {command}: {error}; expected a program and its arguments") from None
    if not words:
        raise StartupError("--on_finding: expected a program and its arguments")
    program = shutil.which(words[0])
    if program is None:
        raise StartupError(
            f"--on_finding {command}: there is no program {words[0]!r}, or it may not be executed; no shell reads this"
            " command: for pipes and variables, write a script (chmod +x) or give: sh -c '...'"
        )
    return [os.path.abspath(program), *words[1:]]  # noqa: PTH100 - Path.resolve follows links, and programs look at their name


def hook_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a command gets, of those of the logger."""
    return {name: value for name, value in variables.items() if name in ENVIRONMENT or name.startswith(_PASSED_ON)}


class CommandHook:
    """Runs ``words`` with a finding on standard input, for at most ``limit_seconds`` a call."""

    def __init__(self, words: list[str], limit_seconds: float = limits.HOOK_CALL_MAX_SECONDS) -> None:
        self._words, self._limit_seconds = words, limit_seconds

    def __call__(self, body: bytes, stopped: threading.Event) -> None:
        """Deliver a finding. Raises HookError for an exit code other than 0, for a signal, and at the time limit."""
        try:
            process = subprocess.Popen(  # noqa: S603 - the operator's own command, without a shell
                self._words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=hook_environment(os.environ),
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise HookError(f"the command cannot be started: {error}") from None
        with process:
            try:
                output, wrong = self._attend(process, body, stopped)
            finally:
                with suppress(ProcessLookupError, PermissionError):  # the group has the process's number until wait()
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if wrong:
            raise HookError(f"the command was killed: {wrong}{_said(output)}")
        if process.returncode:
            how = f"signal {-process.returncode}" if process.returncode < 0 else f"exit code {process.returncode}"
            raise HookError(f"the command ended with {how}{_said(output)}")

    def _attend(self, process: "subprocess.Popen[bytes]", body: bytes, stopped: threading.Event) -> tuple[bytes, str]:
        """Write the body, read the output, and wait; return the end of the output, and why the process must be killed.

        Does not reap the process: its number stays that of its group. Its children may keep the pipes open, so that the
        end of the process alone counts.
        """
        given, said = _pipes(process)
        os.set_blocking(given.fileno(), False)
        poll = select.poll()
        poll.register(said, select.POLLIN)
        until_seconds, output, said_bytes = monotonic() + self._limit_seconds, b"", 0
        while True:
            body = _write(given, body)
            ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
            if poll.poll(0 if ended else _LOOK_MS):
                data = os.read(said.fileno(), _READ_SIZE_BYTES)
                output, said_bytes = (output + data)[-limits.HOOK_OUTPUT_MAX_BYTES :], said_bytes + len(data)
                if not data:
                    poll.unregister(said)
            if ended:
                return output, ""
            if monotonic() >= until_seconds:
                return output, f"its limit is {self._limit_seconds:g} s"
            if said_bytes > _SAID_MAX_BYTES:
                return output, f"it said more than {_SAID_MAX_BYTES:,} bytes"
            if stopped.is_set():
                return output, "the logger stops"


def _write(pipe: IO[bytes], body: bytes) -> bytes:
    """Write what fits, close the pipe behind the last byte, and return the rest. A process need not read."""
    if pipe.closed:
        return b""
    try:
        rest = body[os.write(pipe.fileno(), body) :]
    except BlockingIOError:
        return body
    except OSError:
        rest = b""
    if not rest:
        pipe.close()
    return rest


def _said(output: bytes) -> str:
    text = output.decode("utf-8", "replace").strip()
    return f"; it said: {text}" if text else ""


def _pipes(process: "subprocess.Popen[bytes]") -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin is not None  # noqa: S101 - it was started with pipes
    assert process.stdout is not None  # noqa: S101 - as above
    return process.stdin, process.stdout
