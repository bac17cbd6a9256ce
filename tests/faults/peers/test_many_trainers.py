"""A hundred trainers on one logger that is killed on the way: each of their records is there, once.

They are processes with a real telemetry each, all forked from one that has imported torch.
"""

import random
from collections.abc import Callable
from time import sleep

from faults.harness.effort import rounds
from faults.harness.oracle import Verdict
from faults.harness.trainers import Trainers
from support.running.programs import LoggerProcess

TRAINERS = 100
RECORDS = 1000
KILLS = rounds(quick=2, full=10)
# The segments that a trainer takes at once are a part of this: a hundred trainers take little.
SMALL = {"outbox_bytes": 4 * 2**20}


def test_a_hundred_trainers_and_the_logger_killed_on_the_way(
    logger: LoggerProcess, trainers: Trainers, chance: random.Random, judge: Callable[..., Verdict]
) -> None:
    logger.start()
    plan = {"steps": RECORDS - 2, "matrix_every": 0, "summaries_every": 0, "options": SMALL}
    for number in range(TRAINERS):
        trainers.start(f"many/{number}", logger.endpoint, wait=False, **plan)
    for _ in range(KILLS):
        sleep(chance.uniform(0.3, 2.0))
        logger.kill()
        logger.start()
    assert [trainer.finish() for trainer in trainers.started] == [0] * TRAINERS
    assert logger.stop() == 0
    verdict = judge()
    assert verdict.streams == TRAINERS
    assert verdict.replayed == TRAINERS * RECORDS
