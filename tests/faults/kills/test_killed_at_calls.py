"""The logger is killed before, in and after each call that writes, makes durable or names a file of the journal."""

import json
import random
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from faults.harness.acknowledged import check_acknowledged
from faults.harness.disk_shim import MOMENTS, Moment, Plan
from faults.harness.effort import SOAKING
from support.logger.key_ring import KeyRing
from support.logger.peer import Peer
from support.machine.waiting import wait_until
from support.running.programs import LoggerProcess

from tensorboard_sidecar.protocol.stream import Stream

QUICK: Final = 8
AT_A_TIME: Final = 4
RUNS: Final = ("one", "team/two", "team/three")
NEXT_SEQUENCE: Final = 61


def shimmed_logger(folder: Path, plan: Plan, ring: KeyRing) -> LoggerProcess:
    """Return a logger that knows trainers by their keys, so that there is the name of a key to write as well."""
    folder.mkdir()
    logger = LoggerProcess(folder)
    logger.flags = ("--keys", str(ring.logger))
    logger.program = replace(plan, root=str(logger.recordings)).command()
    return logger


@contextmanager
def nursed(logger: LoggerProcess) -> Iterator[list[int]]:
    """Start a logger, and again, on a well disk, when it ends before the block does; yields how it ended."""
    codes: list[int] = []
    enough = threading.Event()

    def heal() -> None:
        assert logger.process is not None
        codes.append(logger.process.wait())
        logger.program = Plan(str(logger.recordings), project=False).command()
        logger.start()

    def nurse() -> None:
        process = logger.process
        assert process is not None
        wait_until(lambda: process.poll() is not None or enough.is_set(), seconds=120)
        if not enough.is_set():
            heal()

    try:
        logger.start()
    except AssertionError:
        heal()
    thread = threading.Thread(target=nurse)
    thread.start()
    try:
        yield codes
    finally:
        enough.set()
        thread.join()


def deliver(logger: LoggerProcess, ring: KeyRing) -> dict[Stream, int]:
    """Deliver some streams, one after the other and in small runs; return what was acknowledged."""
    peers = [Peer(logger.endpoint, Stream(run), ring.client_keys()) for run in RUNS]
    for peer in peers:
        peer.deliver(NEXT_SEQUENCE, records_a_run=30, window=1)
        peer.close()
    return {peer.stream: peer.acked_sequence for peer in peers}


def count_calls(folder: Path, ring: KeyRing) -> int:
    """Return how many calls there are when nothing goes wrong."""
    notes = folder / "notes"
    logger = shimmed_logger(folder, Plan("", notes=str(notes), project=False), ring)
    logger.start()
    deliver(logger, ring)
    assert logger.stop() == 0
    return int(json.loads(notes.read_text().splitlines()[-1])[0])


def die_and_recover(folder: Path, ring: KeyRing, number: int, moment: Moment) -> bool:
    """Have a logger killed at a call, and started again; tell whether it was. All must be there, once."""
    logger = shimmed_logger(folder, Plan("", kill_at=number, moment=moment, project=False), ring)
    with nursed(logger) as codes:
        acked = deliver(logger, ring)
    assert codes in ([], [-signal.SIGKILL]), logger.log.read_text()
    assert logger.stop() in (0, -signal.SIGKILL)
    assert set(acked.values()) == {NEXT_SEQUENCE}
    check_acknowledged(acked, logger.recordings, logger.logdir)
    return bool(codes) or logger.process.returncode == -signal.SIGKILL


def test_a_logger_killed_at_any_call_loses_and_doubles_nothing(tmp_path: Path, chance: random.Random) -> None:
    ring = KeyRing(tmp_path)
    ring.make_trainer()
    calls = count_calls(tmp_path / "rehearsal", ring)
    points = [(number, moment) for number in range(1, calls + 1) for moment in MOMENTS]
    chosen = points if SOAKING else chance.sample(points, QUICK)
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        deaths = {
            point: pool.submit(die_and_recover, tmp_path / f"{point[1]}-{point[0]}", ring, *point) for point in chosen
        }
        alive = [point for point, death in deaths.items() if not death.result()]
    print(f"{len(deaths) - len(alive)} deaths at {len(chosen)} of {len(points)} moments, alive at {alive}")
    assert not alive
