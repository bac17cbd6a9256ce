"""A trainer's own disks are full, fail or take nothing: the one memory goes on to, and the one it records on.

Calls come back all the same, what memory cannot hold is told by class, and all goes on when the disk is well.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults.harness.diary import Returned
from faults.harness.effort import SOAKING
from faults.harness.oracle import Verdict, check
from faults.harness.trainer_process import TrainerProcess
from faults.harness.trainer_program import Plan
from faults.harness.trainers import Trainer, Trainers
from support.machine.sick_disks import FILLER, small_disk
from support.machine.waiting import wait_until
from support.running.programs import LoggerProcess

from tensorboard_sidecar.logger_service.projection.replay import replay
from tensorboard_sidecar.protocol.outbox.orphan import find_outboxes

ERRORS = ["ENOSPC", "EIO", "EDQUOT", "EROFS"]
OUTBOX_BYTES = 4 * 2**20
STEPS = 1500
# 32 KiB a matrix: they fill the memory in a thousand calls.
LARGE: dict[str, Any] = {"matrix_side": 128, "matrix_every": 10, "summaries_every": 0}


class SickFolder:
    """A folder whose disk takes nothing more while it is sick."""

    def __init__(self, folder: Path, error: str) -> None:
        self.folder = folder
        self._sign = folder.with_suffix(".sick")
        self.plan = {"root": str(folder), "sick_while": str(self._sign), "error": error}

    def sicken(self) -> None:
        """From now on."""
        self._sign.touch()

    def heal(self) -> None:
        """All is well again."""
        self._sign.unlink()

    def holds_segments(self) -> bool:
        """Tell whether anything was put there."""
        return any(self.folder.rglob("*.segment"))


def test_memory_that_cannot_go_on_to_disk(
    logger: LoggerProcess, trainers: Trainers, judge: Callable[..., Verdict], tmp_path: Path
) -> None:
    """One trainer for each thing that a disk says. Nobody is there to ship to, so what memory refuses must be told."""
    spills = [SickFolder(tmp_path / error, error) for error in ERRORS]
    started: list[Trainer] = []
    for spill in spills:
        spill.folder.mkdir()
        options = {"outbox_bytes": OUTBOX_BYTES, "spill_dir": str(spill.folder), "spill_bytes": 64 * 2**20}
        # Slow enough that scalars alone do not fill their share, also where the machine takes its time to heal disks.
        plan = {"interval_seconds": 0.002, "disk": spill.plan, "may_refuse": True, "options": options, **LARGE}
        started.append(trainers.start(spill.folder.name, logger.endpoint, **plan))
        spill.sicken()
    for trainer in started:
        trainer.wait_for_call(STEPS)
    assert not any(spill.holds_segments() for spill in spills), "of what could not be made durable nothing is left"
    for spill in spills:
        spill.heal()
    for spill in spills:
        wait_until(spill.holds_segments, seconds=60, what="another try")
    logger.start()
    assert [trainer.finish() for trainer in started] == [0] * len(started)
    assert logger.stop() == 0
    refused = judge().refused
    for trainer in started:
        assert refused[trainer.returned.stream]["matrix"] > 0
        assert "scalars" not in refused[trainer.returned.stream]


@pytest.mark.parametrize("error", ERRORS if SOAKING else ["ENOSPC", "EDQUOT"])
def test_a_recording_whose_disk_is_sick_for_a_while(trainers: Trainers, tmp_path: Path, error: str) -> None:
    """No logger, no network: what cannot be written waits in memory, and none of it is lost."""
    records = SickFolder(tmp_path / "records", error)
    records.folder.mkdir()
    options = {"record": str(records.folder)}
    trainer = trainers.start("recorded", None, disk=records.plan, options=options)
    trainer.wait_returned(300)
    records.sicken()
    trainer.wait_returned(1000)
    records.heal()
    trainer.wait_returned(300)
    assert trainer.finish() == 0
    print(judged(trainers.returned, records.folder, tmp_path / "runs"))


def judged(returned: list[Returned], recordings: Path, logdir: Path) -> Verdict:
    """Replay what was recorded, and ask the oracle."""
    assert not [one for one in replay([recordings], logdir) if one.failure]
    return check(returned, recordings, logdir)


def test_a_recording_on_a_disk_that_is_really_full(memory: Path, tmp_path: Path) -> None:
    """A file system of its own, with no room left; then somebody deletes a file."""
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    prefix = small_disk(disk, size_kib=16_384, free_kib=64, copy=copy)
    options = {"record": str(disk / "records")}
    plan = Plan("recorded", None, memory, tmp_path / "full.diary", steps=STEPS, ending="wait", options=options)
    with TrainerProcess(plan, prefix) as trainer:
        trainer.wait_for_call(STEPS)
        wait_until(lambda: "No space left on device; trying again" in trainer.said(), what="a full disk")
        (trainer.seen(disk) / FILLER).unlink()
        assert trainer.finish() == 0, trainer.said()
    print(judged([trainer.returned], copy / "records", tmp_path / "runs"))
    assert not find_outboxes(memory), "all of it is recorded"
