"""A bad network between trainer and logger: what was promised arrives all the same, each once."""

import random
from collections.abc import Callable, Iterator
from time import monotonic, sleep

import pytest
from faults.effort import rounds
from faults.oracle import Verdict
from faults.trainers import Trainer, Trainers
from support.programs import LoggerProcess
from support.proxy import ANSWERS_LOST, BLACK_HOLE, FAIR, RESETS, TRICKLE, Proxy, Weather
from support.waiting import wait_until

RESET_SECONDS = rounds(quick=4, full=60)
TRICKLE_SECONDS = rounds(quick=4, full=60)
SILENCES = rounds(quick=1, full=10)
# Within which a trainer must notice that nobody answers, and hang up to connect anew.
NOTICED_SECONDS = 6.0


@pytest.fixture
def proxy(logger: LoggerProcess, chance: random.Random) -> Iterator[Proxy]:
    logger.start()
    with Proxy(logger.port, chance) as proxy:
        yield proxy


def end_well(trainer: Trainer, logger: LoggerProcess, proxy: Proxy) -> None:
    proxy.weather = FAIR
    assert trainer.finish() == 0
    assert logger.stop() == 0


def test_connections_reset_every_50_to_500_ms(
    logger: LoggerProcess, proxy: Proxy, trainers: Trainers, judge: Callable[..., Verdict]
) -> None:
    trainer = trainers.start("reset", proxy.endpoint)
    proxy.weather = RESETS
    sleep(RESET_SECONDS)
    logger.wait_recorded()
    assert proxy.resets > RESET_SECONDS / 4
    end_well(trainer, logger, proxy)
    judge()


def test_one_byte_at_a_time_with_delay_at_50_kb_a_second(
    logger: LoggerProcess, proxy: Proxy, trainers: Trainers, judge: Callable[..., Verdict]
) -> None:
    trainer = trainers.start("trickle", proxy.endpoint, interval_seconds=0.005)
    proxy.weather = TRICKLE
    sleep(TRICKLE_SECONDS)
    logger.wait_recorded()
    assert proxy.accepted == 1, "nor is it a reason to connect anew"
    end_well(trainer, logger, proxy)
    judge()


@pytest.mark.parametrize("silence", [BLACK_HOLE, ANSWERS_LOST], ids=["black hole", "acknowledgements lost"])
def test_a_silence_is_noticed_in_time(
    logger: LoggerProcess, proxy: Proxy, trainers: Trainers, judge: Callable[..., Verdict], silence: Weather
) -> None:
    trainer = trainers.start("silence", proxy.endpoint)
    for _ in range(SILENCES):
        logger.wait_recorded()
        hung_up, lost = proxy.hung_up, proxy.lost_bytes
        proxy.weather = silence
        wait_until(lambda lost=lost: proxy.lost_bytes > lost, what="loss")  # type: ignore[misc]
        began = monotonic()
        wait_until(lambda hung_up=hung_up: proxy.hung_up > hung_up, what="a trainer that hangs up")  # type: ignore[misc]
        assert monotonic() - began < NOTICED_SECONDS
        proxy.weather = FAIR
    end_well(trainer, logger, proxy)
    judge()
