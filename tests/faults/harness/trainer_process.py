"""A trainer with an interpreter of its own, for tests of how that ends, and of what stands around it."""

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import time
from types import TracebackType
from typing import Self

from faults.harness.diary import Returned, read_diary, read_last
from faults.harness.trainer_program import Plan
from support.machine.waiting import wait_until


class TrainerProcess:
    """Trains as planned; ``prefix`` is a command to put before the interpreter's. What still runs is killed at the end.

    Its import of torch takes seconds, so start many at once.
    """

    def __init__(self, plan: Plan, prefix: Sequence[str] = ()) -> None:
        self.plan = plan
        self._log = plan.diary.with_suffix(".log")
        self._ended_at = self._waited_seconds = self._waited_before_seconds = 0.0
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "faults.harness.trainer_program", plan.encode()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdout=log,
                stderr=log,
            )
        self._waiter = threading.Thread(target=self._wait)
        self._waiter.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self._waiter.join()

    @property
    def returned(self) -> Returned:
        """What it was promised."""
        return read_diary(self.plan.diary) or Returned(b"", frozenset())

    def said(self) -> str:
        """Return what it wrote on its terminal."""
        return self._log.read_text()

    def seen(self, folder: Path) -> Path:
        """Return where a folder as it sees it is reached from here, while it runs."""
        return Path(f"/proc/{self.process.pid}/root{folder}")

    def wait_for_call(self, number: int) -> None:
        """Wait until a call came back; the first that the program makes, the start, is number 1."""
        wait_until(
            lambda: read_last(self.plan.diary) >= number or not self._waiter.is_alive(),
            seconds=120,
            what=f"call {number}",
        )
        self._waited_before_seconds = _waited_for_processor(self.process.pid)
        assert read_last(self.plan.diary) >= number, self.said()

    def finish(self, seconds: float = 120.0) -> int:
        """Have it end in order, or by itself; return its exit code. Raises AssertionError when it hangs."""
        self.plan.stop.touch()
        self._waiter.join(seconds)
        assert not self._waiter.is_alive(), f"it hangs: {self.said()}"
        return self.process.returncode

    @property
    def ending_seconds(self) -> float:
        """How long it took from its last call, which was waited for, to its end; but for the time others ran."""
        waited_seconds = self._waited_seconds - self._waited_before_seconds
        return self._ended_at - self.plan.diary.stat().st_mtime - waited_seconds

    def _wait(self) -> None:
        with suppress(ChildProcessError):  # killed, and waited for, at the end
            os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        self._ended_at, self._waited_seconds = time(), _waited_for_processor(self.process.pid)
        self.process.wait()


def _waited_for_processor(pid: int) -> float:
    """Return how long a process's first thread was ready to run, and others ran; 0 where the kernel does not tell."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except FileNotFoundError:
        return 0.0
