"""Short programs in processes forked from a process that has imported torch: each starts in milliseconds, not seconds.

The process is real: a test can kill it. It does not end as an interpreter of its own: no atexit functions run. Programs
for tests of an interpreter's end are started with ``subprocess``.
"""

import multiprocessing
import os
import runpy
import sys
from collections.abc import Sequence
from functools import cache
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import TracebackType
from typing import Final, Self

import pytest

# A module that imports all that the programs need: torch and telemetry.
_PRELOADED: Final = "faults.harness.trainer_program"
_STDOUT: Final = 1


class ForkedProgram:
    """Runs the source text ``program`` with ``arguments`` in ``sys.argv[1:]``; kills the process at the end of a block.

    ``stdout`` reads the program's standard output, and ends with the process.
    """

    def __init__(self, program: str, *arguments: str | Path) -> None:
        context = fork_server()
        self._file = NamedTemporaryFile("w", suffix=".py")  # noqa: SIM115 - closed at the end of the block
        self._file.write(program)
        self._file.flush()
        reader, writer = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_run, args=(self._file.name, [*map(str, arguments)], writer), daemon=True
        )
        self._process.start()
        writer.close()
        self.stdout = os.fdopen(os.dup(reader.fileno()))
        reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self.stdout.close()
        self._process.close()
        self._file.close()

    def wait(self, seconds: float) -> int | None:
        """Wait for the end; return the exit code, None for a program that still runs."""
        self._process.join(seconds)
        return self._process.exitcode

    def kill(self) -> None:
        """Send SIGKILL and wait for the end: the program cannot clean up."""
        self._process.kill()
        self._process.join()


@cache
def fork_server() -> ForkServerContext:
    """Return the context whose processes are forked from one with torch; that one lives as long as this process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_PRELOADED])
    with pytest.MonkeyPatch.context() as patch:  # the server imports before it is told where from
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        forkserver.ensure_running()
    return context


def _run(program: str, arguments: Sequence[str], output: Connection) -> None:
    """Run the file ``program`` in this process, with its standard output in a pipe."""
    os.dup2(output.fileno(), _STDOUT)
    output.close()
    sys.argv = [program, *arguments]
    runpy.run_path(program, run_name="__main__")
