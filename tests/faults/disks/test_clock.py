"""Clocks that jump by a day, forward and back: records stay in order, names of event files only grow."""

from pathlib import Path
from time import time_ns

from faults.harness.acknowledged import check_acknowledged
from faults.harness.diary import Returned, read_diary
from faults.harness.disk_shim import Plan as LoggerPlan
from faults.harness.oracle import check
from faults.harness.trainer_program import Plan, train
from support.logger.delivering import delivering
from support.logger.peer import Peer
from support.machine import children
from support.machine.waiting import wait_until
from support.records.events import event_files, load_folder
from support.running.programs import LoggerProcess

from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.telemetry import pipeline

DAY_SECONDS = 86_400
CLOCKS = [0, DAY_SECONDS, -DAY_SECONDS]
LOGGERS_CLOCKS = [DAY_SECONDS, -DAY_SECONDS, 2 * DAY_SECONDS]
RUN = "clock"
STEPS = 100


def begun_files(folder: Path) -> list[Path]:
    """Return the event files that have events: an empty one that a kill left is taken by the next projection."""
    return [path for path in event_files(folder) if path.stat().st_size]


def add_new_names(folder: Path, names: list[str]) -> None:
    """Put the names of the event files that are new behind those that are known."""
    names += [path.name for path in begun_files(folder) if path.name not in names]


def projects_at(logger: LoggerProcess, clock_seconds: int) -> bool:
    """Tell whether the projection runs at this clock; it has no command line in the moment in which it is started."""
    return f'"clock_seconds": {clock_seconds},' in Path(f"/proc/{logger.projection}/cmdline").read_text()


def test_the_loggers_clock(logger: LoggerProcess) -> None:
    """It stands elsewhere after each kill, for the projection as well, while one trainer goes on."""
    names: list[str] = []
    with Peer(logger.endpoint, Stream(RUN)) as peer:
        with delivering(peer):
            for clock_seconds in LOGGERS_CLOCKS:
                if logger.process is not None:
                    logger.kill()
                logger.program = LoggerPlan(str(logger.recordings), clock_seconds=clock_seconds).command()
                logger.start()
                wait_until(lambda clock=clock_seconds: projects_at(logger, clock))  # type: ignore[misc]
                wait_until(lambda: len(begun_files(logger.logdir / RUN)) > len(names))
                add_new_names(logger.logdir / RUN, names)
        assert logger.stop() == 0
        check_acknowledged({peer.stream: peer.acked_sequence}, logger.recordings, logger.logdir)
    assert len(names) == len(LOGGERS_CLOCKS)
    assert names == sorted(names)


def test_the_trainers_clock(logger: LoggerProcess, memory: Path, tmp_path: Path) -> None:
    """It stands elsewhere for each attempt, and jumps half a day back in the middle of each."""
    names: list[str] = []
    returned: list[Returned] = []
    logger.start()
    for attempt, clock_seconds in enumerate(CLOCKS):
        plan = Plan(
            RUN,
            logger.endpoint,
            memory,
            tmp_path / f"{attempt}.diary",
            steps=STEPS,
            first_step=STEPS * attempt,
            options={"attempt": attempt},
        )
        assert children.fork(lambda plan=plan, clock=clock_seconds: train_at(clock, plan)) == 0  # type: ignore[misc]
        returned += filter(None, [read_diary(plan.diary)])
        wait_until(lambda attempt=attempt: len(begun_files(logger.logdir / RUN)) > attempt)  # type: ignore[misc]
        add_new_names(logger.logdir / RUN, names)
    assert logger.stop() == 0
    print(check(returned, logger.recordings, logger.logdir))
    assert len(names) == len(CLOCKS)
    assert names == sorted(names)
    events = load_folder(logger.logdir / RUN)
    times = [event.wall_time for event in events]
    assert max(times) - min(times) > DAY_SECONDS
    steps = [event.step for event in events if event.WhichOneof("what") == "summary"]
    assert steps == sorted(steps)


def train_at(clock_seconds: int, plan: Plan) -> None:
    """Train while the clock is wrong by so much, and by half a day less from the middle on."""
    calls = 0

    def clock() -> int:
        nonlocal calls
        calls += 1
        return time_ns() + (clock_seconds - (calls > STEPS // 2) * DAY_SECONDS // 2) * 10**9

    pipeline.time_ns = clock  # type: ignore[attr-defined]
    train(plan)
