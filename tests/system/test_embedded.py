"""``SummaryWriter(log_dir)`` with nothing started: one helper for all, forks, spawns, names, settings, TensorBoard."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from support.machine.waiting import wait_until
from support.records.events import event_files, load_folder, values_by_tag
from support.running.embedded import SECONDS, Workplace, shown, workplace
from support.running.programs import running_logger
from support.running.tensorboard import running_tensorboard

from tensorboard_sidecar.protocol.names import RECORDING_NAME

pytestmark = pytest.mark.system

LOG_A_HUNDRED = """
writer = SummaryWriter(sys.argv[1], **eval(sys.argv[2]) if sys.argv[2:] else {})
for step in range(100):
    writer.add_scalar("loss", float(step), step)
writer.close()
"""
HUNDRED = [float(step) for step in range(100)]


@pytest.fixture(scope="module")
def place() -> Iterator[Workplace]:
    """One place for the module: a helper that is up costs no test its start."""
    with workplace() as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "first"


def run(place: Workplace, program: str, *arguments: str | Path) -> str:
    done = place.run(program, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_two_processes_share_a_helper(place: Workplace, tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    processes = [place.begin(LOG_A_HUNDRED, folder) for folder in folders]
    for process, folder in zip(processes, folders, strict=True):
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, "")
        assert shown(folder) == HUNDRED
        assert {path.name for path in folder.iterdir()} == {
            RECORDING_NAME,
            *(path.name for path in event_files(folder)),
        }
    assert len(place.helpers) == 1


def test_a_writer_that_is_closed_opens_again_and_the_steps_stand(place: Workplace, folder: Path) -> None:
    program = (
        LOG_A_HUNDRED
        + """
for step in range(100, 200):
    writer.add_scalar("loss", float(step), step)
writer.flush()
writer.close()
writer.close()
with writer:
    writer.add_scalar("loss", 200.0, 200)
"""
    )
    assert run(place, program, folder) == ""
    assert shown(folder) == [float(step) for step in range(201)]


def test_two_writers_of_one_process_share_the_folder(place: Workplace, folder: Path) -> None:
    program = """
one, two = SummaryWriter(sys.argv[1]), SummaryWriter(sys.argv[1])
for step in range(50):
    one.add_scalar("loss", float(step), step)
    two.add_scalar("other", float(step), step)
one.close()
print(sorted(path for path in os.listdir(sys.argv[1])))
two.add_scalar("other", 50.0, 50)
two.close()
"""
    assert run(place, program, folder) == ""
    assert len(shown(folder)) == 50
    assert len(shown(folder, "other")) == 51
    assert len(event_files(folder)) == 1


def test_two_processes_on_one_folder_are_both_shown(place: Workplace, folder: Path) -> None:
    """The one that goes on does not keep the other from its end. TensorBoard wants one writer for a folder."""
    program = """
writer = SummaryWriter(sys.argv[1])
step = 0
while True:
    writer.add_scalar("first", float(step), step)
    step += 1
    print(step, flush=True)
    sleep(0.002)
"""
    with place.start(program, folder) as goes_on:
        goes_on.stdout.readline()
        assert run(place, LOG_A_HUNDRED, folder) == ""
        assert shown(folder) == HUNDRED
        goes_on.kill()
        last_step = int(goes_on.stdout.read().rpartition("\n")[0].splitlines()[-1]) - 1
    place_of_late = folder / "attempt-0"
    wait_until(
        lambda: last_step in {*map(int, shown(folder, "first")), *map(int, shown(place_of_late, "first"))},
        seconds=SECONDS,
        what="the tail of the killed program",
    )


def test_a_forked_child_writes_beside_its_parent(place: Workplace, folder: Path) -> None:
    program = """
writer = SummaryWriter(sys.argv[1])
writer.add_scalar("loss", 0.0, 0)
child = os.fork()
if not child:
    writer.add_scalar("child", 1.0, 1)
    writer.close()
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0
print(child)
writer.add_scalar("loss", 1.0, 1)
writer.close()
"""
    done = place.run(program, folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert shown(folder) == [0.0, 1.0]
    assert shown(folder / f"rank-{done.stdout.strip()}", "child") == [1.0]


def test_a_parent_that_is_killed_is_shown_while_its_forked_child_lives(place: Workplace, folder: Path) -> None:
    program = """
writer = SummaryWriter(sys.argv[1])
writer.add_scalar("loss", 0.0, 0)
writer.flush(wait=True)
child = os.fork()
if not child:
    sleep(600)
