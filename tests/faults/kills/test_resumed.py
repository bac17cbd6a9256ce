"""A run is killed, and resumed a hundred steps before: TensorBoard shows one value a step, the newest."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from faults.harness.diary import TAG
from faults.harness.event_ids import read_event_ids
from faults.harness.oracle import Verdict
from faults.harness.trainers import Trainers
from support.machine.waiting import wait_until
from support.running.programs import LoggerProcess
from support.running.tensorboard import Loader, TensorBoard, running_tensorboard

from tensorboard_sidecar.logger_service.offline.verification import verify

RUN = "resumed"
ATTEMPTS, CALLS, REWIND = 3, 500, 100
SCALARS: dict[str, Any] = {
    "matrix_every": 0,
    "text_every": 0,
    "interval_seconds": 0.0,
    "summaries_every": 0,
    "ending": "wait",
}
LOADERS: tuple[Loader, ...] = ("fast", "slow")


@pytest.fixture
def boards(logger: LoggerProcess, tmp_path: Path) -> Iterator[list[TensorBoard]]:
    """Both of TensorBoard's loaders, which look on from before the first event."""
    logger.logdir.mkdir()
    with ExitStack() as running:
        yield [
            running.enter_context(running_tensorboard(logger.logdir, tmp_path / f"{loader}.log", loader))
            for loader in LOADERS
        ]


def shown(board: TensorBoard, run: str = RUN) -> dict[int, list[float]]:
    """Return the values at each step of the curve that TensorBoard draws."""
    found: dict[int, list[float]] = {}
    for _, step, value in board.get("plugin/scalars/scalars", run=run, tag=TAG):
        found.setdefault(step, []).append(value)
    return found


def train(trainers: Trainers, logger: LoggerProcess, attempt: int, first_step: int) -> dict[int, list[float]]:
    """Have an attempt make its calls, and be killed; return what is to be shown of it."""
    plan = {
        "first_step": first_step,
        "steps": CALLS,
        "options": {"attempt": attempt, "outbox_dir": memory_of(trainers, attempt)},
    }
    trainer = trainers.start(RUN, logger.endpoint, **plan, **SCALARS)
    trainer.wait_for_call(CALLS + 1)
    trainer.kill()
    return {first_step + number - 1: [float(number)] for number in range(2, CALLS + 2)}


def memory_of(trainers: Trainers, attempt: int) -> str:
    """Return where an attempt has its outbox, so that no other adopts it."""
    return str(trainers.memory / f"attempt-{attempt}")


def events_of(logger: LoggerProcess) -> int:
    folders = {path.parent for path in logger.logdir.rglob("events.out.tfevents.*")}
    return sum(len(list(read_event_ids(folder, []))) for folder in folders)


def both_show(boards: list[TensorBoard], expected: dict[int, list[float]]) -> None:
    for board in boards:
        try:
            board.wait_for("one value a step", lambda board: shown(board) == expected, seconds=20)
        except AssertionError:
            found = shown(board)
            wrong = {step: found.get(step) for step in expected if found.get(step) != expected[step]}
            pytest.fail(f"{LOADERS[boards.index(board)]} shows at {len(wrong)} steps something else: {wrong!s:.200}")


def test_resumed_a_hundred_steps_before(
    logger: LoggerProcess, trainers: Trainers, judge: Callable[..., Verdict], boards: list[TensorBoard]
) -> None:
    logger.start()
    expected: dict[int, list[float]] = {}
    for attempt in range(ATTEMPTS):
        expected |= train(trainers, logger, attempt, attempt * (CALLS - REWIND))
        trainers.drain(logger.endpoint, Path(memory_of(trainers, attempt)))
    assert logger.stop() == 0
    judge()
    both_show(boards, expected)


def test_both_attempts_are_shipped_when_both_are_over(
    logger: LoggerProcess, trainers: Trainers, judge: Callable[..., Verdict], boards: list[TensorBoard]
) -> None:
    expected = ship(logger, trainers, (0, 1))
    judge()
    both_show(boards, expected)


def test_an_attempt_that_is_shipped_after_the_next_is_shown_beside_it(
    logger: LoggerProcess, trainers: Trainers, judge: Callable[..., Verdict], boards: list[TensorBoard]
) -> None:
    expected = ship(logger, trainers, (1, 0))
    judge()
    first_new = CALLS - REWIND + 1
    both_show(boards, {step: values for step, values in expected.items() if step >= first_new})
    early = {step: [step + 1.0] for step in range(1, CALLS + 1)}
    for board in boards:
        board.wait_for("the first attempt", lambda board: shown(board, f"{RUN}/attempt-0") == early, seconds=30)
    assert not verify(logger.logdir).lossy


def ship(logger: LoggerProcess, trainers: Trainers, order: tuple[int, int]) -> dict[int, list[float]]:
    """Have two attempts without a logger, then ship what they left in this order; return what is to be shown."""
    expected: dict[int, list[float]] = {}
    for attempt in (0, 1):
        expected |= train(trainers, logger, attempt, attempt * (CALLS - REWIND))
    logger.start()
    for number, attempt in enumerate(order, 1):
        trainers.drain(logger.endpoint, Path(memory_of(trainers, attempt)))
        wait_until(lambda number=number: events_of(logger) >= number * CALLS, what="events")  # type: ignore[misc]
    assert logger.stop() == 0
    return expected
