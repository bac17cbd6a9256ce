"""``SummaryWriter`` where something is wrong: no helper, no room, no folder. It is said once, and nothing is lost."""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.machine.waiting import wait_until
from support.running.embedded import SECONDS, Workplace, shown, workplace

from tensorboard_sidecar.protocol.helper.place import LOCK_NAME, SOCKET_NAME
from tensorboard_sidecar.protocol.names import RECORDING_NAME

pytestmark = pytest.mark.system

PROGRAM = """
from time import monotonic
writer = SummaryWriter(sys.argv[1])
for step in range(100):
    writer.add_scalar("loss", float(step), step)
started = monotonic()
writer.close()
print(monotonic() - started)
"""
HUNDRED = [float(step) for step in range(100)]


@pytest.fixture
def place() -> Iterator[Workplace]:
    with workplace() as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "first"


WITHOUT_HELPER = {
    "no program": ("sys.executable = ''", "does not know its own program"),
    "a program that is not there": ("sys.executable = '/no/such/python'", "No such file or directory"),
    "a program that is none": ("sys.executable = '/bin/false'", "ended with code 1"),
    "a missing library": (
        (
            "from tensorboard_sidecar.telemetry.shipping import helper_link\n"
            "helper_link._PROGRAM = 'import sys; sys.modules[\"tensorboardX\"] = None; ' + helper_link._PROGRAM"
        ),
        "ended with code",
    ),
    "no place": (
        (
            "from tensorboard_sidecar.protocol.helper import place\nimport pathlib\n"
            "os.environ['XDG_RUNTIME_DIR'] = ''\nplace._SHARED_MEMORY = pathlib.Path('/nowhere')\n"
            "place.tempfile.tempdir = '/nowhere'"
        ),
        "no folder for the socket of a helper",
    ),
    "no private place": (
        (
            "from tensorboard_sidecar.protocol.helper import place\nimport pathlib\n"
            "place._SHARED_MEMORY = pathlib.Path('/nowhere')\nplace.tempfile.tempdir = '/nowhere'\n"
            "place.helper_root().chmod(0o777)"
        ),
        "is not a private folder of this user",
    ),
}


@pytest.mark.parametrize("fault", WITHOUT_HELPER)
def test_without_a_helper_it_is_said_once_and_the_close_does_not_wait(
    place: Workplace, folder: Path, fault: str
) -> None:
    prepare, reason = WITHOUT_HELPER[fault]
    done = place.run(f"{prepare}\n{PROGRAM}", folder)
    assert done.returncode == 0, done.stderr
    [said] = done.stderr.splitlines()
    assert reason in said
    assert f"tensorboard-sidecar replay {folder}" in said
    assert float(done.stdout) < 20
    assert shown(folder) == []
    place.wait_for_end()  # of one that is tried once more
    replayed = place.command("replay", folder)
    assert replayed.returncode == 0, replayed.stderr
    assert shown(folder) == HUNDRED
    assert not list(place.outboxes.rglob("*.segment"))


def test_a_stale_socket_and_a_lock_that_nobody_holds_are_taken_over(place: Workplace, folder: Path) -> None:
    assert place.run(PROGRAM, folder).returncode == 0
    place.kill()
    [left] = place.places
    assert (left / SOCKET_NAME).exists()
    assert (left / LOCK_NAME).exists()
    done = place.run(PROGRAM.replace("range(100)", "range(100, 200)"), folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(shown(folder)) == 200


def test_a_place_that_is_held_and_silent_bounds_the_close(place: Workplace, folder: Path) -> None:
    """A helper that hangs before it listens: the lock is held, and there is no socket."""
    assert place.run(PROGRAM, folder).returncode == 0
    place.kill()
    [left] = place.places
    (left / SOCKET_NAME).unlink()
    with (left / LOCK_NAME).open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        program = PROGRAM.replace("range(100)", "range(100, 200)").replace("argv[1])", "argv[1], close_seconds=3)")
        done = place.run(program, folder)
        assert done.returncode == 0
        assert float(done.stdout) < 10
        assert "are not complete yet" in done.stderr
    assert place.run(PROGRAM.replace("range(100)", "range(200, 300)"), folder).returncode == 0
    assert len(shown(folder)) == 300


def test_a_socket_that_accepts_nothing_bounds_the_close(place: Workplace, folder: Path) -> None:
    assert place.run(PROGRAM, folder).returncode == 0
    place.kill()
    [left] = place.places
    (left / SOCKET_NAME).unlink()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(left / SOCKET_NAME))
        silent.listen(1)
        program = PROGRAM.replace("range(100)", "range(100, 200)").replace("argv[1])", "argv[1], close_seconds=3)")
        done = place.run(program, folder)
        assert done.returncode == 0
        assert float(done.stdout) < 10
        assert f"tensorboard-sidecar replay {folder}" in done.stderr


