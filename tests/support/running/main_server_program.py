"""Runs main programs in processes forked from this one, which has imported torch: each starts in milliseconds.

    python main_server_program.py < requests

A request is a line of JSON, as ``MainProgram`` in ``main_programs`` writes it. Each program is the main program of a
process of its own, and takes a whole interpreter down when it ends. Its exit code goes to the file ``code`` in the
folder of the request, and what it says to ``stdout`` and ``stderr``.
"""

import ctypes
import json
import os
import runpy
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import torch  # noqa: F401 - for the programs

import tensorboard_sidecar.telemetry.telemetry  # noqa: F401 - for the programs

_NEW_NETWORK: Final = 0x40000000  # CLONE_NEWNET


def fork_each(lines: Iterable[str]) -> dict[str, Any]:
    """Fork a process for each request, and a process that waits for its end; return the request in the former."""
    for line in lines:
        request: dict[str, Any] = json.loads(line)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        if not os.fork():
            program = os.fork()
            if not program:
                return request
            _, status = os.waitpid(program, 0)
            code = Path(request["folder"], "code")
            code.with_suffix(".new").write_text(str(os.waitstatus_to_exitcode(status)))
            code.with_suffix(".new").rename(code)  # the file is whole as soon as it is there
            os._exit(0)
    os._exit(0)


def enter(request: dict[str, Any]) -> None:
    """Make this process look like one that was started for the request."""
    folder = Path(request["folder"])
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        with (folder / name).open("w") as output:
            os.dup2(output.fileno(), descriptor)
    if request["network"]:
        libc = ctypes.CDLL(None, use_errno=True)
        with Path("/run/netns", request["network"]).open() as network:
            if libc.setns(network.fileno(), _NEW_NETWORK):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    sys.path[:1] = request["path"]


# The loops below run at the level of the module, so that the end of a program is the end of this main program.
given = fork_each(sys.stdin)
enter(given)
sys.argv = [given["program"], *given["arguments"]]
if given["program"].endswith(".py"):
    runpy.run_path(given["program"], run_name="__main__")
else:
    runpy.run_module(given["program"], run_name="__main__", alter_sys=True)
