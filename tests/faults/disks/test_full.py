"""Memory for what is not yet shipped is full: pictures are refused first, scalars last, and gaps tell of each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from faults.harness.oracle import Verdict
from faults.harness.trainers import Trainer, Trainers
from support.running.programs import LoggerProcess

OUTBOX_BYTES = 2**20
# An eighth of the outbox: what goes to disk at a time.
SEGMENT_BYTES = OUTBOX_BYTES // 8
# 32 KiB a matrix, some seventy bytes a scalar: matrices fill the memory in a thousand calls.
LARGE = {"matrix_side": 128, "matrix_every": 40, "summaries_every": 0}
STEPS_OF_MATRICES, STEPS_OF_SCALARS = 3000, 30_000
# So long that the disk keeps up.
SLOW = {"interval_seconds": 0.001}


def fill(
    trainers: Trainers,
    logger: LoggerProcess,
    steps: int,
    *,
    interval_seconds: float = 0.0,
    may_refuse: bool = True,
    **options: Any,
) -> Trainer:
    """Have a trainer make its calls while there is no logger; return it when they came back, and it waits."""
    sizes = {"outbox_bytes": OUTBOX_BYTES, "spill_bytes": 0, **options}
    plan = {"steps": steps, "interval_seconds": interval_seconds, "ending": "wait", "options": sizes, **LARGE}
    trainer = trainers.start("full", logger.endpoint, may_refuse=may_refuse, **plan)
    trainer.wait_for_call(steps)
    return trainer


def spilled_bytes(spill: Path) -> int:
    return sum(path.stat().st_size for path in spill.rglob("*.segment"))


def test_pictures_are_refused_first_and_scalars_last(
    logger: LoggerProcess, trainers: Trainers, judge: Callable[..., Verdict]
) -> None:
    pictures, everything = (fill(trainers, logger, steps) for steps in (STEPS_OF_MATRICES, STEPS_OF_SCALARS))
    logger.start()
    assert [trainer.finish() for trainer in (pictures, everything)] == [0, 0]
    assert logger.stop() == 0
    refused = judge().refused
    assert "scalars" not in refused[pictures.returned.stream]
    assert refused[pictures.returned.stream]["matrix"] > STEPS_OF_MATRICES / 80
    assert refused[everything.returned.stream]["scalars"] > STEPS_OF_SCALARS / 20


def test_pictures_are_refused_first_when_the_disk_is_full_as_well(
    logger: LoggerProcess, trainers: Trainers, judge: Callable[..., Verdict], tmp_path: Path
) -> None:
    """Memory, then the folder on disk, then memory again: no scalar is refused before either is full of scalars."""
    spill, spill_bytes = tmp_path / "spill", 4 * SEGMENT_BYTES
    options = {"spill_dir": str(spill), "spill_bytes": spill_bytes}
    trainer = fill(trainers, logger, STEPS_OF_MATRICES, **SLOW, **options)
    assert spilled_bytes(spill) > spill_bytes - SEGMENT_BYTES, "no other segment fits"
    logger.start()
    assert trainer.finish() == 0
    assert logger.stop() == 0
    refused = judge().refused[trainer.returned.stream]
    assert "scalars" not in refused
    assert refused["matrix"] > STEPS_OF_MATRICES / 160


def test_what_memory_cannot_hold_lies_on_disk(
    logger: LoggerProcess, trainers: Trainers, judge: Callable[..., Verdict], tmp_path: Path
) -> None:
    spill = tmp_path / "spill"
    options = {"spill_dir": str(spill), "spill_bytes": 64 * 2**20}
    trainer = fill(trainers, logger, STEPS_OF_MATRICES // 2, may_refuse=False, interval_seconds=0.002, **options)
    assert any(spill.rglob("*.segment"))
    logger.start()
    assert trainer.finish() == 0
    assert logger.stop() == 0
    assert judge().gaps == 0
    assert not any(spill.rglob("*.segment"))


def test_trainers_killed_with_memory_and_with_memory_and_disk_full(
    logger: LoggerProcess, trainers: Trainers, judge: Callable[..., Verdict], tmp_path: Path
) -> None:
    spill = tmp_path / "spill"
    fill(trainers, logger, STEPS_OF_SCALARS).kill()
    fill(trainers, logger, STEPS_OF_SCALARS, spill_dir=str(spill), spill_bytes=2**20).kill()
    assert any(spill.rglob("*.segment"))
    logger.start()
    trainers.drain(logger.endpoint)
    assert logger.stop() == 0
    assert judge().gaps > 2 * STEPS_OF_SCALARS / 20