def test_helpers_of_two_versions_live_side_by_side(place: Workplace, tmp_path: Path) -> None:
    other_version = "from tensorboard_sidecar.protocol.helper import place as p\np.VERSION = '99.0'\n"
    stays = "print(flush=True)\nsleep(600)\n"
    program = "writer = SummaryWriter(sys.argv[1])\nwriter.add_scalar('loss', 1.0, 1)\nwriter.flush(wait=True)\n"
    with (
        place.start(program + stays, tmp_path / "one") as one,
        place.start(other_version + program + stays, tmp_path / "two") as two,
    ):
        one.stdout.readline()
        two.stdout.readline()
        assert shown(tmp_path / "one") == shown(tmp_path / "two") == [1.0]
        assert len(place.helpers) == len(place.places) == 2


CGROUPS = Path("/sys/fs/cgroup")


@pytest.fixture(params=["real", "simulated"])
def groups(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Return two control groups (version 2), or two names that take their place in the key of a helper."""
    made = [CGROUPS / f"sidecar-test-{os.getpid()}-{number}" for number in range(2)]
    if request.param == "simulated":
        yield [group.name for group in made]
        return
    if not os.access(CGROUPS / "cgroup.procs", os.W_OK):
        pytest.skip("this user may make no control groups of version 2")
    for group in made:
        group.mkdir()
    yield list(map(str, made))
    for group in made:
        for process in (group / "cgroup.procs").read_text().split():
            os.kill(int(process), signal.SIGKILL)
        wait_until(lambda group=group: not (group / "cgroup.procs").read_text(), what="an empty control group")
        group.rmdir()


def test_a_control_group_that_ends_takes_no_other_ones_helper_with_it(
    place: Workplace, tmp_path: Path, groups: list[str]
) -> None:
    """A step of a batch job, or a container."""
    program = """
from tensorboard_sidecar.protocol.helper import place
if sys.argv[2].startswith("/"):
    open(sys.argv[2] + "/cgroup.procs", "w").write(str(os.getpid()))
else:
    place._cgroup = lambda: sys.argv[2].encode()
writer = SummaryWriter(sys.argv[1])
step = 0
while True:
    writer.add_scalar("loss", float(step), step)
    if not step:
        writer.flush(wait=True)
    print(step, flush=True)
    step += 1
    sleep(0.01)
"""
    with place.start(program, tmp_path / "one", groups[0]) as one:
        one.stdout.readline()
        [ending] = place.helpers
        with place.start(program, tmp_path / "two", groups[1]) as two:
            two.stdout.readline()
            assert len(place.helpers) == 2
            one.kill()
            os.kill(ending, signal.SIGKILL)
            wait_until(lambda: ending not in place.helpers, seconds=SECONDS, what="the end of the helper")
            before = len(shown(tmp_path / "two"))
            wait_until(lambda: len(shown(tmp_path / "two")) > before, seconds=SECONDS, what="events")
            assert len(place.helpers) == 1
        last_step = int(["0", *one.stdout.read().rpartition("\n")[0].splitlines()][-1])
    wait_until(lambda: len(shown(tmp_path / "one")) > last_step, seconds=SECONDS, what="the tail of the ended group")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a disk of 4 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", disk], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("this user may mount no disk")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_full_disk_costs_the_training_nothing_and_is_shown_when_there_is_room(
    place: Workplace, small_disk: Path
) -> None:
    program = """
writer = SummaryWriter(sys.argv[1], close_seconds=40)
ballast = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT)
try:
    while os.write(ballast, bytes(2**12)):
        pass
