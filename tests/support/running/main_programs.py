"""Main programs that need torch, forked from a process that has imported torch: each starts in milliseconds.

Unlike a :class:`~support.running.forked.ForkedProgram`, such a program has an interpreter of its own, which ends like
any other: with atexit functions, uncaught exceptions and exit codes.
"""

import atexit
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from support.machine.waiting import wait_until
from support.source import ROOT

_PATH = (str(ROOT / "src"), str(ROOT / "tests"))


class MainProgram:
    """Runs ``program``, a file or the name of a module, with ``arguments``; its output goes to files in ``folder``.

    ``network`` is the name of the network namespace to run in; empty for this one.
    """

    def __init__(self, folder: Path, program: str | Path, *arguments: str | Path, network: str = "") -> None:
        self._folder, self._program = folder, str(program)
        folder.mkdir(parents=True)
        request = {
            "folder": str(folder),
            "program": self._program,
            "arguments": list(map(str, arguments)),
            "network": network,
            "path": [str(program.parent)] if isinstance(program, Path) else _PATH,
        }
        requests = _server().stdin
        assert requests is not None
        requests.write(json.dumps(request) + "\n")
        requests.flush()

    def wait(self, seconds: float) -> subprocess.CompletedProcess[str]:
        """Return the exit code and the output of the program, when it has ended."""
        wait_until((self._folder / "code").exists, seconds=seconds, what=f"the end of {self._program}")
        code, stdout, stderr = ((self._folder / name).read_text() for name in ("code", "stdout", "stderr"))
        return subprocess.CompletedProcess[str]([self._program], int(code), stdout, stderr)


def run_main(
    folder: Path, program: str | Path, *arguments: str | Path, seconds: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; return its exit code and output."""
    return MainProgram(folder, program, *arguments).wait(seconds)


@cache
def _server() -> "subprocess.Popen[str]":
    """Return the process that the programs are forked from; it lives as long as this process."""
    program = Path(__file__).with_name("main_server_program.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(_PATH)}
    server = subprocess.Popen([sys.executable, program], stdin=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
    atexit.register(_end, server)
    return server


def _end(server: "subprocess.Popen[str]") -> None:
    assert server.stdin is not None
    server.stdin.close()
    server.wait()