writer.add_scalar("loss", 1.0, 1)
print(child, flush=True)
sleep(600)
"""
    with place.start(program, folder) as parent:
        child = int(parent.stdout.readline())
        try:
            parent.kill()
            wait_until(lambda: shown(folder) == [0.0, 1.0], seconds=SECONDS, what="the tail")
        finally:
            os.kill(child, 9)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_data_loader_log_through_the_writer_of_the_module(
    place: Workplace, folder: Path, tmp_path: Path, method: str
) -> None:
    program = tmp_path / "program.py"
    program.write_text(f"""
import os, sys
os.environ.update({dict(place.variables)!r})
from torch.utils.data import DataLoader, Dataset
from tensorboard_sidecar import SummaryWriter
writer = SummaryWriter({str(folder)!r})
class Items(Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, index):
        writer.add_scalar("worker", float(index), index)
        return index
if __name__ == "__main__":
    writer.add_scalar("loss", 0.0, 0)
    assert sorted(map(int, DataLoader(Items(), num_workers=2, multiprocessing_context={method!r}))) == [0, 1, 2, 3]
    writer.add_scalar("loss", 1.0, 1)
    writer.close()
""")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert "keeps nothing" not in done.stderr
    assert shown(folder) == [0.0, 1.0]

    def of_workers() -> list[float]:
        return sorted(value for rank in folder.glob("rank-*") for value in shown(rank, "worker"))

    wait_until(lambda: of_workers() == [0.0, 1.0, 2.0, 3.0], seconds=SECONDS, what="the values of the workers")
    assert len(list(folder.glob("rank-*"))) == 2


NAMES = [
    "plain",
    "with space",
    "new\nline",
    "ünïcode-名",
    os.fsdecode(b"bytes-\xff\xfe"),
    "x" * 255,
    "#1 & 50% + more",
    "rank-1",
    "projector",
    ".hidden",
    "~",
    "a=1,b={'c': 2}",
    "events.out.tfevents.1",
    "-flag",
]


def test_folders_of_any_name_are_written(place: Workplace, tmp_path: Path) -> None:
    program = """
import logging
logging.basicConfig(level=logging.INFO)
names = eval(sys.argv[2])
os.chdir(sys.argv[1])
writers = [SummaryWriter(os.path.join(sys.argv[1], name)) for name in names]
writers += [SummaryWriter("./dotted"), SummaryWriter("sub/../up"), SummaryWriter("slash/")]
import pathlib
writers += [SummaryWriter(pathlib.Path("pathlib")), SummaryWriter(b"as-bytes"), SummaryWriter(log_dir="log_dir")]
os.chdir("/")
for writer in writers:
    writer.add_scalar("loss", 1.0, 1)
for writer in writers:
    writer.close()
