"""Trainers to be killed: processes forked from one that has imported torch already, so that each starts at once."""

import os
import signal
from contextlib import suppress
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from faults.harness.diary import Returned, read_diary, read_last
from faults.harness.trainer_program import Plan, train
from support.machine.waiting import wait_until
from support.running.forked import fork_server

from tensorboard_sidecar.__main__ import main as drain
from tensorboard_sidecar.protocol.outbox.orphan import find_outboxes


class Trainer:
    """A process that trains as planned."""

    def __init__(self, plan: Plan, context: ForkServerContext) -> None:
        self.plan = plan
        self.process = context.Process(target=train, args=(plan,), daemon=True)
        self.process.start()

    @property
    def returned(self) -> Returned:
        """What it has been promised so far."""
        return replace(read_diary(self.plan.diary) or Returned(b"", frozenset()), may_refuse=self.plan.may_refuse)

    @property
    def last_returned(self) -> int:
        """The last of its calls that came back."""
        return read_last(self.plan.diary)

    def wait_returned(self, calls: int) -> None:
        """Wait until so many more calls came back."""
        self.wait_for_call(self.last_returned + calls)

    def wait_for_call(self, number: int) -> None:
        """Wait until a call came back; the first that the program makes, the start, is number 1."""
        wait_until(
            lambda: self.last_returned >= number or not self.process.is_alive(), seconds=60, what=f"call {number}"
        )
        assert self.last_returned >= number, f"the trainer ended ({self.process.exitcode}) at {self.last_returned}"

    def kill(self) -> None:
        """SIGKILL: no chance to tidy up."""
        self.process.kill()
        self.process.join()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def tell_to_stop(self) -> None:
        """Have it end in order; it ships what it has first."""
        self.plan.stop.touch()

    def finish(self, seconds: float = 120.0) -> int | None:
        """Have it end in order; return its exit code, None when it hangs."""
        self.tell_to_stop()
        self.process.join(seconds)
        return self.process.exitcode


class Trainers:
    """Starts trainers whose outboxes lie in ``memory``, and diaries in ``folder``."""

    def __init__(self, memory: Path, folder: Path) -> None:
        self.memory, self.folder = memory, folder
        self.started: list[Trainer] = []
        self._context = fork_server()

    def start(self, run: str, endpoint: str | None, *, wait: bool = True, **plan: Any) -> Trainer:
        """Start one, see Plan for what it can be told; return when its first call came back, unless not to ``wait``."""
        self.folder.mkdir(exist_ok=True)
        diary = self.folder / f"{len(self.started):04d}.diary"
        trainer = Trainer(Plan(run, endpoint, self.memory, diary, **plan), self._context)
        self.started.append(trainer)
        if wait:
            trainer.wait_returned(1)
        return trainer

    @property
    def returned(self) -> list[Returned]:
        """What all of them have been promised."""
        return [trainer.returned for trainer in self.started]

    def drain(self, endpoint: str, folder: Path | None = None) -> None:
        """Ship what killed trainers left behind in memory, or in another ``folder``, as a user would.

        What somebody else is shipping is tried again until nothing is left.
        """
        place = folder or self.memory

        def shipped() -> bool:
            assert drain(["drain", str(place), "--endpoint", endpoint, "--seconds", "120"]) == 0
            return not find_outboxes(place)

        wait_until(shipped, seconds=120, what="an empty folder of outboxes")

    def close(self) -> None:
        """Kill what still runs."""
        for trainer in self.started:
            if trainer.process.is_alive():
                with suppress(ProcessLookupError):
                    trainer.kill()
            trainer.process.close()
