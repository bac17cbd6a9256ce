"""A logger on a disk whose power can go at any moment, and what it then has lost."""

import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from faults.harness.disk_shim import Plan
from faults.harness.oracle import read_recordings
from faults.harness.power_loss import Disk, write_files
from support.machine.waiting import wait_until
from support.records.events import event_files
from support.running.programs import LoggerProcess

from tensorboard_sidecar.logger_service.projection.replay import replay
from tensorboard_sidecar.protocol.stream import Stream

T = TypeVar("T")


class Unlucky(random.Random):
    """Chance at its worst: of all that a disk may have kept, it kept nothing."""

    def choice(self, seq: Sequence[T]) -> T:  # type: ignore[override]
        return seq[0]


class PowerLoss:
    """A logger on a disk that takes notes, and whose power can go."""

    def __init__(self, logger: LoggerProcess, notes: Path, chance: random.Random, **plan: Any) -> None:
        self._logger, self._notes, self._chance = logger, notes, chance
        self._plan = Plan(str(logger.recordings), notes=str(notes), project=False, **plan)
        logger.program = self._plan.command()
        self._disk = Disk(logger.recordings)
        logger.start()

    def wait_until_it_hangs(self) -> None:
        """Wait for the sync that never comes back, as the plan has it."""
        wait_until(lambda: '"hangs"' in self._notes.read_text(), what="a sync that hangs")

    def strike(self) -> None:
        """Take the power away, and leave the recordings as the disk may have them."""
        self._logger.kill()
        self._disk.replay(self._notes)
        there = read_files(self._logger.recordings)
        told = self._disk.contents()
        assert is_one_call(told, there), (
            f"something writes in another way than the notes tell: {differing(told, there)}"
        )
        replay_what_is_there(self._logger)
        tear_event_files(self._logger.logdir, self._chance)
        shutil.rmtree(self._logger.recordings)
        write_files(self._logger.recordings, self._disk.after_power_loss(self._chance))

    def restore(self, **changes: Any) -> None:
        """Give the power back; ``changes`` are those of the disk's plan."""
        self._notes.unlink()
        self._disk = Disk(self._logger.recordings)
        self._plan = replace(self._plan, **changes)
        self._logger.program = self._plan.command()
        self._logger.start()


def differing(told: Mapping[str, bytes], there: Mapping[str, bytes]) -> list[str]:
    """Return the files that are not as the notes tell."""
    return [path for path in told.keys() | there.keys() if told.get(path) != there.get(path)]


def is_one_call(told: Mapping[str, bytes], there: Mapping[str, bytes]) -> bool:
    """Tell whether what differs, if anything, is a call that the kill separated from its note."""
    match differing(told, there):
        case []:
            return True
        case [path]:  # written, cut, made or deleted
            shorter, longer = sorted((told.get(path, b""), there.get(path, b"")), key=len)
            return longer.startswith(shorter)
        case [one, other]:  # renamed
            return any(
                old not in there and told.get(old) == there.get(new) for old, new in ((one, other), (other, one))
            )
    return False


def read_files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def replay_what_is_there(logger: LoggerProcess) -> None:
    """Have the projection be ahead of what is durable."""
    if any(logger.recordings.rglob("*.segment")):
        replay([logger.recordings], logger.logdir)


def tear_event_files(logdir: Path, chance: random.Random) -> None:
    """Event files are never synced: the newest of a run may lose any part of its end."""
    for folder in sorted({path.parent for path in logdir.rglob("events.out.tfevents.*")}):
        newest = event_files(folder)[-1]
        with newest.open("r+b") as file:
            file.truncate(chance.randint(0, newest.stat().st_size))


def lost(logger: LoggerProcess, acked: Mapping[Stream, int]) -> dict[str, set[int]]:
    """Return by run what was acknowledged and is not in the recordings."""
    found = read_recordings(logger.recordings, [])
    return {
        stream.run: missing
        for stream, following in acked.items()
        if (missing := set(range(1, following)) - (found[stream.id].replayed if stream.id in found else set()))
    }