"""
    errors = run(place, program, tmp_path, repr(NAMES))
    for name in [*NAMES, "dotted", "up", "slash", "pathlib", "as-bytes", "log_dir"]:
        assert shown(tmp_path / name) == [1.0], name
    assert errors == ""


def test_a_link_and_its_target_are_one_folder(place: Workplace, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    program = """
one, two = SummaryWriter(sys.argv[1] + "/link", close_seconds=20), SummaryWriter(sys.argv[1] + "/target")
one.add_scalar("loss", 1.0, 1)
two.add_scalar("other", 1.0, 1)
one.close()
two.close()
"""
    assert run(place, program, tmp_path) == ""
    found = {*values_by_tag(tmp_path / "target"), *values_by_tag(tmp_path / "target" / "attempt-0")}
    assert found - {""} == {"loss", "other"}


def test_a_purged_step_is_the_start_of_a_session(place: Workplace, folder: Path) -> None:
    run(place, LOG_A_HUNDRED, folder)
    run(place, LOG_A_HUNDRED.replace("range(100)", "range(50, 60)"), folder, "{'purge_step': 50}")
    events = load_folder(folder)
    assert [event.step for event in events if event.HasField("session_log")][-1:] == [50]
    assert shown(folder) == HUNDRED + HUNDRED[50:60]


@pytest.mark.parametrize("suffix", [".mine", "_mine", "7", ""])
def test_a_suffix_ends_the_names(place: Workplace, folder: Path, suffix: str) -> None:
    run(place, LOG_A_HUNDRED, folder, repr({"filename_suffix": suffix}))
    run(place, LOG_A_HUNDRED.replace("range(100)", "range(100, 110)"), folder, repr({"filename_suffix": f"{suffix}-b"}))
    first, second = (path.name for path in event_files(folder))
    assert first.endswith(suffix or ".0000")
    assert second.endswith(f"{suffix}-b")
    assert len(shown(folder)) == 110


def test_a_recording_that_is_not_to_be_kept_is_deleted_when_all_is_shown(place: Workplace, folder: Path) -> None:
    run(place, LOG_A_HUNDRED, folder, "{'keep_recording': False}")
    assert shown(folder) == HUNDRED
    assert not (folder / RECORDING_NAME).exists()
    run(place, LOG_A_HUNDRED.replace("range(100)", "range(100, 110)"), folder, "{'keep_recording': False}")
    assert len(shown(folder)) == 110
    run(place, LOG_A_HUNDRED.replace('"loss"', '"kept"'), folder)
    run(place, LOG_A_HUNDRED.replace('"loss"', '"other"'), folder, "{'keep_recording': False}")
    assert len(list((folder / RECORDING_NAME).rglob("stream-*"))) == 1
    assert len(shown(folder, "other")) == 100


def test_nothing_is_written_where_nothing_shall_be(place: Workplace, folder: Path) -> None:
    assert run(place, LOG_A_HUNDRED, folder, "{'write_to_disk': False}") == ""
    assert not folder.exists()


@pytest.mark.parametrize("off", ["off", "OFF", "none"])
def test_without_a_logger_the_recording_alone_is_made(place: Workplace, folder: Path, off: str) -> None:
    program = f"os.environ['TENSORBOARD_SIDECAR_LOGGER'] = {off!r}\n" + LOG_A_HUNDRED
    assert run(place, program, folder) == ""
    assert [path.name for path in folder.iterdir()] == [RECORDING_NAME]
    replayed = place.command("replay", folder)
    assert replayed.returncode == 0, replayed.stderr
    assert shown(folder) == HUNDRED


def test_a_recording_elsewhere_has_no_event_files(place: Workplace, folder: Path, tmp_path: Path) -> None:
    for number, off in enumerate(("", "off")):
        program = f"os.environ['TENSORBOARD_SIDECAR_LOGGER'] = {off!r}\n" + LOG_A_HUNDRED
        assert run(place, program, folder, repr({"record": str(tmp_path / "records")})) == ""
        assert len(list((tmp_path / "records").rglob("stream-*"))) == number + 1
    assert list(folder.iterdir()) == []


def test_a_logger_of_ones_own_makes_the_event_files(place: Workplace, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "logger").mkdir()
    with running_logger(tmp_path / "logger") as logger:
        program = f"os.environ['TENSORBOARD_SIDECAR_LOGGER'] = {logger.endpoint!r}\n" + LOG_A_HUNDRED
        assert run(place, program, folder) == ""
        wait_until(lambda: shown(logger.logdir / "first") == HUNDRED, seconds=SECONDS, what="events")
    assert list(folder.iterdir()) == []


def test_rubbish_on_the_socket_costs_no_program_its_helper(place: Workplace, folder: Path) -> None:
    run(place, LOG_A_HUNDRED, folder)
    [path] = place.sockets
    [helper] = place.helpers
    for rubbish in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 70_000, os.urandom(5000), b"\x06\0\0\0\x81\xa4type"):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(rubbish)
    run(place, LOG_A_HUNDRED.replace("range(100)", "range(100, 110)"), folder)
    assert len(shown(folder)) == 110
    assert place.helpers == [helper]


def test_a_helper_with_pictures_needs_little_memory(place: Workplace, folder: Path) -> None:
    program = """
import torch
with SummaryWriter(sys.argv[1]) as writer:
    for step in range(20):
        writer.add_scalar("loss", 1.0, step)
        writer.add_image("image", torch.rand(3, 256, 256), step)
        writer.add_histogram("weights", torch.randn(10_000), step)
"""
    run(place, program, folder)
    [helper] = place.helpers
    status = Path(f"/proc/{helper}/status").read_text()
    resident_kib = int(status.partition("VmRSS:")[2].split()[0])
    assert resident_kib < 120 * 1024
    said = place.command("status").stdout
    assert f"helper: pid {helper}, " in said


def test_an_idle_helper_ends_and_leaves_no_socket(place: Workplace) -> None:
    place.wait_for_helper()
    place.wait_for_end()
    assert not place.sockets
    assert not place.notes


@pytest.mark.parametrize("loader", ["fast", "slow"])
def test_tensorboard_shows_a_run_while_it_runs(
    place: Workplace, tmp_path: Path, loader: Literal["fast", "slow"]
) -> None:
    program = """
writer = SummaryWriter(sys.argv[1])
step = 0
while True:
    writer.add_scalar("loss", float(step), step)
    print(step, flush=True)
    step += 1
    sleep(0.1)
"""
    (tmp_path / "runs").mkdir()
    with (
        place.start(program, tmp_path / "runs" / "first"),
        running_tensorboard(tmp_path / "runs", tmp_path / "log", loader) as tensorboard,
    ):

        def points() -> int:
            return len(tensorboard.get("plugin/scalars/scalars", run="first", tag="loss"))

        first = tensorboard.wait_for("points", lambda _: points())
        tensorboard.wait_for("more points", lambda _: points() > first + 5)
