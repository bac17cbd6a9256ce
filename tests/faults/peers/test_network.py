"""A bad network between trainer and logger: what was promised arrives all the same, each once."""

import random
from collections.abc import Callable, Iterator
from time import monotonic, sleep
from typing import Any

import pytest
from faults.harness.effort import rounds
from faults.harness.growth import Growth
from faults.harness.oracle import Verdict
from faults.harness.trainers import Trainer, Trainers
from support.logger.proxy import ANSWERS_LOST, BLACK_HOLE, FAIR, RESETS, TRICKLE, Proxy, Weather
from support.machine.waiting import wait_until
from support.running.programs import LoggerProcess

RESET_SECONDS = rounds(quick=4, full=60)
TRICKLE_SECONDS = rounds(quick=4, full=60)
SILENCES = rounds(quick=1, full=10)
# What is not sent gathers here, then on disk.
OUTBOX_BYTES = 2**20
# A trainer that notices silence hangs up in this time, to connect anew. The kernel's TCP notices after minutes.
NOTICED_SECONDS = 15.0


@pytest.fixture
def proxy(logger: LoggerProcess, chance: random.Random) -> Iterator[Proxy]:
    logger.start()
    with Proxy(logger.port, chance) as proxy:
        yield proxy


def begin(trainers: Trainers, logger: LoggerProcess, proxy: Proxy, run: str, **plan: Any) -> tuple[Trainer, Growth]:
    """Start a trainer behind the proxy; return it, and how both processes grow from when they are busy."""
    trainer = trainers.start(run, proxy.endpoint, options={"outbox_bytes": OUTBOX_BYTES}, **plan)
    logger.wait_recorded()
    assert logger.process is not None
    return trainer, Growth(logger.process.pid, trainer.process.pid)


def end_well(trainer: Trainer, growth: Growth, logger: LoggerProcess, proxy: Proxy) -> None:
    proxy.weather = FAIR
    logger.wait_recorded()
    growth.check()
    assert trainer.finish() == 0
    assert logger.stop() == 0


def test_connections_reset_every_50_to_500_ms(
    logger: LoggerProcess, proxy: Proxy, trainers: Trainers, judge: Callable[..., Verdict]
) -> None:
    trainer, growth = begin(trainers, logger, proxy, "reset")
    proxy.weather = RESETS
    sleep(RESET_SECONDS)
    logger.wait_recorded()
    assert proxy.resets > RESET_SECONDS / 4
    end_well(trainer, growth, logger, proxy)
    judge()


def test_one_byte_at_a_time_with_delay_at_50_kb_a_second(
    logger: LoggerProcess, proxy: Proxy, trainers: Trainers, judge: Callable[..., Verdict]
) -> None:
    trainer, growth = begin(trainers, logger, proxy, "trickle", interval_seconds=0.005)
    proxy.weather = TRICKLE
    sleep(TRICKLE_SECONDS)
    logger.wait_recorded()
    assert proxy.accepted == 1, "nor is it a reason to connect anew"
    end_well(trainer, growth, logger, proxy)
    judge()


@pytest.mark.parametrize("silence", [BLACK_HOLE, ANSWERS_LOST], ids=["black hole", "acknowledgements lost"])
def test_a_silence_is_noticed_in_time(
    logger: LoggerProcess, proxy: Proxy, trainers: Trainers, judge: Callable[..., Verdict], silence: Weather
) -> None:
    trainer, growth = begin(trainers, logger, proxy, "silence")
    for _ in range(SILENCES):
        logger.wait_recorded()
        hung_up, lost = proxy.hung_up, proxy.lost_bytes
        proxy.weather = silence
        wait_until(lambda lost=lost: proxy.lost_bytes > lost, what="loss")  # type: ignore[misc]
        began = monotonic()
        wait_until(lambda hung_up=hung_up: proxy.hung_up > hung_up, what="a trainer that hangs up")  # type: ignore[misc]
        assert monotonic() - began < NOTICED_SECONDS
        proxy.weather = FAIR
    end_well(trainer, growth, logger, proxy)
    judge()
