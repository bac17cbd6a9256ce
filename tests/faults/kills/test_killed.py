"""Logger, trainer, or both are killed at random while records flow: nothing is lost, nothing comes twice."""

import random
from collections.abc import Callable
from pathlib import Path
from time import sleep

from faults.harness.effort import rounds
from faults.harness.oracle import Verdict
from faults.harness.trainers import Trainers
from support.records.events import load_folder
from support.running.programs import LoggerProcess, run_command

from tensorboard_sidecar.logger_service.projection.replay import replay

LOGGER_KILLS = rounds(quick=5, full=200)
TRAINER_KILLS = rounds(quick=6, full=200)
BOTH_KILLS = rounds(quick=3, full=100)


def test_logger_killed_at_random(
    logger: LoggerProcess, trainers: Trainers, chance: random.Random, judge: Callable[..., Verdict], tmp_path: Path
) -> None:
    logger.start()
    trainer = trainers.start("killed", logger.endpoint)
    for _ in range(LOGGER_KILLS):
        if chance.random() < 0.8:  # else at any moment, also before the trainer is back
            logger.wait_recorded()
        sleep(chance.uniform(0.0, 0.2))
        logger.kill()
        logger.start()
    assert trainer.finish() == 0
    assert logger.stop() == 0
    judge()
    replay([logger.recordings], tmp_path / "replayed")
    live, again = load_folder(logger.logdir / "killed"), load_folder(tmp_path / "replayed" / "killed")
    assert [event.SerializeToString() for event in live] == [event.SerializeToString() for event in again]
    verified = run_command("verify", logger.recordings, logger.logdir)
    assert verified.returncode == 0, verified.stdout


def test_trainer_killed_at_random(
    logger: LoggerProcess, trainers: Trainers, chance: random.Random, judge: Callable[..., Verdict]
) -> None:
    """Whatever came back is recovered from shared memory, by hand or by the next trainer."""
    logger.start()
    for attempt in range(TRAINER_KILLS):
        trainer = trainers.start("killed", logger.endpoint, options={"attempt": attempt}, interval_seconds=0.0)
        sleep(chance.uniform(0.0, 0.2))
        trainer.kill()
    trainers.drain(logger.endpoint)
    assert logger.stop() == 0
    assert judge().streams == TRAINER_KILLS


def test_both_killed_at_once(
    logger: LoggerProcess, trainers: Trainers, chance: random.Random, judge: Callable[..., Verdict]
) -> None:
    for attempt in range(BOTH_KILLS):
        logger.start()
        trainer = trainers.start("killed", logger.endpoint, options={"attempt": attempt}, interval_seconds=0.0)
        sleep(chance.uniform(0.0, 0.3))
        victims = [trainer.process, logger.process]
        chance.shuffle(victims)
        for victim in victims:
            victim.kill()
        trainer.process.join()
        logger.process.wait()
    logger.start()
    trainers.drain(logger.endpoint)
    assert logger.stop() == 0
    assert judge().streams == BOTH_KILLS
