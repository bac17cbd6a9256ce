"""Two boxes with a cable between them: network namespaces and a veth pair, made and taken away by ``ip``."""

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from support.machine.waiting import wait_until
from support.running.programs import LoggerProcess
from support.source import ROOT

_numbers: Final = itertools.count()
_ENVIRONMENT: Final = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT / "tests")))}


@dataclass(frozen=True)
class Boxes:
    """Names of two namespaces, and of the trainer's end of the cable; addresses are theirs alone."""

    trainer: str
    logger: str
    cable: str
    trainer_address: str = "10.99.7.1"
    logger_address: str = "10.99.7.2"

    def at(self, box: str, *command: str | Path) -> list[str]:
        """Return the command that runs ``command`` in a box."""
        return ["ip", "netns", "exec", box, *map(str, command)]

    def run(
        self, box: str, module: str, *arguments: str | Path, seconds: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run ``python -m module`` in a box to its end."""
        command = self.at(box, sys.executable, "-m", module, *arguments)
        return subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, check=False, env=_ENVIRONMENT, cwd=ROOT
        )

    def say_in_clear(self, text: str) -> None:
        """Send one datagram with ``text`` in clear from the trainer's box to the logger's, where nobody listens."""
        say = "import socket, sys; socket.socket(type=socket.SOCK_DGRAM).sendto(sys.argv[1].encode(), (sys.argv[2], 9))"
        subprocess.run(self.at(self.trainer, sys.executable, "-c", say, text, self.logger_address), check=True)

    @contextmanager
    def running(self, box: str, module: str, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
        """Have ``python -m module`` in a box until the end of the block; SIGTERM ends it if it has not by itself."""
        process = subprocess.Popen(
            self.at(box, sys.executable, "-m", module, *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=_ENVIRONMENT,
            cwd=ROOT,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.communicate(timeout=30)


class BoxedLogger(LoggerProcess):
    """A logger in a box; ``module`` is what is started there."""

    def __init__(
        self, folder: Path, boxes: Boxes, flags: Sequence[str | Path], module: str = "tensorboard_sidecar"
    ) -> None:
        super().__init__(folder)
        self.endpoint = f"tcp://{boxes.logger_address}:5555"
        self.program = boxes.at(boxes.logger, sys.executable, "-m", module)
        self.flags = tuple(map(str, flags))

    def start(self) -> None:
        """Start; return when it listens."""
        arguments = ["--bind", self.endpoint, "--recordings", str(self.recordings), "--logdir", str(self.logdir)]
        arguments += ["--health", self.health, "--adopt", self.adopt, *self.flags]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [*self.program, "serve", *arguments], stdout=output, stderr=output, env=_ENVIRONMENT, cwd=ROOT
            )
        wait_until(lambda: "listening on" in self.log.read_text(), seconds=60, what=self.log.read_text())


def why_no_boxes() -> str:
    """Return what keeps network namespaces from being made here, or nothing."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "network namespaces need Linux and root"
    if shutil.which("ip") is None:
        return "there is no ip command (Debian package iproute2)"
    name = f"sidecar-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"no network namespace can be made: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", name], check=True)
    return ""


@contextmanager
def two_boxes() -> Iterator[Boxes]:
    """Have two boxes with a cable between them."""
    number = f"{os.getpid()}-{next(_numbers)}"
    boxes = Boxes(f"sidecar-trainer-{number}", f"sidecar-logger-{number}", f"sc{os.getpid() % 10**6}t")
    other_end = f"sc{os.getpid() % 10**6}l"
    try:
        for box in (boxes.trainer, boxes.logger):
            _ip("netns", "add", box)
        _ip(
            "link", "add", boxes.cable, "netns", boxes.trainer, "type", "veth", "peer", other_end, "netns", boxes.logger
        )
        for box, end, address in (
            (boxes.trainer, boxes.cable, boxes.trainer_address),
            (boxes.logger, other_end, boxes.logger_address),
        ):
            _ip("-n", box, "address", "add", f"{address}/24", "dev", end)
            for device in (end, "lo"):
                _ip("-n", box, "link", "set", device, "up")
        yield boxes
    finally:
        for box in (boxes.trainer, boxes.logger):
            subprocess.run(["ip", "netns", "delete", box], capture_output=True, check=False)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
