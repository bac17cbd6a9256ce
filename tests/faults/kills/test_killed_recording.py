"""Trainers that record are killed at random: the recording is finished by who comes next, and lacks nothing then."""

import random
from pathlib import Path
from time import sleep

from faults.harness.effort import rounds
from faults.harness.oracle import check
from faults.harness.trainers import Trainers
from support.machine.waiting import wait_until
from support.running.programs import LoggerProcess

from tensorboard_sidecar.__main__ import main as drain
from tensorboard_sidecar.protocol.outbox.orphan import find_outboxes

KILLS = rounds(quick=3, full=200)
BOTH_KILLS = rounds(quick=2, full=100)


def kill_some(trainers: Trainers, chance: random.Random, record: Path, kills: int, endpoint: str | None = None) -> None:
    """Start trainers one after another, and kill each within the second; some have synced what they wrote, or not."""
    for attempt in range(kills):
        options = {"record": record, "attempt": attempt}
        trainer = trainers.start("killed", endpoint, options=options, interval_seconds=chance.choice([0.0, 0.001]))
        sleep(chance.uniform(0.0, 0.8))
        trainer.kill()


def test_what_killed_trainers_recorded_is_finished_by_hand(
    trainers: Trainers, chance: random.Random, tmp_path: Path
) -> None:
    kill_some(trainers, chance, tmp_path / "recordings", KILLS)
    assert drain(["drain", str(trainers.memory)]) == 0
    assert find_outboxes(trainers.memory) == []
    verdict = check(trainers.returned, tmp_path / "recordings", None)
    print(verdict)
    assert verdict.streams == KILLS


def test_what_killed_trainers_recorded_is_finished_by_the_next_one(
    trainers: Trainers, chance: random.Random, tmp_path: Path
) -> None:
    """Which may be killed itself while it does so."""
    kill_some(trainers, chance, tmp_path / "recordings", KILLS)
    last = trainers.start("killed", None, options={"record": tmp_path / "recordings", "attempt": KILLS})
    wait_until(lambda: len(find_outboxes(trainers.memory)) == 1, seconds=120, what="all recordings but its own")
    assert last.finish() == 0
    assert find_outboxes(trainers.memory) == []
    assert check(trainers.returned, tmp_path / "recordings", None).streams == KILLS + 1


def test_what_was_sent_and_recorded_is_whole_in_both_places(
    logger: LoggerProcess, trainers: Trainers, chance: random.Random, tmp_path: Path
) -> None:
    """The logger adopts what is for it, and leaves recordings to their trainers; these, and a user, see to both."""
    logger.adopt = str(trainers.memory)
    logger.start()
    kill_some(trainers, chance, tmp_path / "alone", 2)
    kill_some(trainers, chance, tmp_path / "local", BOTH_KILLS, logger.endpoint)
    sleep(chance.uniform(0.0, 8.0))  # the logger has begun to adopt, or has not
    trainers.drain(logger.endpoint)
    assert logger.stop() == 0
    alone, both = trainers.returned[:2], trainers.returned[2:]
    assert check(alone, tmp_path / "alone", None).streams == 2
    assert check(both, tmp_path / "local", None).streams == BOTH_KILLS
    assert check(both, logger.recordings, logger.logdir).streams == BOTH_KILLS
