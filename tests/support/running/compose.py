"""``docker compose`` on this project, as users run it; each test has its own project name, ports and volumes."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.machine.waiting import wait_until
from support.running.programs import free_port
from support.running.tensorboard import TensorBoard
from support.source import ROOT

SERVICES = ("logger", "tensorboard", "trainer")
# Variables that the host's tools need; no other variable of the shell may become a setting of the project.
_PASSED_ON = ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_CONTEXT", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY")
_START_SECONDS = 120
_COUNT = """
from pathlib import Path
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.protocol.storage.recording_reader import RecordingReader
count = 0
for folder in {path.parent for path in Path("/recordings").rglob("*.segment")}:
    reader = RecordingReader(folder)
    while records := reader.read():
        count += sum(record.kind == Kind.SCALARS for record in records)
print(count)
"""


def compose_is_there() -> bool:
    """Tell whether ``docker compose`` is installed, with or without an engine."""
    return _works("compose", "version")


def engine_answers() -> bool:
    """Tell whether a Docker engine and compose are available."""
    return compose_is_there() and _works("version")


def _works(*arguments: str) -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", *arguments], capture_output=True, check=False).returncode == 0


def docker(*arguments: str | Path, seconds: float = 60, **settings: str) -> str:
    """Run ``docker`` in the project's root; return its output. Raises AssertionError, with the output, on failure."""
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | settings
    command = ["docker", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


class Compose:
    """The project with ``settings`` in its .env file; that file, and copies from containers, lie in ``folder``."""

    def __init__(self, name: str, folder: Path, **settings: str | int) -> None:
        port = free_port()
        self.name, self._folder, self._copies = f"sidecar-test-{name}", folder, 0
        self.tensorboard = TensorBoard(f"http://127.0.0.1:{port}")
        self._env_file = folder / f"{name}.env"
        self.set(TENSORBOARD_PUBLISH=f"127.0.0.1:{port}", DATA_PATH=folder, **settings)

    def set(self, **settings: str | int | Path) -> None:
        """Add lines to the .env file; the last line of a name counts."""
        with self._env_file.open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in settings.items())

    def __call__(self, *arguments: str | Path, seconds: float = _START_SECONDS) -> str:
        """Run ``docker compose``; return its output."""
        return docker("compose", "--project-name", self.name, "--env-file", self._env_file, *arguments, seconds=seconds)

    def up(self, *services: str) -> None:
        """Run ``up`` with existing images."""
        self("up", "--detach", "--no-build", *services)

    def inspect(self, service: str) -> dict[str, Any]:
        """Return the engine's description of a service's container."""
        [found] = json.loads(docker("inspect", self("ps", "--all", "--quiet", service).strip()))
        return dict(found)

    def inside(self, service: str, *command: str) -> str:
        """Run a command in a service's container."""
        return self("exec", "--no-TTY", service, *command)

    def kill_9(self, service: str) -> None:
        """Send SIGKILL to the program in a container, like the OOM killer; wait for the restart."""
        before = self.inspect(service)["RestartCount"]
        self.inside(service, "sh", "-c", "kill -9 $(cat /proc/1/task/1/children)")
        self._wait(lambda: self._restarts(service) > before, f"{service} restarted")

    def wait_for_health(self, service: str) -> None:
        """Wait until a service is healthy."""
        self._wait(lambda: self.inspect(service)["State"]["Health"]["Status"] == "healthy", f"{service} healthy")

    def wait_for_log(self, service: str, text: str) -> None:
        """Wait until the log of a service contains a text."""
        self._wait(lambda: text in self("logs", service), f"{service}: {text}", 120)

    def wait_for_end(self, seconds: float = 240) -> None:
        """Wait until the trainer has ended with exit code 0."""
        self._wait(lambda: self.inspect("trainer")["State"]["Status"] == "exited", "the trainer's end", seconds)
        assert self.inspect("trainer")["State"]["ExitCode"] == 0, self("logs", "trainer")

    def wait_for_growth(self, records: int = 6) -> None:
        """Wait until the journal has ``records`` more scalar records."""
        wanted = self.recorded() + records
        self._wait(lambda: self.recorded() >= wanted, "growth of the recordings", 120)

    def recorded(self) -> int:
        """Return the number of scalar records in the journal; 0 without a running logger."""
        try:
            return int(self.inside("logger", "python", "-c", _COUNT))
        except AssertionError:
            return 0

    def copy(self, service: str, folder: str) -> Path:
        """Return a copy of a folder of a service's container, running or not."""
        self._copies += 1
        copied = self._folder / f"{self.name}-{self._copies}"
        self("cp", f"{service}:{folder}", copied)
        return copied

    def _restarts(self, service: str) -> int:
        found = self.inspect(service)
        return int(found["RestartCount"]) if found["State"]["Running"] else -1

    def _wait(self, condition: Callable[[], object], what: str, seconds: float = 60) -> None:
        try:
            wait_until(condition, seconds=seconds, what=what)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self('ps', '--all')}\n{self('logs', '--tail', '40')}") from None


@contextmanager
def composed(name: str, folder: Path, **settings: str | int) -> Iterator[Compose]:
    """Yield the project for the duration of the block; remove all its containers and volumes afterwards."""
    compose = Compose(name, folder, **settings)
    compose("down", "--volumes", "--timeout", "5")  # leftovers of killed tests
    try:
        yield compose
    finally:
        compose("down", "--volumes", "--timeout", "5")
