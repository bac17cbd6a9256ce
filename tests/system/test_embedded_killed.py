"""``SummaryWriter`` with real kills: what a call returned is shown, once, by this helper or by the next."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.machine.waiting import wait_until
from support.running.embedded import SECONDS, Workplace, shown, workplace
from support.running.forked import ForkedProgram

from tensorboard_sidecar.protocol.names import RECORDING_NAME

pytestmark = pytest.mark.system

LOGGING = """
writer = SummaryWriter(sys.argv[1])
step = 0
while True:
    writer.add_scalar("loss", float(step), step)
    print(step, flush=True)
    step += 1
    sleep(float(sys.argv[2]))
"""
COMPLETE = """
with SummaryWriter(sys.argv[1]) as writer:
    writer.add_scalar("other", 1.0, 1)
"""
CLOSING = """
import logging
logging.basicConfig()
writer = SummaryWriter(sys.argv[1])
for step in range(int(sys.argv[2])):
    writer.add_scalar("loss", float(step), step)
print("closing", flush=True)
writer.close()
print("closed", flush=True)
sleep(600)
"""


@pytest.fixture
def place() -> Iterator[Workplace]:
    with workplace() as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "first"


def steps_until(program: ForkedProgram, step: int) -> int:
    while (said := int(program.stdout.readline())) < step:
        continue
    return said


def kill(program: ForkedProgram, said: int = 0) -> int:
    """Kill a program that prints its steps, the last one read was ``said``; return the last that it printed."""
    program.kill()
    return int([str(said), *program.stdout.read().rpartition("\n")[0].splitlines()][-1])


def assert_all_is_shown_once(folder: Path, last_step: int) -> None:
    values = shown(folder)
    assert values == [float(step) for step in range(len(values))]
    assert len(values) > last_step


def test_a_helper_that_is_killed_is_started_again_and_shows_everything_once(place: Workplace, folder: Path) -> None:
    with place.start(LOGGING, folder, "0.001") as program:
        for _ in range(2):
            helper = place.wait_for_helper()
            before = len(shown(folder))
            wait_until(lambda before=before: len(shown(folder)) > before, seconds=SECONDS, what="events")
            place.kill()
            wait_until(
                lambda helper=helper: place.helpers not in ([], [helper]), seconds=SECONDS, what="the next helper"
            )
        last_step = kill(program)
        wait_until(lambda: len(shown(folder)) > last_step, seconds=SECONDS, what="the tail")
    assert_all_is_shown_once(folder, last_step)
    wait_until(lambda: not place.notes, what="a settled folder")
    assert not list(place.outboxes.rglob("*.segment"))


def test_a_trainer_that_is_killed_before_a_helper_listens_is_shown_by_the_helper_that_it_started(
    place: Workplace, folder: Path
) -> None:
    with place.start(LOGGING, folder, "0") as program:
        wait_until(lambda: place.helpers, seconds=SECONDS, what="a process")
        assert not place.sockets
        last_step = kill(program)
    wait_until(lambda: len(shown(folder)) > last_step, seconds=SECONDS, what="the tail")
    assert_all_is_shown_once(folder, last_step)


def test_when_both_are_killed_the_next_start_in_another_folder_shows_everything(
    place: Workplace, folder: Path, tmp_path: Path
) -> None:
    with place.start(LOGGING, folder, "0") as program:
        place.wait_for_helper()
        wait_until(lambda: shown(folder), seconds=SECONDS, what="events")
        os.kill(place.helpers[0], signal.SIGSTOP)
        last_step = kill(program, steps_until(program, 1000))
        place.kill()
    assert len(shown(folder)) <= last_step
    said = place.command("status").stdout
    assert f"{folder}: event files may lack records; tensorboard-sidecar replay {folder}" in said
    assert place.run(COMPLETE, tmp_path / "second").returncode == 0
    wait_until(lambda: len(shown(folder)) > last_step, seconds=SECONDS, what="the tail")
    assert_all_is_shown_once(folder, last_step)
    wait_until(lambda: not place.notes, what="a settled folder")


def test_a_killed_trainer_without_a_helper_is_shown_by_drain_and_replay(place: Workplace, folder: Path) -> None:
    with place.start("sys.executable = ''\n" + LOGGING, folder, "0") as program:
        last_step = kill(program, steps_until(program, 100))
    assert not place.helpers
    assert place.command("drain").returncode == 0
    replayed = place.command("replay", folder)
    assert replayed.returncode == 0, replayed.stderr
    assert_all_is_shown_once(folder, last_step)
    again = place.command("replay", folder)
    assert "already there, 0 new records" in again.stdout
    assert place.command("verify", folder / RECORDING_NAME, folder).returncode == 0


def test_a_helper_that_is_killed_during_the_close_is_replaced_and_the_close_is_complete(
    place: Workplace, folder: Path
) -> None:
    with place.start(CLOSING, folder, "20000") as program:
        place.wait_for_helper()
        assert program.stdout.readline() == "closing\n"
        wait_until(lambda: shown(folder), seconds=SECONDS, what="events")
        place.kill()
        assert program.stdout.readline() == "closed\n"
        assert_all_is_shown_once(folder, 19_999)


def test_a_stopped_helper_bounds_the_close_and_goes_on_later(place: Workplace, folder: Path) -> None:
    program = CLOSING.replace("SummaryWriter(sys.argv[1])", "SummaryWriter(sys.argv[1], close_seconds=2.0)")
    program = program.replace("sleep(600)", "").replace("for step", "sleep(5)\nfor step", 1)
    process = place.begin(program, folder, "100")
    helper = place.wait_for_helper()
    os.kill(helper, signal.SIGSTOP)
    output, errors = process.communicate(timeout=60)
    assert output == "closing\nclosed\n"
    assert "are not complete yet" in errors
    assert f"tensorboard-sidecar replay {folder}" in errors
    assert len(errors.splitlines()) == 1, errors
    os.kill(helper, signal.SIGCONT)
    wait_until(lambda: len(shown(folder)) == 100, seconds=SECONDS, what="events")


def test_ctrl_c_ends_the_trainer_with_its_tail_shown_and_not_the_helper(place: Workplace, folder: Path) -> None:
    process = place.begin(LOGGING, folder, "0.001", start_new_session=True)
    try:
        helper = place.wait_for_helper()
        assert process.stdout is not None
        while (said := int(process.stdout.readline())) < 100:
            continue
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=90)
    finally:
        process.kill()
    assert "KeyboardInterrupt" in errors
    assert "not complete" not in errors
    assert place.helpers == [helper]
    assert_all_is_shown_once(folder, int([str(said), *output.rpartition("\n")[0].splitlines()][-1]))


def test_a_program_that_ends_without_close_is_shown_when_it_has_ended(place: Workplace, folder: Path) -> None:
    """Also one of a notebook's kernel: lines that are typed, and an end that closes nothing."""
    for way in (("-i",), ("-m", "code")):
        typed = [
            "from tensorboard_sidecar import SummaryWriter",
            f"writer = SummaryWriter({str(folder / way[-1])!r})",
            "for step in range(50): writer.add_scalar('loss', float(step), step)",
            "",
            "exit()",
            "",
        ]
        done = subprocess.run(
            [sys.executable, *way],
            input="\n".join(typed),
            env=place.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "Error" not in done.stderr, done.stderr
        assert_all_is_shown_once(folder / way[-1], 49)


def test_a_close_that_may_not_wait_is_completed_by_the_helper_that_starts_meanwhile(
    place: Workplace, folder: Path
) -> None:
    program = (
        "writer = SummaryWriter(sys.argv[1], close_seconds=0.5)\nwriter.add_scalar('loss', 0.0, 0)\nwriter.close()"
    )
    assert place.run(program, folder).returncode == 0
    wait_until(lambda: shown(folder) == [0.0], seconds=SECONDS, what="the event")
    place.wait_for_end()
    assert not place.notes