except OSError:
    pass
for step in range(2000):
    writer.add_scalar("loss", float(step), step)
    sleep(0.001)
sleep(2)
os.ftruncate(ballast, 0)
writer.close()
"""
    done = place.run(program, small_disk / "first", small_disk / "ballast")
    assert done.returncode == 0, done.stderr
    assert shown(small_disk / "first") == [float(step) for step in range(2000)], done.stderr
    assert "No space left on device" in done.stderr or "nearly full" in done.stderr
    assert len(done.stderr.splitlines()) <= 3, done.stderr


def test_a_folder_that_is_deleted_meanwhile_ends_nothing_and_stays_deleted(place: Workplace, folder: Path) -> None:
    program = """
import shutil
writer = SummaryWriter(sys.argv[1], close_seconds=3)
writer.add_scalar("loss", 0.0, 0)
writer.flush(wait=True)
shutil.rmtree(sys.argv[1])
for step in range(1, 100):
    writer.add_scalar("loss", float(step), step)
    sleep(0.01)
writer.close()
"""
    done = place.run(program, folder)
    assert done.returncode == 0, done.stderr
    assert "was moved or deleted" in done.stderr
    assert not folder.exists()


def test_a_folder_that_is_moved_meanwhile_keeps_its_recording(place: Workplace, folder: Path, tmp_path: Path) -> None:
    program = """
writer = SummaryWriter(sys.argv[1], close_seconds=3)
writer.add_scalar("loss", 0.0, 0)
writer.flush(wait=True)
os.rename(sys.argv[1], sys.argv[2])
for step in range(1, 100):
    writer.add_scalar("loss", float(step), step)
    sleep(0.01)
writer.close()
"""
    moved = tmp_path / "moved"
    done = place.run(program, folder, moved)
    assert done.returncode == 0, done.stderr
    assert "was moved or deleted" in done.stderr
    assert place.command("replay", moved).returncode == 0
    assert shown(moved) == HUNDRED


def test_a_folder_that_is_moved_after_the_end_goes_on_where_it_lies(
    place: Workplace, folder: Path, tmp_path: Path
) -> None:
    assert place.run(PROGRAM, folder).returncode == 0
    shutil.move(folder, tmp_path / "moved")
    done = place.run(PROGRAM.replace("range(100)", "range(100, 200)"), tmp_path / "moved")
    assert (done.returncode, done.stderr) == (0, "")
    assert shown(tmp_path / "moved") == [float(step) for step in range(200)]
    assert not folder.exists()
    assert len(list((tmp_path / "moved" / RECORDING_NAME).rglob("stream-*"))) == 2


def test_the_processes_of_two_control_groups_may_write_to_one_folder(place: Workplace, folder: Path) -> None:
    """All tasks of a batch job, where the script makes a writer in each of them: either helper may show the folder."""
    group = "from tensorboard_sidecar.protocol.helper import place\nplace._cgroup = lambda: sys.argv[2].encode()\n"
    stays = """
writer = SummaryWriter(sys.argv[1])
writer.add_scalar("first", 1.0, 1)
writer.flush(wait=True)
print(flush=True)
sleep(600)
"""
    with place.start(group + stays, folder, "one") as first:
        first.stdout.readline()
        done = place.run(group + PROGRAM, folder, "two")
        assert (done.returncode, done.stderr) == (0, "")
        assert float(done.stdout) < 25
        assert shown(folder) == HUNDRED
        silent = place.run(group + "SummaryWriter(sys.argv[1]).close()", folder, "two")
        assert (silent.returncode, silent.stderr) == (0, "")
        assert len(place.places) == 2
