"""A real TensorBoard process and its HTTP interface."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Literal
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

from support.machine.waiting import wait_until

Loader = Literal["fast", "slow"]
_ANNOUNCEMENT = re.compile(r"^TensorBoard \S+ at (\S+)/ ", re.MULTILINE)
SAMPLES = "scalars=100000,images=200,text=200,audio=50"


class TensorBoard:
    """The HTTP interface of a running TensorBoard."""

    def __init__(self, address: str, loader: Loader = "fast") -> None:
        self.address = address
        self.loader = loader

    def get(self, route: str, **query: Any) -> Any:
        """Return the JSON of ``data/<route>``."""
        return json.loads(self.get_bytes(f"data/{route}", **query))

    def get_bytes(self, route: str, **query: Any) -> bytes:
        """Return the response of ``route``."""
        with urlopen(f"{self.address}/{route}{'?' if query else ''}{urlencode(query)}", timeout=30) as answer:
            return answer.read()

    def wait_for(self, what: str, condition: Callable[["TensorBoard"], Any], seconds: float = 90) -> Any:
        """Return ``condition``, once true. Raises AssertionError, naming ``what``, after ``seconds``."""
        deadline = monotonic() + seconds
        found: Any = None
        while monotonic() < deadline:
            try:
                if found := condition(self):
                    return found
            except (URLError, ConnectionError, TimeoutError, KeyError) as error:
                found = error
            sleep(0.1)
        raise AssertionError(f"TensorBoard did not show {what} in {seconds} s; last: {found!r:.500}")


@contextmanager
def running_tensorboard(
    logdir: Path, log: Path, loader: Loader = "fast", *, reload_seconds: float = 1.0
) -> Iterator[TensorBoard]:
    """Run TensorBoard on ``logdir`` for the duration of the block; the fast loader takes whole ``reload_seconds``."""
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "tensorboard.main",
        f"--logdir={logdir}",
        "--host=127.0.0.1",
        f"--load_fast={'true' if loader == 'fast' else 'false'}",
        f"--reload_interval={reload_seconds}",
        f"--samples_per_plugin={SAMPLES}",
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield TensorBoard(_announced_address(process, log), loader)
    finally:
        process.terminate()
        process.wait(30)


def _announced_address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait for TensorBoard's address in its log; TensorBoard takes the first free port from 6006 on."""

    def said() -> re.Match[str] | None:
        return _ANNOUNCEMENT.search(log.read_text("utf-8"))

    wait_until(lambda: said() or process.poll() is not None, seconds=90, what="TensorBoard's address")
    address = said()
    assert address is not None, log.read_text("utf-8")
    return address[1]
