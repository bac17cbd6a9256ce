"""Programs with a ``SummaryWriter`` and their helpers, in a runtime folder and an outbox folder of their own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final, NamedTuple

from support.machine.shared_folder import shared_folder
from support.machine.waiting import wait_until
from support.records.events import values_by_tag
from support.running.forked import ForkedProgram

from tensorboard_sidecar.protocol.helper.place import FOLDERS_NAME, SOCKET_NAME
from tensorboard_sidecar.protocol.outbox.outbox_files import OUTBOX_VARIABLE

RUNTIME_VARIABLE: Final = "XDG_RUNTIME_DIR"
# A helper imports tensorboardX, protobuf and this package: seconds on a busy machine.
SECONDS: Final = 90.0
_PRELUDE: Final = """
import os
os.environ.update({!r})
import sys
from time import sleep
from tensorboard_sidecar import SummaryWriter
"""


class Ended(NamedTuple):
    """The exit code of a program, None for a program that still runs, and its output."""

    returncode: int | None
    stdout: str
    stderr: str


class Workplace:
    """The folders that programs and their helpers share: ``runtime`` and ``outboxes``, in the private ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.runtime, self.outboxes = folder / "run", folder / "out"
        for made in (self.runtime, self.outboxes):
            made.mkdir(mode=0o700)
        self.variables: Mapping[str, str] = {
            RUNTIME_VARIABLE: str(self.runtime),
            OUTBOX_VARIABLE: str(self.outboxes),
            "TENSORBOARD_SIDECAR_LOGGER": "",
        }

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a program."""
        return {**os.environ, **self.variables}

    def start(self, program: str, *arguments: str | Path) -> ForkedProgram:
        """Start a program that has imported SummaryWriter and knows ``sys`` and ``sleep``; to be killed."""
        return ForkedProgram(_PRELUDE.format(dict(self.variables)) + program, *arguments)

    def begin(self, program: str, *arguments: str | Path, **options: Any) -> "subprocess.Popen[str]":
        """Start a program as an interpreter of its own, whose exit functions run."""
        command = [sys.executable, "-c", _PRELUDE.format(dict(self.variables)) + program, *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)

    def run(self, program: str, *arguments: str | Path, seconds: float = 120) -> Ended:
        """Run a program as :meth:`start` to its end: its exit functions do not run."""
        with NamedTemporaryFile("r", prefix="errors-") as errors:
            caught = f"os.dup2(os.open({errors.name!r}, os.O_WRONLY), 2)\n"
            with self.start(caught + program, *arguments) as process:
                output = process.stdout.read()
                return Ended(process.wait(seconds), output, errors.read())

    def command(self, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        """Run ``tensorboard-sidecar`` to its end."""
        command = [sys.executable, "-m", "tensorboard_sidecar", *map(str, arguments)]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120, check=False)

    @property
    def places(self) -> list[Path]:
        """The places of helpers, of those that run and of those that ended."""
        return sorted(self.runtime.glob("*/*/"))

    @property
    def notes(self) -> list[bytes]:
        """The folders that are noted as not shown completely."""
        return [note.read_bytes() for place in self.places for note in sorted((place / FOLDERS_NAME).iterdir())]

    @property
    def sockets(self) -> list[Path]:
        """The sockets of helpers."""
        return [place / SOCKET_NAME for place in self.places if (place / SOCKET_NAME).exists()]

    @property
    def helpers(self) -> list[int]:
        """The process ids of the helpers that run here, also of those that only start."""
        return helpers_in(self.runtime)

    def wait_for_helper(self) -> int:
        """Return the process id of the only helper, once it listens."""
        wait_until(lambda: self.sockets and len(self.helpers) == 1, seconds=SECONDS, what="a helper")
        return self.helpers[0]

    def wait_for_end(self, seconds: float = SECONDS) -> None:
        """Wait until no helper runs."""
        wait_until(lambda: not self.helpers, seconds=seconds, what="the end of the helper")

    def log(self) -> str:
        """Return what the helpers logged."""
        return "".join((place / "log").read_text() for place in self.places if (place / "log").exists())

    def kill(self) -> None:
        """Send SIGKILL to the helpers, and wait for their end."""
        kill_helpers_in(self.runtime)

    def end(self) -> None:
        """End all helpers, also those that a program starts meanwhile."""
        while self.helpers:
            self.kill()


def helpers_in(runtime: Path) -> list[int]:
    """Return the process ids of the helpers whose place lies in a runtime folder."""
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            arguments = (folder / "cmdline").read_bytes().split(b"\0") if folder.name.isdecimal() else []
            mine = b"helper" in arguments and arguments[-2].startswith(bytes(runtime) + b"/")
            if mine and (folder / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.append(int(folder.name))
    return sorted(found)


def kill_helpers_in(runtime: Path) -> None:
    """Send SIGKILL to the helpers whose place lies in a runtime folder, and wait for their end."""
    found = helpers_in(runtime)
    for process_id in found:
        with suppress(ProcessLookupError):
            os.kill(process_id, signal.SIGKILL)
    wait_until(lambda: not set(found).intersection(helpers_in(runtime)), seconds=SECONDS, what="the end of helpers")


@contextmanager
def workplace() -> Iterator[Workplace]:
    """Yield an empty workplace; no helper outlives the block."""
    with shared_folder() as folder:
        found = Workplace(folder)
        try:
            yield found
        finally:
            found.end()


def shown(folder: Path, tag: str = "loss") -> list[float]:
    """Return the scalars of a tag in the event files of a folder, in the order of writing; empty without the folder."""
    return [value.simple_value for _, value in values_by_tag(folder).get(tag, [])] if folder.is_dir() else []
